"""One request on its way: key, model, arm, replica, answer, record. The hot path, all callbacks.

The law of this file: **no answer ends before its record is in the spool.** A whole answer is written there first; of a stream
everything is passed on at once, byte by byte as the engine sent it, but `[DONE]` and the end are held back until the record is
written. What cannot be recorded is not answered (507, or an error event in a stream).

An engine that fails is replaced by another one only while nothing has reached the client; after that an error event and an
unclean end tell the truth. When nobody else is there, the request waits a few seconds for new routing: the dead are replaced.
A client that leaves cancels its engine at once, and what it saw is recorded under status 499. Streams go on in whole events,
so an error event never lands inside half of one. Who else may answer is decided in `tries`, who may ask in `quotas`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ciranda.errors import CirandaError, StorageFull, Unavailable
from ciranda.gateway import answers, limits, route, splice, trace, tries
from ciranda.gateway.answers import UpstreamFailed, UpstreamSlow
from ciranda.gateway.asked import peek
from ciranda.gateway.doors import DOORS, Door
from ciranda.gateway.events import Events, without_usage
from ciranda.gateway.guarded import Guarded
from ciranda.gateway.noting import Notes
from ciranda.gateway.reply import Reply
from ciranda.gateway.server import Connection, Request
from ciranda.gateway.snapshot import FALLBACK, Arm, Key
from ciranda.gateway.tap import of_answer, of_stream
from ciranda.gateway.upstream import Replica, Upstream
from ciranda.interactions.spool import INTERACTION, STARTED
from ciranda.store import clock

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway
    from ciranda.gateway.cache import Kept
    from ciranda.gateway.journal import Entry
    from ciranda.gateway.quotas import Promise

LEFT = 499
CHAT = DOORS[b"/v1/chat/completions"]


class Relay:
    """One request and its answer."""

    # Defaults live on the class: most requests never change them, and making a request is on the hot path.
    arm: Arm | None = None
    replica: Replica | None = None
    streams: bool = False
    over: bool = False
    pinned: bool = False
    _paused: bool = False
    _call: Upstream | None = None
    _guard: Guarded | None = None
    cache_key: bytes = b""  # under which its answer will be kept
    promise: Promise | None = None  # what it holds of its bounds of use
    held: CirandaError | None = None  # what to say when the wait for new routing was in vain
    held_at: float = 0.0  # at first
    waits_since: float = 0.0  # held last
    sent_at: float = 0.0
    heard_at: float = 0.0
    waited: float = 0.0
    _status: int = 0
    _size: int = 0

    def __init__(self, gateway: Gateway, connection: Connection, request: Request, key: Key) -> None:
        self.gateway = gateway
        self.connection = connection
        self.request = request
        self.key = key
        self.door: Door = CHAT
        # What is recorded: the chat form, as the client sent it, but for what the guard masked.
        self.body = request.body
        self.outgoing = request.body  # what an engine gets, but for the model's name
        self.record = Notes(request.ident, clock.now_ms(), key.tenant, key.id)
        self.tried: list[Replica] = []
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._events: Events
        self._reply = Reply(connection)

    def start(self) -> None:
        """Read, check, route and send. Raises a CirandaError for what is refused before it counts as an interaction."""
        snapshot = self.gateway.snapshot()
        self.door = DOORS[self.request.path]
        if self.door.chat is not None:
            self.body = self.outgoing = self.door.chat(self.request.body)
        self.seen = peek(self.body)
        self.model, pinned = route.find(snapshot, self.key, self.seen.model)
        self.arm, self.pinned = pinned, pinned is not None
        self.record.model = self.model.name
        if not self.pinned:  # who chose the version is no evidence in its trial
            self.record.rollout = self.model.rollout
        self.record.describe(self.request, self.seen)
        if self.door.opened is not None:
            self._reply.translation = self.door.opened(self.request.body, self.record.id)
        self.gateway.enter(self)
        self.connection.exchange = self
        try:
            self.gateway.admit(self.model)
            if not snapshot.bounded or self.gateway.quotas.admit(self, snapshot):
                self.admitted()
        except CirandaError as error:
            self.refuse(error)

    def admitted(self) -> None:
        """What the request needs is promised to it now. Raises a CirandaError, for who calls to refuse it with."""
        if self.model.guard.input or self.model.guard.output:
            self._guard = Guarded(self)
            self._guard.start()
        else:
            self.send()

    def send(self) -> None:
        """Choose a version and send the request to one of its replicas, or wait for one. Raises StorageFull."""
        self.streams = bool(self.record.stream) and not (self._guard and self._guard.whole)
        try:
            arm = tries.first(self)
            kept = self.gateway.cache.find(self, arm) if self.model.cache is not None else None
            if kept is not None:
                self._replay(kept, arm)
            else:
                self.dispatch(arm)
        except Unavailable as error:
            tries.hold(self, error, since=self.gateway.snapshots.taken_at)

    def dispatch(self, arm: Arm, *, fresh: bool = False) -> None:
        now = monotonic()
        replica = self.replica if fresh else route.pick(arm.replicas, now, self.tried)
        if replica is None:
            raise Unavailable(f"{arm.version} has no replica that is ready", remedy="try again in a moment")
        record, told = self.record, self.sent_at > 0
        self.arm, self.replica = arm, replica
        record.name(arm, replica.id)
        if arm.name == FALLBACK:
            record.rollout = ""  # who stands in is no evidence in the trial
        usage = self.streams and not self.seen.wants_usage  # asked for by us, so hidden from the client
        body = splice.rewrite(self.outgoing, self.seen, replica.wire, usage=usage)
        self._status, self._pieces, self._size = 0, [], 0
        self._events = Events(hides_usage=usage)
        self.sent_at = self.heard_at = now
        lines = trace.lines(self.request.headers, record) if record.trace_id else b""
        self._call = replica.send(self, self.door.wire, body, self.request.request_id, lines=lines, fresh=fresh)
        if record.stream and not told:
            self.gateway.write(STARTED, record.encoded())

    # What the engine says.

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.heard_at = monotonic()
        if status >= 400 and tries.better(self, status):
            return
        self._status, self._headers = status, headers
        events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        self.streams = self.streams and status == 200 and events

    def upstream_data(self, payload: bytes) -> None:
        self.heard_at = monotonic()
        if not self._size:
            self.record.first_byte_ms = self._since_start()
        self._size += len(payload)
        self._pieces.append(payload)
        if self.streams:
            self._show(self._events.push(payload))
        if not self.over and (self._size > limits.ANSWER_BYTES or len(self._events.held) > limits.EVENT_BYTES):
            self.break_off(UpstreamFailed("the engine's answer is too large", remedy="lower max_tokens"))

    def _show(self, events: bytes) -> None:
        try:
            self._reply.show(events, self.headers)
        except UpstreamFailed as error:
            self.break_off(error)

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
        if self._reply.begun:
            if self._events.done:
                self._end_stream()  # all of the answer was there, only the last chunk's mark was not
            else:
                self.break_off(UpstreamFailed(f"the engine broke off: {reason}", remedy="send the request again"))
        else:
            tries.again(self, call, reason)

    def rerouted(self) -> None:
        """New routing is in force: a request that waits for it tries again, if somebody new is there."""
        if self.held is not None and not self.over:
            tries.rerouted(self)

    # A stream.

    def _end_stream(self) -> None:
        text = b"".join(self._pieces)
        summary = of_stream(text)
        counted = self.record.sum_up(summary, self.body, text)
        if not (self._events.complete() or summary.finish_reason):
            self.break_off(UpstreamFailed("the engine's stream ended early", remedy="send the request again"))
            return
        try:
            last = self._reply.ending(self._events.last(), counted, wanted=self.seen.wants_usage)
        except UpstreamFailed as error:
            self.break_off(error)
            return
        full = self._close(200, text)
        if full is not None:
            self._reply.cut(full, self.headers)
            return
        self._reply.finish(last, self.headers)
        self._copy()
        if self.cache_key:
            shown = without_usage(text) if self._events.hides_usage else text
            self.gateway.cache.keep(self, text, shown, answers.EVENTS, streamed=True)

    # A whole answer.

    def answer(self, body: bytes) -> None:
        """Record and send a whole answer; who asked for a stream gets it as events."""
        if self.over:
            return
        counted = self.record.sum_up(of_answer(body), self.body, body)
        kind = b"content-type: %b\r\n" % self._headers.get(b"content-type", b"application/json")
        try:
            if self.record.stream:
                shown, kind = self._reply.streamed(body, counted, wanted=self.seen.wants_usage), answers.EVENTS
            else:
                shown = self._reply.told(body, counted)
        except UpstreamFailed as error:
            self.refuse(error)
            return
        self._send_recorded(body, shown, kind)
        self._copy()
        if self.cache_key:
            self.gateway.cache.keep(self, body, shown or body, kind, streamed=False)

    def _replay(self, kept: Kept, arm: Arm) -> None:
        """Answer with what is kept."""
        record = self.record
        self.arm, record.cached = arm, 1
        record.name(arm, "")
        record.rollout = ""  # nobody answered anew: no evidence in the trial
        record.finish_reason = kept.finish_reason
        record.prompt_tokens, record.completion_tokens = kept.prompt_tokens, kept.completion_tokens
        full, lines = self._close(200, kept.body), kept.kind + self.headers() + b"x-ciranda-cache: hit\r\n"
        if full is not None:
            self.connection.fail(full, self.headers())
        elif kept.streamed:
            self.connection.begin(200, lines)
            self.connection.finish(kept.shown)
        else:
            self.connection.answer(200, lines, kept.shown)

    def _copy(self) -> None:
        if self._status == 200 and not self.pinned and self.record.arm != FALLBACK:
            self.gateway.shadows.offer(self)

    def _pass_error(self) -> None:
        """The engine's own error, in the shape that clients know."""
        body = b"".join(self._pieces)
        if self._status in tries.HIDDEN:
            reason = f"the engine of {self.record.version} refused the gateway ({self._status})"
            self.refuse(UpstreamFailed(reason, remedy="an operator must check the engine and its key"))
            return
        self.record.error = answers.kind_of(self._status)
        shown = answers.spoken(self.request, answers.normal(body, self._status), self._status)
        self._send_recorded(body, shown, answers.JSON + answers.passed_on(self._headers))

    def _send_recorded(self, body: bytes, shown: bytes, lines: bytes) -> None:
        """Record and send a whole answer at the end of this turn, with the others that are ready."""
        self.over = True
        self.record.status = self._status
        self.gateway.journal.add(self, self._status, body, lines + self.headers(), shown)

    def seal(self, status: int) -> bytes:
        """The record of a whole answer that is about to be written; the `journal` calls."""
        if self.connection.exchange is not self:
            self.record.error, status = "client_left", LEFT
        self._sum_up(status)
        return self.record.encoded()

    def settle(self, entry: Entry, full: CirandaError | None) -> None:
        """The record is written, so send the answer; or it could not be, so refuse."""
        self._leave(full)
        if self.connection.exchange is not self:
            return
        if full is None:
            self.connection.answer(entry.status, entry.lines, entry.shown)
        else:
            self.connection.fail(full, self.headers())

    def refuse(self, error: CirandaError) -> None:
        """Answer with an error of our own, recorded if the disk lets us; without the body of what never reached an engine."""
        if self.over:
            return
        self.drop_call()
        self.record.error = type(error).__name__
        shown = answers.body_of(error)
        self._close(error.status, shown)
        lines = answers.headers_of(error) + self.headers()
        self.connection.answer(error.status, lines, answers.spoken(self.request, shown, error.status))

    def break_off(self, error: CirandaError) -> None:
        """End an answer that has begun: an error event, then an unclean end."""
        if not self._reply.begun:
            self.refuse(error)
        elif not self.over:
            self.drop_call()
            self.record.error = type(error).__name__
            self._close(error.status, self._partly())
            self._reply.cut(error, self.headers)

    # What the client does.

    def client_left(self) -> None:
        if self.over:
            return
        self.drop_call()
        self.record.error = "client_left"
        self._close(LEFT, self._partly())

    def _partly(self) -> bytes:
        """What there is of an answer; its tokens were made, so they count."""
        text = b"".join(self._pieces)
        if self._status == 200 and text:
            self.record.sum_up(of_stream(text), self.body, text)
        return text

    def client_slow(self) -> None:
        self._paused = True
        if self._call is not None:
            self._call.pause()

    def client_ready(self) -> None:
        self._paused = False
        self.heard_at = monotonic()
        if self._call is not None:
            self._call.resume()

    # Time.

    def tick(self, now: float) -> None:
        """Called a few times a second: deadlines, and signs of life for a client that waits for its first event."""
        if self.over:
            return
        started, bound = self.request.received_at, self.model.limits.timeout_s
        silent = now - self.heard_at if self._call is not None and not self._paused else 0.0
        if self.held is not None and now - self.held_at > limits.HOLD_SECONDS:
            self.refuse(self.held)
        elif now - started > min(bound, limits.TOTAL_SECONDS):
            self.break_off(UpstreamSlow(f"no whole answer within {bound:g} s", remedy="ask for less, or stream"))
        elif self.model.limits.try_timeout_s and not (self._reply.begun or self._size) and tries.slow(self, silent):
            return
        elif silent > (limits.BETWEEN_SECONDS if self._size else limits.FIRST_BYTE_SECONDS):
            self.break_off(UpstreamSlow(f"the engine was silent for {silent:.0f} s", remedy="send the request again"))
        elif self.streams and self._status == 200 and silent > limits.PING_SECONDS and not self._events.done:
            self._reply.ping(now, self.headers)

    def _since_start(self) -> float:
        return int((monotonic() - self.request.received_at) * 1e6) / 1000  # `round` takes ten times as long

    def _wait_over(self) -> None:
        call, self._call = self._call, None
        self.waited += monotonic() - (call.sent_at if call is not None and call.sent_at else self.sent_at)

    # The record.

    def headers(self) -> bytes:
        """The header lines that name this interaction."""
        names = f"x-ciranda-interaction: {self.record.id}\r\n"
        if self.record.version:
            names += f"x-ciranda-version: {self.record.version}\r\n"
        if self.cache_key:
            names += "x-ciranda-cache: miss\r\n"
        return names.encode() + (self.promise.headers if self.promise else b"")

    def _close(self, status: int, response: bytes) -> StorageFull | None:
        """Write the record and be done. What comes back is why it could not be written: then the answer must not end well."""
        self.over = True
        self._sum_up(status)
        full = None
        if status != StorageFull.status:  # a record of "cannot record" would fill what was just freed
            full = self.gateway.try_to_write(INTERACTION, self.record.encoded(), self.recorded, response)
        self._leave(full)
        return full

    def _leave(self, full: CirandaError | None) -> None:
        if full is not None:
            self.record.status = full.status
        self.gateway.leave(self)

    @property
    def recorded(self) -> bytes:
        """What of the request is recorded."""
        return self.body if self.sent_at or self.record.cached else b""

    def _sum_up(self, status: int) -> None:
        record = self.record
        record.status = status
        record.latency_ms = self._since_start()
        record.overhead_ms = max(0, int(record.latency_ms * 1000 - self.waited * 1e6)) / 1000
        if self.arm is not None and self.arm.price is not None and not record.cached:
            record.cost = self.arm.price.nano(record.prompt_tokens, record.completion_tokens) / 1e9
        if self.promise is not None:
            self.promise.settle(record, asked=self._size > 0)

    def drop_call(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._wait_over()
