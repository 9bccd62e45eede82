"""A stream on its way through the gateway, in whole events, so that an error event never lands inside half of one.

Bytes go on as the engine sent them. What ends a stream is held back until its record is written, and the usage chunk is taken out
for a client that did not ask for it. What a stream says about itself is read in `tap`.
"""

from __future__ import annotations

from ciranda.gateway.tap import of_event


class Events:
    """A stream on its way through: whole events go on at once, `[DONE]` and what follows wait for `last`.

    Args:
        hides_usage: Take out the usage chunk, which the client did not ask for.
    """

    __slots__ = ("done", "held", "hides_usage")

    def __init__(self, *, hides_usage: bool) -> None:
        self.hides_usage = hides_usage
        self.held = b""
        self.done = False

    def push(self, payload: bytes) -> bytes:
        """Take what came; what may be shown now."""
        text = self.held + payload if self.held else payload
        if self.done:
            self.held = text
            return b""
        end = whole(text)
        done = done_at(text[:end])
        if done >= 0:
            self.done, end = True, done
        self.held = text[end:]
        return without_usage(text[:end]) if self.hides_usage else text[:end]

    def last(self) -> bytes:
        """What was held back."""
        return without_usage(self.held) if self.hides_usage else self.held

    def complete(self) -> bool:
        """Whether the engine said that it is done, also without the empty line after it."""
        return self.done or done_at(self.held) >= 0


def whole(text: bytes) -> int:
    """Up to where `text` holds complete events (each ended by an empty line)."""
    if text.endswith((b"\n\n", b"\r\n\r\n")):
        return len(text)
    unix, windows = text.rfind(b"\n\n"), text.rfind(b"\r\n\r\n")
    return max(unix + 2 if unix >= 0 else 0, windows + 4 if windows >= 0 else 0)


def done_at(text: bytes) -> int:
    """Where the event `data: [DONE]` begins, or -1. In a JSON string a newline is escaped, so a line start cannot lie."""
    if text.find(b"[DONE]") < 0:
        return -1
    for mark in (b"data: [DONE]", b"data:[DONE]"):
        if text.startswith(mark):
            return 0
        if (at := text.rfind(b"\n" + mark)) >= 0:
            return at + 1
    return -1


def without_usage(text: bytes) -> bytes:
    """Whole events without the one chunk that only carries usage (`choices` empty): the client did not ask for it."""
    if text.find(b'"choices":[]') < 0 and text.find(b'"choices": []') < 0:
        return text
    return b"".join(event for event in _split(text) if not _only_usage(event))


def _split(text: bytes) -> list[bytes]:
    end = b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n"
    return [event + end for event in text.split(end) if event]


def _only_usage(event: bytes) -> bool:
    summary = of_event(event)
    return summary.choices == [] and summary.usage is not None
