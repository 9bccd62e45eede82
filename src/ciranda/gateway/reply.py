"""The client's half of a relay: what is shown of an answer, in the shape of the door it came through.

Where a door translates, whole events are turned as they pass; where none does, bytes go on as they came. It writes no record and
decides nothing: the relay calls `finish` when the record is in the spool. It does not know its relay either, or neither could
be freed before the garbage collector came by: what names the interaction is given with each call (`headers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import CirandaError
from ciranda.gateway import answers, limits
from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.doors.chunks import as_events, usage_event
from ciranda.gateway.events import done_at

if TYPE_CHECKING:
    from ciranda.gateway.doors import Translation
    from ciranda.gateway.doors.chunks import Used
    from ciranda.gateway.server import Connection


Headers = Callable[[], bytes]


class Reply:
    """What one client gets."""

    __slots__ = ("_connection", "_pinged_at", "begun", "translation")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.translation: Translation | None = None
        self.begun = False
        self._pinged_at = 0.0

    # A stream.

    def begin(self, headers: Headers) -> None:
        """Say that events come, once."""
        if not self.begun:
            self.begun = True
            self._connection.begin(200, answers.EVENTS + headers())

    def show(self, events: bytes, headers: Headers) -> None:
        """Pass whole events on. Raises UpstreamFailed for what cannot be translated."""
        if events and self.translation is not None:
            events = self.translation.push(events)
        if events:
            if not self.begun:
                self.begin(headers)
            self._connection.piece(events)

    def ping(self, now: float, headers: Headers) -> None:
        """A sign of life, now and then."""
        if now - self._pinged_at > limits.PING_SECONDS:
            self._pinged_at = now
            self.begin(headers)
            self._connection.piece(self.translation.ping if self.translation is not None else answers.PING)

    def ending(self, events: bytes, counted: Used | None, *, wanted: bool) -> bytes:
        """The last events of the engine, in the client's shape, with our estimate where it was wanted. Raises UpstreamFailed."""
        if self.translation is not None:
            return self.translation.last(events, counted)
        done = done_at(events) if counted is not None and wanted else -1
        return events if done < 0 else events[:done] + usage_event(counted) + events[done:]

    def finish(self, events: bytes, headers: Headers) -> None:
        """The last events, already in the client's shape, and a clean end."""
        self.begin(headers)
        self._connection.finish(events)

    def cut(self, error: CirandaError, headers: Headers) -> None:
        """An error event, then an unclean end."""
        self.begin(headers)
        shown = answers.body_of(error)
        if self.translation is not None:
            self._connection.cut(self.translation.broken(shown, error.status))
        else:
            self._connection.cut(b"data: " + shown + b"\n\n")

    # A whole answer.

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
