"""Reading what an answer says about itself (tokens used, why it ended) without parsing all of it.

A whole answer is decoded into two fields; of a stream only the last events are looked at. Nothing is invented: an engine that
reports no usage leaves zeros. Streams are handled in whole events, so that an error event never lands inside half of one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

_TAIL_BYTES = 64 << 10
_TAIL_EVENTS = 6


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as an engine counted them."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None
    completion_tokens: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One choice, by its end."""

    finish_reason: str | None = None


class Summary(msgspec.Struct, frozen=True):
    """What is kept of an answer or of one event."""

    choices: list[Choice] | None = None
    usage: Usage | None = None

    @property
    def finish_reason(self) -> str:
        """Why the first choice ended; empty while it has not."""
        return (self.choices[0].finish_reason or "") if self.choices else ""


_summary = msgspec.json.Decoder(Summary)
_NOTHING = Summary()


def of_answer(body: bytes) -> Summary:
    """The summary of a whole JSON answer; an odd body gives an empty one."""
    try:
        return _summary.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _NOTHING


def of_stream(text: bytes) -> Summary:
    """The summary of a stream, from its last events."""
    reason, usage = "", None
    for event in reversed(_events(text[-_TAIL_BYTES:])[-_TAIL_EVENTS:]):
        summary = _of_event(event)
        usage = usage or summary.usage
        reason = reason or summary.finish_reason
        if reason and usage:
            break
    return Summary([Choice(reason)] if reason else None, usage)


def _of_event(event: bytes) -> Summary:
    if not event.startswith(b"data:") or (b'"usage"' not in event and b'"finish_reason"' not in event):
        return _NOTHING
    return of_answer(event[5:])


def _events(text: bytes) -> list[bytes]:
    return [event for event in text.replace(b"\r\n", b"\n").split(b"\n\n") if event.strip()]


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
    if b"[DONE]" not in text:
        return -1
    for mark in (b"data: [DONE]", b"data:[DONE]"):
        if text.startswith(mark):
            return 0
        if (at := text.rfind(b"\n" + mark)) >= 0:
            return at + 1
    return -1


def without_usage(text: bytes) -> bytes:
    """Whole events without the one chunk that only carries usage (`choices` empty): the client did not ask for it."""
    if b'"choices":[]' not in text and b'"choices": []' not in text:
        return text
    return b"".join(event for event in _split(text) if not _only_usage(event))


def _split(text: bytes) -> list[bytes]:
    end = b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n"
    return [event + end for event in text.split(end) if event]


def _only_usage(event: bytes) -> bool:
    summary = _of_event(event)
    return summary.choices == [] and summary.usage is not None
