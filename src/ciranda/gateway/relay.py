"""One request on its way: key, model, arm, replica, answer, record. The hot path, all callbacks.

The law of this file: **no answer ends before its record is in the spool.** A whole answer is written there first; of a stream
everything is passed on at once, byte by byte as the engine sent it, but `[DONE]` and the end are held back until the record is
written. What cannot be recorded is not answered (507, or an error event in a stream).

An engine that fails is replaced by another one only while nothing has reached the client; after that an error event and an
unclean end tell the truth. When nobody else is there, the request waits a few seconds for new routing: the dead are replaced.
A client that leaves cancels its engine at once, and what it saw is recorded under status 499. Streams go on in whole events,
so an error event never lands inside half of one.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ciranda.errors import CirandaError, LimitReached, StorageFull, Unavailable
from ciranda.gateway import answers, limits, route, splice, tap
from ciranda.gateway.answers import UpstreamFailed, UpstreamSlow
from ciranda.gateway.guarded import Guarded
from ciranda.gateway.record import Event, Record, encode
from ciranda.gateway.server import Connection, Request
from ciranda.gateway.snapshot import Arm, Key
from ciranda.gateway.upstream import Replica, Upstream
from ciranda.interactions.spool import EVENT, INTERACTION, STARTED
from ciranda.store import clock, ids

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway

RETRIED = frozenset({429, 502, 503, 504})  # answers of an engine that another replica may better
HIDDEN = frozenset({401, 403, 404, 405})  # about the gateway's own request, none of the client's business
LEFT = 499
PING = b": ping\n\n"


class Relay:
    """One request and its answer."""

    # Defaults live on the class: most requests never change them, and making a request is on the hot path.
    arm: Arm | None = None
    replica: Replica | None = None
    streams = over = False
    _begun = _paused = _pinned = _told = False
    _call: Upstream | None = None
    _guard: Guarded | None = None
    _held: CirandaError | None = None  # what to say when the wait for new routing was in vain
    _held_at = _sent_at = _heard_at = _pinged_at = _waited = 0.0
    _status = _size = 0

    def __init__(self, gateway: Gateway, connection: Connection, request: Request, key: Key) -> None:
        self.gateway = gateway
        self.connection = connection
        self.request = request
        self.key = key
        self.body = request.body  # what is recorded: as the client sent it, but for what the guard masked
        self.outgoing = request.body  # what an engine gets, but for the model's name
        self.record = Record(request.ident, clock.now_ms(), tenant=key.tenant, key=key.id)
        self._tried: list[Replica] = []
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._events: tap.Events

    def start(self) -> None:
        """Read, check, route and send. Raises a CirandaError for what is refused before it counts as an interaction."""
        snapshot = self.gateway.snapshot()
        self.seen = splice.peek(self.body)
        self.model, pinned = route.find(snapshot, self.key, self.seen.model)
        self.arm, self._pinned = pinned, pinned is not None
        self.record.model = self.model.name
        self.record.rollout = (
            "" if self._pinned else self.model.rollout
        )  # who chose the version is no evidence in its trial
        self.record.describe(self.request, self.seen)
        self.gateway.enter(self)
        self.connection.exchange = self
        try:
            self._admit()
            if self.model.guard.input or self.model.guard.output:
                self._guard = Guarded(self)
                self._guard.start()
            else:
                self.send()
        except CirandaError as error:
            self.refuse(error)

    def _admit(self) -> None:
        if self.gateway.storage_full():
            raise StorageFull("interactions cannot be recorded at present", remedy="free space on the gateway's disk")
        if self.gateway.running[self.model.name] > self.model.limits.max_in_flight:
            raise LimitReached(
                f"{self.model.name} has {self.model.limits.max_in_flight} requests in flight, its limit",
                remedy="send fewer at once, or raise serve.max_in_flight in the model's file",
            )

    def send(self) -> None:
        """Choose a version and send the request to one of its replicas, or wait for one. Raises StorageFull."""
        self.streams = bool(self.record.stream) and not (self._guard and self._guard.whole)
        try:
            self._dispatch(self.arm or self._choose())
        except Unavailable as error:
            self._hold(error, since=self.gateway.snapshots.taken_at)

    def _choose(self) -> Arm:
        record = self.record
        return route.choose(self.model, route.point(record.rollout, record.user or record.conversation))

    def _dispatch(self, arm: Arm, *, fresh: bool = False) -> None:
        now = monotonic()
        replica = self.replica if fresh else route.pick(arm.replicas, now, self._tried)
        if replica is None:
            raise Unavailable(f"{arm.version} has no replica that is ready", remedy="try again in a moment")
        record = self.record
        self.arm, self.replica = arm, replica
        record.version, record.digest, record.arm = arm.version, arm.digest, arm.name
        record.deployment, record.engine, record.replica = arm.deployment, arm.engine, replica.id
        usage = self.streams and not self.seen.wants_usage  # asked for by us, so hidden from the client
        body = splice.rewrite(self.outgoing, self.seen, replica.wire, usage=usage)
        self._status, self._pieces, self._size = 0, [], 0
        self._events = tap.Events(hides_usage=usage)
        self._sent_at = self._heard_at = now
        self._call = replica.send(self, record.endpoint, body, self.request.request_id, fresh=fresh)
        if record.stream and not self._told:
            self._told = True
            self.gateway.write(STARTED, encode(record))

    # What the engine says.

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._heard_at = monotonic()
        if status in RETRIED and self._another() and self.gateway.may_retry():
            if self.replica is not None:
                self.replica.failed(decisive=False)
            self._give_up(f"answered {status}")
            self._retry(self._arm)
            return
        self._status, self._headers = status, headers
        events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        self.streams = self.streams and status == 200 and events

    def upstream_data(self, payload: bytes) -> None:
        self._heard_at = monotonic()
        if not self._size:
            self.record.first_byte_ms = self._since_start()
        self._size += len(payload)
        self._pieces.append(payload)
        if self.streams:
            self._show(self._events.push(payload))
        if self._size > limits.ANSWER_BYTES or len(self._events.held) > limits.EVENT_BYTES:
            self.break_off(UpstreamFailed("the engine's answer is too large", remedy="lower max_tokens"))

    def upstream_end(self) -> None:
        self._wait_over()
        if self.streams:
            self._end_stream()
        elif self._status >= 400:
            self._pass_error()
        elif self._guard is not None:
            self._guard.answer(b"".join(self._pieces))
        else:
            self.answer(b"".join(self._pieces))

    def upstream_failed(self, call: Upstream, reason: str) -> None:
        self._wait_over()
        if self._begun:
            if self._events.done:
                self._end_stream()  # all of the answer was there, only the last chunk's mark was not
            else:
                self.break_off(UpstreamFailed(f"the engine broke off: {reason}", remedy="send the request again"))
        else:
            self._try_again(call, reason)

    # Another try.

    @property
    def _arm(self) -> Arm:
        assert self.arm is not None
        return self.arm

    def _another(self) -> bool:
        """Whether the arm has a replica that was not tried."""
        left = self.record.retry_count + 1 < limits.TRIES
        return left and any(one is not self.replica and one not in self._tried for one in self._arm.replicas)

    def _try_again(self, call: Upstream, reason: str) -> None:
        """The engine died before a byte of its answer reached the client: nobody but the records needs to know."""
        if not call.stale:
            self._give_up(reason)
        try:
            if self.record.retry_count + 1 >= limits.TRIES or not self.gateway.may_retry():
                raise UpstreamFailed(f"{self._arm.version} failed: {reason}", remedy="send the request again")
            self._retry(self._arm if call.stale else self._next_arm(reason), fresh=call.stale)
        except UpstreamFailed as error:
            self._hold(error, since=self.replica.failed_at if self.replica else 0.0)
        except CirandaError as error:
            self.refuse(error)

    def _next_arm(self, reason: str) -> Arm:
        """The same version while it has another replica; else, unless pinned, any that has: a dead process is no verdict."""
        for candidate in (self._arm, *(() if self._pinned else self.model.arms)):
            if any(replica not in self._tried for replica in candidate.replicas):
                return candidate
        raise UpstreamFailed(f"{self._arm.version} failed: {reason}", remedy="send the request again in a moment")

    def _retry(self, arm: Arm, *, fresh: bool = False) -> None:
        self.record.retry_count += 1
        self.gateway.metrics.counters["retries"] += 1
        self._dispatch(arm, fresh=fresh)

    def _hold(self, error: CirandaError, *, since: float) -> None:
        """Wait for new routing while what is missing is missing only since a moment; else say so at once."""
        now = monotonic()
        self._held_at = self._held_at or now
        if self.record.retry_count + 1 >= limits.TRIES or now - min(since, self._held_at) > limits.HOLD_SECONDS:
            self.refuse(error)
        else:
            self._held = error

    def rerouted(self) -> None:
        """New routing is in force: a request that waits for it tries again, if somebody new is there."""
        if self._held is None or self.over:
            return
        try:
            self.model, pinned = route.find(self.gateway.snapshot(), self.key, self.seen.model)
            self.arm = pinned or self._choose()
            arm = self._next_arm("gone")
            self._held = None
            self._waited += monotonic() - self._held_at
            if self._sent_at:
                self._retry(arm)
            else:
                self._dispatch(arm)
        except (Unavailable, UpstreamFailed) as error:
            self._held = error
        except CirandaError as error:
            self.refuse(error)

    def _give_up(self, reason: str) -> None:
        """Close this try, and leave a note of it: a version whose processes die must not look healthy."""
        self._drop_call()
        record = self.record
        if self.replica is not None:
            self._tried.append(self.replica)
        note = Event(
            str(ids.uuid7()), clock.now_ms(), "try_failed", record.id, record.model, record.version, record.arm,
            record.rollout, record.deployment, record.replica, reason,
        )  # fmt: skip
        self.gateway.write_if_possible(EVENT, encode(note))

    # A stream.

    def _show(self, events: bytes) -> None:
        if events:
            self._begin()
            self.connection.piece(events)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.connection.begin(200, answers.EVENTS + self.headers())

    def _end_stream(self) -> None:
        text = b"".join(self._pieces)
        summary = tap.of_stream(text)
        self.record.sum_up(summary)
        if not (self._events.complete() or summary.finish_reason):
            self.break_off(UpstreamFailed("the engine's stream ended early", remedy="send the request again"))
            return
        full = self._close(200, text)
        self._begin()
        if full is not None:
            self.connection.cut(answers.event_of(full))
            return
        self.connection.finish(self._events.last())
        self._copy()

    # A whole answer.

    def answer(self, body: bytes, *, shown: bytes = b"", kind: bytes = b"") -> None:
        """Record and send a whole answer; `shown` is what the client gets where that differs (an answer as events)."""
        if self.over:
            return
        self.record.sum_up(tap.of_answer(body))
        kind = kind or b"content-type: %b\r\n" % self._headers.get(b"content-type", b"application/json")
        self._send_recorded(body, shown or body, kind)
        self._copy()

    def _copy(self) -> None:
        if self._status == 200 and not self._pinned:
            self.gateway.shadows.offer(self)

    def _pass_error(self) -> None:
        """The engine's own error, in the shape that clients know."""
        body = b"".join(self._pieces)
        if self._status in HIDDEN:
            reason = f"the engine of {self.record.version} refused the gateway ({self._status})"
            self.refuse(UpstreamFailed(reason, remedy="an operator must check the engine and its key"))
            return
        self.record.error = answers.kind_of(self._status)
        after = [
            b"%b: %b\r\n" % (name, self._headers[name])
            for name in (b"retry-after", b"retry-after-ms")
            if name in self._headers
        ]
        self._send_recorded(body, answers.normal(body, self._status), answers.JSON + b"".join(after))

    def _send_recorded(self, body: bytes, shown: bytes, lines: bytes) -> None:
        full = self._close(self._status, body)
        if full is None:
            self.connection.answer(self._status, lines + self.headers(), shown)
        else:
            self.connection.fail(full, self.headers())

    def refuse(self, error: CirandaError) -> None:
        """Answer with an error of our own; recorded if the disk lets us, and sent either way.

        What never reached an engine is recorded without its body: a client that hammers at a bound must not fill the disk.
        """
        if self.over:
            return
        self._drop_call()
        self.record.error = type(error).__name__
        shown = answers.body_of(error)
        self._close(error.status, shown)
        self.connection.answer(error.status, answers.headers_of(error) + self.headers(), shown)

    def break_off(self, error: CirandaError) -> None:
        """End an answer that has begun: an error event, then an unclean end."""
        if not self._begun:
            self.refuse(error)
        elif not self.over:
            self._drop_call()
            self.record.error = type(error).__name__
            self._close(error.status, b"".join(self._pieces))
            self.connection.cut(answers.event_of(error))

    # What the client does.

    def client_left(self) -> None:
        if self.over:
            return
        self._drop_call()
        self.record.error = "client_left"
        self._close(LEFT, b"".join(self._pieces))

    def client_slow(self) -> None:
        self._paused = True
        if self._call is not None:
            self._call.pause()

    def client_ready(self) -> None:
        self._paused = False
        self._heard_at = monotonic()
        if self._call is not None:
            self._call.resume()

    # Time.

    def tick(self, now: float) -> None:
        """Called a few times a second: deadlines, and signs of life for a client that waits for its first event."""
        if self.over:
            return
        started, bound = self.request.received_at, self.model.limits.timeout_s
        silent = now - self._heard_at if self._call is not None and not self._paused else 0.0
        if self._held is not None and now - self._held_at > limits.HOLD_SECONDS:
            self.refuse(self._held)
        elif now - started > min(bound, limits.TOTAL_SECONDS):
            self.break_off(UpstreamSlow(f"no whole answer within {bound:g} s", remedy="ask for less, or stream"))
        elif silent > (limits.BETWEEN_SECONDS if self._size else limits.FIRST_BYTE_SECONDS):
            self.break_off(UpstreamSlow(f"the engine was silent for {silent:.0f} s", remedy="send the request again"))
        elif self.streams and self._status == 200 and silent > limits.PING_SECONDS and not self._events.done:
            self._ping(now)

    def _ping(self, now: float) -> None:
        if now - self._pinged_at > limits.PING_SECONDS:
            self._pinged_at = now
            self._begin()
            self.connection.piece(PING)

    def _since_start(self) -> float:
        return round((monotonic() - self.request.received_at) * 1000, 3)

    def _wait_over(self) -> None:
        self._waited += monotonic() - self._sent_at
        self._call = None

    # The record.

    def headers(self) -> bytes:
        """The header lines that name this interaction."""
        names = f"x-ciranda-interaction: {self.record.id}\r\n"
        if self.record.version:
            names += f"x-ciranda-version: {self.record.version}\r\n"
        return names.encode()

    def _close(self, status: int, response: bytes) -> StorageFull | None:
        """Write the record and be done. What comes back is why it could not be written: then the answer must not end well."""
        self.over = True
        record = self.record
        record.status = status
        record.latency_ms = self._since_start()
        record.overhead_ms = max(0.0, round(record.latency_ms - self._waited * 1000, 3))
        full = None
        try:
            if status != StorageFull.status:  # a record of "cannot record" would fill what was just freed
                self.gateway.write(INTERACTION, encode(record), self.body if self._sent_at else b"", response)
        except StorageFull as error:
            full, record.status = error, error.status
        self.gateway.leave(self)
        return full

    def _drop_call(self) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            self._waited += monotonic() - self._sent_at
            call.cancel()
