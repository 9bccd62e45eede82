"""Requests that no model answers: `count_tokens` and `moderations`. They are bounded and noted like those that one does.

Each counts against the requests per minute of its key and its tenant, in the same buckets as every other request, and waits for a
share of them where machines share bounds; tokens, money and a model's own bounds it does not touch, since no engine generates.
What is noted is an event, not an interaction: who asked what for, how large it was and what came of it, without the text (a text is
judged because it may hold what must not be on a disk). The figures of models and rollouts therefore never see it. The law of
`relay` holds: no answer leaves before its note is in the spool, and while nothing can be noted nothing is answered (507).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import CirandaError, StorageFull
from ciranda.gateway import answers
from ciranda.interactions.spool import EVENT
from ciranda.store import clock

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway
    from ciranda.gateway.server import Connection, Request
    from ciranda.gateway.snapshot import Key

LEFT = 499


class Note(msgspec.Struct):
    """What is kept of such a request; a row of `events`, all of it in its `meta`."""

    id: str
    ts_ms: int
    event: str
    tenant: str
    key: str
    user: str
    model: str
    version: str
    endpoint: str
    request_id: str
    status: int
    error: str
    latency_ms: float
    bytes: int
    found: int


_encode = msgspec.json.Encoder().encode


class Beside:
    """One request, from its key to its note.

    Args:
        event: What the note is called: `tokens_counted` or `texts_judged`.
        key: Who asks.
        go: Begins the work, once bounds allow it. It may raise a CirandaError.
        gone: The client left.
    """

    def __init__(
        self, gateway: Gateway, connection: Connection, request: Request, key: Key, *, event: str,
        go: Callable[[], None], gone: Callable[[], None],
    ) -> None:  # fmt: skip
        self.gateway, self.key = gateway, key
        self.over = False
        self._connection, self._request, self._go, self._gone = connection, request, go, gone
        self._began, self._lines = monotonic(), b""
        user = request.headers.get(b"x-ciranda-user", b"").decode("utf-8", "replace")[:256]
        self.note = Note(
            request.ident, clock.now_ms(), event, key.tenant, key.id, user, "", "", request.path.decode("latin-1"),
            request.request_id.decode("latin-1"), 0, "", 0.0, len(request.body), 0,
        )  # fmt: skip

    def start(self) -> None:
        """Begin, at once or when a share of the bounds is there."""
        self._connection.exchange = self
        try:
            if self.gateway.storage_full():
                raise StorageFull("requests cannot be recorded at present", remedy="free space on the gateway's disk")
            if self.gateway.quotas.count(self, self.gateway.snapshot()):
                self._go()
        except CirandaError as error:
            self.refuse(error)

    def counted(self, lines: bytes) -> None:
        """It is within its bounds; `lines` tell the client how much of them is left."""
        self._lines = lines

    def admitted(self) -> None:
        """A share of the bounds has come. Raises what the work raises."""
        self._go()

    def answer(self, lines: bytes, body: bytes, *, found: int) -> None:
        """Note it, then answer. `found`: tokens counted, or texts in which something was found."""
        if self.over:
            return
        self.note.found = found
        full = self._close(200)
        if full is not None:
            self._connection.fail(full)
        else:
            self._connection.answer(200, answers.JSON + lines + self._lines, body)

    def refuse(self, error: CirandaError) -> None:
        """Note it, if the disk lets us, and answer with the error."""
        if self.over:
            return
        self.note.error = type(error).__name__
        self._close(error.status)
        self.gateway.metrics.refused(error.status)
        self._connection.fail(error, self._lines)

    def _close(self, status: int) -> StorageFull | None:
        self.over = True
        self.note.status = status
        self.note.latency_ms = round((monotonic() - self._began) * 1000, 3)
        if status == StorageFull.status:
            return None  # a note of "cannot note" would fill what was just freed
        if status == 200:
            self.gateway.metrics.counters[self.note.event] += 1
        return self.gateway.try_to_write(EVENT, _encode(self.note))

    # What the client does.

    def client_left(self) -> None:
        if not self.over:
            self.note.error = "client_left"
            self._close(LEFT)
        self._gone()

    def client_slow(self) -> None: ...

    def client_ready(self) -> None: ...
