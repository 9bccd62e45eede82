"""The endpoints of the gateway, and what one worker shares between requests.

Everything is behind a key but `/healthz` and `/readyz`; `/metrics` is also open to this machine itself, for a scraper beside us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic

import msgspec

from ciranda.errors import CirandaError, Forbidden, LimitReached, StorageFull, Unauthenticated, Unavailable
from ciranda.gateway import answers, compiled, feedback, limits, listing, onward, route, strangers, widget
from ciranda.gateway.cache import Cache
from ciranda.gateway.doors import DOORS
from ciranda.gateway.journal import Journal
from ciranda.gateway.metrics import Metrics, circuits
from ciranda.gateway.moderation import Moderation
from ciranda.gateway.onward import Passage
from ciranda.gateway.quotas import Quotas
from ciranda.gateway.relay import Relay
from ciranda.gateway.server import Connection, Request, Server
from ciranda.gateway.shadow import Shadows
from ciranda.gateway.snapshot import Key, Model, Snapshot, Snapshots
from ciranda.gateway.strangers import Network, Turnstile
from ciranda.gateway.tokens import Count
from ciranda.gateway.traces import Traces
from ciranda.govern import public as publics
from ciranda.interactions.spool import FEEDBACK, SpoolWriter

METRICS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"

KEYS_SEEN = 1000

Answer = Callable[[Connection, Request], None]


class Gateway:
    """One worker.

    Args:
        snapshots: Where routing comes from.
        spool: Where records go.
        quotas: Who may use how much.
        proxies: Addresses that say whom they ask for.
        control: Control's address; without one, what control wrote beside the routing.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        spool: SpoolWriter,
        quotas: Quotas,
        proxies: tuple[Network, ...] = (),
        control: str = "",
    ) -> None:
        self.snapshots = snapshots
        self.spool = spool
        self.quotas = quotas
        self.cache = Cache()
        self.erasures = 0  # as routing counts them
        self.metrics = Metrics()
        self.shadows = Shadows(self)
        self.traces = Traces(self)
        self.running: Counter[str] = Counter()
        self.relays: set[Relay] = set()
        self.counts: set[Count] = set()
        self.moderations: set[Moderation] = set()
        self.passages: set[Passage] = set()
        self._control: Path | str = control or snapshots.path.with_name("control.json")
        self.server = Server(self)
        self.journal = Journal(self)
        self.turnstile = Turnstile()
        self._proxies = proxies
        self._keys_of: Snapshot | None = None
        # Good keys as they were sent, for this snapshot only, so that a revoked one is out at once.
        self._seen: dict[bytes, Key] = {}
        self._full_until = 0.0
        self._retries = limits.RETRY_STOCK
        self._paths: dict[bytes, tuple[bytes, Answer]] = {
            b"/v1/models": (b"GET", self._models),
            b"/v1/feedback": (b"POST", self._feedback),
            b"/v1/traces": (b"POST", self.traces.receive),
            b"/v1/messages/count_tokens": (b"POST", self._count),
            b"/v1/moderations": (b"POST", self._moderate),
            b"/healthz": (b"GET", self._alive),
            b"/readyz": (b"GET", self._ready),
            b"/metrics": (b"GET", self._metrics),
            **{b"/widget/" + name.encode(): (b"GET", self._widget) for name in widget.scripts()},
            **dict.fromkeys(DOORS, (b"POST", self._relay)),
        }

    # Requests.

    def received(self, connection: Connection, request: Request) -> None:
        """Answer one request. Part of the `server.Application` protocol."""
        try:
            self._find(request)(connection, request)
        except CirandaError as error:
            self.metrics.refused(error.status)
            connection.fail(error)

    def _find(self, request: Request) -> Answer:
        path = request.path
        if path.startswith(b"/v1/models/"):
            path = b"/v1/models"
        method, answer = self._paths.get(path, (b"", None))
        if answer is not None and (request.method == method or (request.method == b"HEAD" and method == b"GET")):
            return answer
        if request.method == b"OPTIONS" and path == b"/v1/feedback":
            return self._preflight
        if answer is None and onward.covers(request.path):
            method, answer = b"GET, POST or DELETE", self._pass_on
            if request.method in onward.METHODS:
                return answer
        shown = f"{request.method.decode('latin-1')} {request.path[:200].decode('latin-1')}"
        if answer is None:
            raise answers.UnknownPath(
                f"unknown request URL: {shown}", remedy="this is an OpenAI-compatible API under /v1"
            )
        raise answers.WrongMethod(f"{shown} is not allowed", remedy=f"use {method.decode()}")

    def key(self, request: Request) -> Key:
        """Who asks. Raises Unauthenticated, and Forbidden for a public key, which opens nothing but feedback."""
        snapshot, sent = self.snapshot(), request.headers.get(b"authorization") or _by_name(request)
        if snapshot is not self._keys_of:
            self._keys_of, self._seen = snapshot, {}
        return self._seen.get(sent) or self._check(snapshot, sent)

    def _check(self, snapshot: Snapshot, sent: bytes) -> Key:
        key = _named(snapshot, sent)
        if key.public is not None:
            raise Forbidden("a public key only takes feedback", remedy="use a key of the role client, kept on a server")
        if len(self._seen) < KEYS_SEEN:
            self._seen[sent] = key
        return key

    def _relay(self, connection: Connection, request: Request) -> None:
        Relay(self, connection, request, self.key(request)).start()

    def _count(self, connection: Connection, request: Request) -> None:
        key = self.key(request)
        if len(self.counts) >= limits.COUNTS_RUNNING:
            raise LimitReached("other prompts are being counted", remedy="send again after a moment")
        Count(self, connection, request, key).start()

    def _moderate(self, connection: Connection, request: Request) -> None:
        key = self.key(request)
        if key.role not in route.ASKING:
            raise Forbidden(f"a key of the role {key.role} may not ask", remedy="use a key of the role client")
        Moderation(self, connection, request, key).start()

    def _pass_on(self, connection: Connection, request: Request) -> None:
        self.key(request)
        sent = request.headers.get(b"authorization") or _by_name(request)
        Passage(self, connection, request, sent.partition(b" ")[2].strip()).start(self._control)

    def _models(self, connection: Connection, request: Request) -> None:
        snapshot, key = self.snapshot(), self.key(request)
        name = request.path.removeprefix(b"/v1/models").strip(b"/").decode("utf-8", "replace")
        names = route.usable(snapshot, key)
        if name:
            model, arm = route.find(snapshot, key, name)
            names = [arm.version if arm else model.name]
        shown = listing.models(names, snapshot.written_at, answers.anthropic(request), one=bool(name))
        connection.answer(200, answers.JSON, msgspec.json.encode(shown))

    def _feedback(self, connection: Connection, request: Request) -> None:
        snapshot = self.snapshot()
        cors = strangers.lines(snapshot, request)
        try:
            record = self._said(snapshot, request, strangers.client_of(request, connection.peer, self._proxies))
            self.write(FEEDBACK, msgspec.json.encode(record))
        except CirandaError as error:
            self.metrics.refused(error.status)
            connection.fail(error, cors)
            return
        self.metrics.counters["feedback"] += 1
        told = {"id": record["id"], "object": "feedback", "interaction": record["interaction"]}
        connection.answer(202, answers.JSON + cors, msgspec.json.encode(told))

    def _said(self, snapshot: Snapshot, request: Request, address: str) -> dict[str, object]:
        key = _named(snapshot, request.headers.get(b"authorization", b""))
        if key.role not in FEEDBACK_ROLES:
            raise Forbidden(f"a key of the role {key.role} gives no feedback", remedy="use a key of the role client")
        self.turnstile.enter(key, strangers.origin_of(request), address)
        return feedback.read(request.body, key, request.headers.get(b"idempotency-key", b"").decode("latin-1"))

    def _preflight(self, connection: Connection, request: Request) -> None:
        connection.answer(204, strangers.lines(self.snapshot(), request) + strangers.ALLOWED, b"")

    def _widget(self, connection: Connection, request: Request) -> None:
        script = widget.scripts()[request.path.removeprefix(b"/widget/").decode()]
        accepted, held = (request.headers.get(name, b"") for name in (b"accept-encoding", b"if-none-match"))
        connection.answer(*script.answer(accepted, held))

    def _alive(self, connection: Connection, request: Request) -> None:
        connection.answer(200, answers.JSON, b'{"status":"alive"}')

    def _ready(self, connection: Connection, request: Request) -> None:
        if self.server.draining:
            raise Unavailable("this worker is draining", remedy="use another one")
        told = {"status": "ready", "generation": self.snapshot().generation, "compiled": compiled.loaded()}
        connection.answer(200, answers.JSON, msgspec.json.encode(told))

    def _metrics(self, connection: Connection, request: Request) -> None:
        forwarded = b"x-forwarded-for" in request.headers or b"forwarded" in request.headers
        if forwarded or connection.peer not in ("127.0.0.1", "::1"):
            self.key(request)
        text = self.metrics.text(self._gauges()) + circuits(self.snapshots.replicas.values(), monotonic())
        connection.answer(200, METRICS, text.encode())

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        current = self.snapshots.current
        replicas = self.snapshots.replicas.values()
        now = monotonic()
        yield "in_flight", "Requests that are being answered.", len(self.relays)
        yield "connections", "Open client connections.", len(self.server.connections)
        yield "shadows_running", "Shadow copies on their way.", len(self.shadows.running)
        yield "spool_bytes", "Bytes that wait for the collector.", spooled(self.spool.folder)
        yield "snapshot_generation", "Generation of the routing in force.", current.generation if current else 0
        yield "snapshot_errors", "Routing files that could not be used.", self.snapshots.errors
        yield "replicas", "Replicas known.", len(replicas)
        circuits = Counter(one.circuit(now) for one in replicas)
        yield "replicas_ejected", "Replicas left out for a moment: their circuit is open.", circuits["open"]
        yield "replicas_probed", "Replicas whose circuit is half open.", circuits["half_open"]
        yield "cache_bytes", "Bytes of answers that are kept.", self.cache.size
        yield "cache_hits_total", "Requests that were answered from what is kept.", self.cache.hits
        yield "cache_misses_total", "Requests whose answer might have been kept, and was not.", self.cache.misses
        yield "limited_total", "Requests refused by a limit or a budget.", self.quotas.refused
        yield "compiled", "Whether this worker runs the compiled hot path (1) or plain Python (0).", compiled.loaded()
        yield "limits_waiting", "Requests that wait for a share of a limit.", len(self.quotas.waiting)

    # What relays share.

    def snapshot(self) -> Snapshot:
        """The routing in force. Raises Unavailable before the first one."""
        current = self.snapshots.current
        if current is None:
            raise Unavailable("this gateway has no routing yet", remedy="try again in a moment; control writes it")
        return current

    def admit(self, model: Model) -> None:
        """Whether one more request can be taken. Raises StorageFull, LimitReached."""
        if self.storage_full():
            raise StorageFull("interactions cannot be recorded at present", remedy="free space on the gateway's disk")
        if self.running[model.name] > model.limits.max_in_flight:
            raise LimitReached(
                f"{model.name} has {model.limits.max_in_flight} requests in flight, its limit",
                remedy="send fewer at once, or raise serve.max_in_flight in the model's file",
            )

    def enter(self, relay: Relay) -> None:
        """A request begins to count."""
        self.relays.add(relay)
        self.running[relay.model.name] += 1
        self._retries = min(limits.RETRY_STOCK, self._retries + limits.RETRY_EARNED)

    def leave(self, relay: Relay) -> None:
        """It is answered, or its client left."""
        self.relays.discard(relay)
        self.running[relay.model.name] -= 1
        record = relay.record
        self.metrics.answered(
            record.model, record.version, record.arm, record.status,
            latency=record.latency_ms / 1000, first_byte=record.first_byte_ms / 1000, overhead=record.overhead_ms / 1000,
            tokens=(record.prompt_tokens, record.completion_tokens),
        )  # fmt: skip

    def may_retry(self) -> bool:
        """Whether the retry budget allows one more, and takes it."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True

    def write(self, kind: int, meta: bytes, request: bytes = b"", response: bytes = b"") -> None:
        """Put a record into the spool. Raises StorageFull, and then refuses requests for a moment."""
        try:
            self.spool.append(kind, meta, request, response)
        except StorageFull:
            self._full()
            raise
        self.metrics.counters["records"] += 1

    def write_all(self, frames: list[list[bytes]]) -> int:
        """Put records into the spool in one go; how many of them are there, the first ones."""
        written = self.spool.append_all(frames)
        self.metrics.counters["records"] += written
        return written

    def _full(self) -> None:
        self._full_until = monotonic() + limits.FULL_SECONDS
        self.metrics.counters["storage_full"] += 1

    def try_to_write(self, kind: int, meta: bytes, request: bytes = b"", response: bytes = b"") -> StorageFull | None:
        """The same, for who goes on either way: what comes back is why it is not there."""
        try:
            self.write(kind, meta, request, response)
        except StorageFull as full:
            return full
        return None

    def storage_full(self) -> bool:
        """Whether the last write failed a moment ago, so that asking an engine would be in vain."""
        return self._full_until > 0.0 and monotonic() < self._full_until

    # Time.

    def poll(self) -> None:
        """Look for new routing, and wake who waits for it. Call every `SNAPSHOT_SECONDS`."""
        if self.quotas.waiting:
            self.quotas.again(monotonic())
        if self.snapshots.poll():
            self.cache.retain(self.snapshot().models)
            self._forget(self.snapshot().erasures)
            for relay in list(self.relays):
                relay.rerouted()

    def _forget(self, erasures: int) -> None:
        """Somebody is to be forgotten: no answer is kept that may be theirs, and the spool is handed to the collector."""
        if erasures > self.erasures:
            self.cache.clear()
            self.spool.seal()
        self.erasures = erasures

    def sweep(self) -> None:
        """Keep every deadline. Call every `SWEEP_SECONDS`."""
        now = monotonic()
        self.server.sweep()
        self.snapshots.sweep(now)
        for relay in list(self.relays):
            relay.tick(now)
        for copy in list(self.shadows.running):
            copy.tick(now)
        self.quotas.sweep(now)
        for count in list(self.counts):
            count.tick(now)
        self.spool.seal_if_idle()

    def drain(self) -> None:
        """Answer what is there, and take nothing new on the connections that are open."""
        self.server.drain()

    def stop(self) -> None:
        """End what is still running, telling its clients, and seal the spool."""
        self.server.outbox.flush()
        for relay in list(self.relays):
            relay.break_off(Unavailable("this gateway worker is stopping", remedy="send the request again"))
        self.shadows.stop()
        self.quotas.close()
        self.spool.seal()


FEEDBACK_ROLES = frozenset({*route.ASKING, "viewer", publics.ROLE})


def _by_name(request: Request) -> bytes:
    """The key as Anthropic's clients send it."""
    sent = request.headers.get(b"x-api-key", b"")
    return b"Bearer " + sent if sent else b""


def _named(snapshot: Snapshot, sent: bytes) -> Key:
    """The key that an Authorization header carries. Raises Unauthenticated."""
    scheme, _, secret = sent.partition(b" ")
    if scheme.lower() != b"bearer" or not secret:
        raise Unauthenticated("you did not provide an API key", remedy="send it as Authorization: Bearer <key>")
    key = snapshot.keys.get(sha256(secret.strip()).hexdigest())
    if key is None:
        raise Unauthenticated("incorrect API key provided", remedy="`ciranda keys` lists the keys that are open")
    return key


def spooled(folder: Path) -> int:
    """Bytes in a spool folder; files may vanish while we look, since the collector is at work."""
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
