"""Reading what an answer says about itself (tokens used, why it ended) without parsing all of it.

A whole answer is decoded into two fields; of a stream only the last events are looked at. Nothing is invented: an engine that
reports no usage leaves zeros. A stream on its way through is `events`.
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
        summary = of_event(event)
        usage = usage or summary.usage
        reason = reason or summary.finish_reason
        if reason and usage:
            break
    return Summary([Choice(reason)] if reason else None, usage)


def of_event(event: bytes) -> Summary:
    """The summary of one event; an empty one when it holds neither usage nor an end."""
    if not event.startswith(b"data:") or (b'"usage"' not in event and b'"finish_reason"' not in event):
        return _NOTHING
    return of_answer(event[5:])


def _events(text: bytes) -> list[bytes]:
    return [event for event in text.replace(b"\r\n", b"\n").split(b"\n\n") if event.strip()]
