"""The client's half of a relay: what is shown of an answer, in the shape of the door it came through.

Where a door translates, whole events are turned as they pass; where none does, bytes go on as they came. It writes no record and
decides nothing: the relay calls `finish` and `whole` when the record is in the spool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import CirandaError
from ciranda.gateway import answers, limits
from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.doors.chunks import as_events, usage_event
from ciranda.gateway.tap import done_at

if TYPE_CHECKING:
    from ciranda.gateway.doors import Translation
    from ciranda.gateway.doors.chunks import Used
    from ciranda.gateway.relay import Relay


class Reply:
    """What one client gets."""

    __slots__ = ("_connection", "_pinged_at", "_relay", "begun", "translation")

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._connection = relay.connection
        self.translation: Translation | None = None
        self.begun = False
        self._pinged_at = 0.0

    # A stream.

    def begin(self) -> None:
        """Say that events come, once."""
        if not self.begun:
            self.begun = True
            self._connection.begin(200, answers.EVENTS + self._relay.headers())

    def show(self, events: bytes) -> None:
        """Pass whole events on; what cannot be translated breaks the answer off."""
        if events and self.translation is not None:
            try:
                events = self.translation.push(events)
            except UpstreamFailed as error:
                self._relay.break_off(error)
                return
        if events:
            self.begin()
            self._connection.piece(events)

    def ping(self, now: float) -> None:
        """A sign of life, now and then."""
        if now - self._pinged_at > limits.PING_SECONDS:
            self._pinged_at = now
            self.begin()
            self._connection.piece(self.translation.ping if self.translation is not None else answers.PING)

    def ending(self, events: bytes, counted: Used | None, *, wanted: bool) -> bytes:
        """The last events of the engine, in the client's shape, with our estimate where it was wanted. Raises UpstreamFailed."""
        if self.translation is not None:
            return self.translation.last(events, counted)
        done = done_at(events) if counted is not None and wanted else -1
        return events if done < 0 else events[:done] + usage_event(counted) + events[done:]

    def finish(self, events: bytes) -> None:
        """The last events, already in the client's shape, and a clean end."""
        self.begin()
        self._connection.finish(events)

    def cut(self, error: CirandaError) -> None:
        """An error event, then an unclean end."""
        self.begin()
        shown = answers.body_of(error)
        if self.translation is not None:
            self._connection.cut(self.translation.broken(shown, error.status))
        else:
            self._connection.cut(b"data: " + shown + b"\n\n")

    # A whole answer.

    def whole(self, status: int, lines: bytes, shown: bytes) -> None:
        """A whole answer, already in the client's shape."""
        self._connection.answer(status, lines + self._relay.headers(), shown)

    def fail(self, status: int, lines: bytes, shown: bytes) -> None:
        """An error as the whole answer; `shown` is in OpenAI's shape."""
        self.whole(status, lines, answers.spoken(self._relay.request, shown, status))

    def streamed(self, body: bytes, counted: Used | None, *, wanted: bool) -> bytes:
        """A whole answer as a stream: of an engine that does not stream, or of one that was checked. Raises UpstreamFailed."""
        try:
            events = as_events(body, usage=counted is None and (wanted or self.translation is not None))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise UpstreamFailed("the engine's answer is no JSON object", remedy="send the request again") from error
        return self.ending(events, counted, wanted=wanted)

    def told(self, body: bytes, counted: Used | None) -> bytes:
        """A whole answer of an engine in the client's shape. Raises UpstreamFailed."""
        return body if self.translation is None else self.translation.whole(body, counted)
