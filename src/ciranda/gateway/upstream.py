"""The client's half of HTTP/1.1 towards engines: a pool per replica, callbacks all the way, on httptools.

A request leaves on an idle connection or on a fresh one; llama.cpp's server loses 1 to 4 % of connections reused after a stream
(measured), so towards it every request gets its own and says `connection: close`. A connection is used again only when its
answer ended exactly and nothing followed it. Idle ones go after four seconds, before engines drop them.

Each replica has a circuit. One that refuses connections, or fails three times running, opens it and is left out for a moment;
then the circuit is half open: one request at a time probes it, and its end closes the circuit or opens it for longer. When nothing
else is there an open one is taken all the same: a doubtful engine is better than none.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from ciranda.errors import Invalid
from ciranda.gateway import limits
from ciranda.gateway.outbox import Outbox

READ = frozenset({b"content-type", b"content-length", b"transfer-encoding", b"retry-after", b"retry-after-ms"})
READ_LENGTHS = frozenset(map(len, READ))
POOLLESS = frozenset({"llamacpp"})
FAILURES = 3
JOIN_BYTES = 64 << 10
BROKEN = frozenset({502, 503, 504})  # answered, but not in a way that speaks for its health
EJECTED_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)


class Sink(Protocol):
    """Who asked: told of the answer as it comes. Exactly one of `upstream_end` and `upstream_failed` is the last call."""

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers are there."""

    def upstream_data(self, payload: bytes) -> None:
        """A part of the body."""

    def upstream_end(self) -> None:
        """The body ended as it should."""

    def upstream_failed(self, call: Upstream, reason: str) -> None:
        """No answer, or half of one."""


class Replica:
    """One serving process of a version, with what we learned of its health."""

    def __init__(
        self, ident: str, url: str, wire_model: str, *, engine: str = "", secret: str = "", outbox: Outbox | None = None
    ) -> None:
        self.outbox = outbox or Outbox()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is no http(s) address", where=f"replica {ident}", remedy="write http://host:port")
        self.identity = (ident, url, wire_model, engine, secret)
        self.id = ident
        self.wire = msgspec.json.encode(wire_model)
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.pooled = engine not in POOLLESS
        self.in_flight = 0
        self.failures = 0
        self.failed_at = 0.0  # the first of the failures running
        self.ejected_until = 0.0
        self.ejections = 0
        self._running = 0  # ejections since it last answered
        self._probe: Upstream | None = None
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._lines = _lines(parts.netloc.rpartition("@")[2], secret, pooled=self.pooled)
        self._idle: list[Upstream] = []
        self._heads: dict[str, bytes] = {}  # by path; there are three

    def send(
        self, sink: Sink, path: str, body: bytes, request_id: bytes, *, lines: bytes = b"", fresh: bool = False
    ) -> Upstream:
        """Send a POST, with more header `lines`, on a new connection when `fresh`; the answer comes to `sink`.

        The returned call can be cancelled.
        """
        head = self._heads.get(path) or self._heads.setdefault(path, self._head(path))
        head = b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n" % (head, request_id, lines, len(body))
        self.in_flight += 1
        call = (None if fresh else self._reuse()) or Upstream(self)
        if self._running:
            self._probe = call
        call.begin(sink, head, body)
        return call

    def ready(self, now: float) -> bool:
        """Whether it is not left out at present, and not being probed."""
        return not self._running or (self.ejected_until <= now and (self._probe is None or not self._probe.busy))

    def circuit(self, now: float) -> str:
        """`closed` (all is well), `open` (left out) or `half_open` (one request at a time probes it)."""
        if not self._running:
            return "closed"
        return "open" if self.ejected_until > now else "half_open"

    def succeeded(self) -> None:
        """It answered."""
        self.failures = self._running = 0
        self.ejected_until = 0.0
        self._probe = None

    def failed(self, *, decisive: bool) -> None:
        """It did not; `decisive` when one failure proves enough, such as a refused connection."""
        self.failures += 1
        if self.failures == 1:
            self.failed_at = monotonic()
        if decisive or self._running or self.failures >= FAILURES:
            self.ejections += 1
            self._running += 1
            self.ejected_until = monotonic() + EJECTED_SECONDS[min(self._running, len(EJECTED_SECONDS)) - 1]

    def keep(self, call: Upstream) -> None:
        """Take a connection back for the next request."""
        self._idle.append(call)

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for too long."""
        while self._idle and now - self._idle[0].idle_since > limits.POOL_IDLE_SECONDS:
            self._idle.pop(0).close()

    def close(self) -> None:
        """Close all idle connections; the busy ones end with their answer."""
        self.pooled = False
        while self._idle:
            self._idle.pop().close()

    def forget(self, call: Upstream) -> None:
        """An idle connection was closed by the engine."""
        if call in self._idle:
            self._idle.remove(call)

    def _head(self, path: str) -> bytes:
        return f"POST {self._prefix}{path} HTTP/1.1\r\n".encode() + self._lines

    def _reuse(self) -> Upstream | None:
        while self._idle:
            call = self._idle.pop()
            if call.alive and monotonic() - call.idle_since <= limits.POOL_IDLE_SECONDS:
                return call
            call.close()
        return None


def _lines(host: str, secret: str, *, pooled: bool) -> bytes:
    """The header lines that every request to a replica shares."""
    lines = [
        f"host: {host}",
        "content-type: application/json",
        "accept-encoding: identity",
        "user-agent: ciranda-gateway",
    ]
    if secret:
        lines.append(f"authorization: Bearer {secret}")
    if not pooled:
        lines.append("connection: close")
    return "".join(f"{line}\r\n" for line in lines).encode()


class Upstream:
    """One connection to an engine, and the call that is on it; a protocol of asyncio, though not by inheritance: see `compiled`."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.fresh = True  # carries its first request
        self.begun = False  # a byte of this answer has arrived
        self.connected = False
        self.idle_since = 0.0
        self.sent_at = 0.0  # when the request left; 0 while it has not
        self._sink: Sink | None = None
        self._outgoing: tuple[bytes, bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.begun = False
        self.sent_at = 0.0
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._status = 0
        self._pieces: list[bytes] = []
        self._headed = self._complete = self._until_close = self._surplus = self._keep_alive = False

    # What the owner does.

    @property
    def alive(self) -> bool:
        """Whether a request may be written now."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def stale(self) -> bool:
        """Whether a reused connection died without a byte: the pool lost the idle race, the engine did nothing wrong."""
        return self.connected and not self.fresh and not self.begun

    @property
    def busy(self) -> bool:
        """Whether somebody waits for its answer."""
        return self._sink is not None

    def begin(self, sink: Sink, head: bytes, body: bytes) -> None:
        """Put a request on this connection, connecting first if need be."""
        self._sink = sink
        if self._transport is None:
            self._outgoing = (head, body)
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        self.fresh = False
        self._reset()
        self._outgoing = (head, body)
        self.replica.outbox.add(self)

    def cancel(self) -> None:
        """The answer is not wanted any more: the engine must notice at once."""
        if self._sink is None:
            return
        self._leave()
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the engine."""
        if self.alive and self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading from the engine."""
        if self.alive and self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    # What the transport tells.

    async def _connect(self) -> None:
        replica, loop = self.replica, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                await loop.create_connection(self._protocol, replica.host, replica.port, ssl=replica.tls)
        except (OSError, TimeoutError) as error:
            self._fail(f"cannot connect: {error or 'timed out'}")

    def _protocol(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.connected = True
        if self._sink is None:
            self._transport.abort()
        else:
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sink is None:
            self.replica.forget(self)
        elif self._until_close and exc is None:
            self._finish()
        else:
            self._fail(f"the connection was lost: {exc or 'closed by the engine'}")

    def eof_received(self) -> None:
        """Nothing more comes: the transport closes."""

    def pause_writing(self) -> None:
        """The engine reads slowly; a request is one body, which waits in the transport."""

    def resume_writing(self) -> None:
        """It reads again."""

    def data_received(self, data: bytes) -> None:
        if self._sink is None:  # bytes that nobody asked for: the connection cannot be trusted
            if self._transport is not None:
                self._transport.abort()
            return
        self.begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._surplus = True
            if not self._complete:
                self._fail(f"the engine's answer is not HTTP: {error}")
                return
        self._deliver()

    def _deliver(self) -> None:
        """Tell the sink what this read brought; it may cancel at any of the calls."""
        if self._head_bytes > limits.HEADER_BYTES:
            self._fail("the engine's headers are too large")
            return
        if self._status and not self._headed:
            self._headed = True
            if self._sink is not None:
                self._sink.upstream_head(self._status, self._headers)
        if self._pieces and self._sink is not None:
            payload = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            self._sink.upstream_data(payload)
        if self._complete and self._sink is not None:
            self._finish()

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if len(name) in READ_LENGTHS and (name := name.lower()) in READ and not self._complete:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete or status < 200:
            return
        self._status = status
        self._keep_alive = self._parser.should_keep_alive()
        framed = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        self._until_close = not framed and status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True
        else:
            self._headers.clear()  # a 1xx in front of the answer

    # How a call ends.

    def flush(self) -> None:
        """Send the request that is on this connection. Part of the `outbox.Sender` protocol."""
        outgoing, self._outgoing = self._outgoing, None
        if outgoing is None or self._sink is None or self._transport is None or self._transport.is_closing():
            return
        self.sent_at = monotonic()
        head, body = outgoing
        if len(body) < JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def _leave(self) -> Sink | None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self.replica.in_flight -= 1
        return sink

    def _finish(self) -> None:
        reusable = self.replica.pooled and self.alive and self._complete and not self._surplus
        sink = self._leave()
        if self._status in BROKEN:
            self.replica.failed(decisive=False)
        else:
            self.replica.succeeded()
        if reusable and self._keep_alive:
            self.idle_since = monotonic()
            self.replica.keep(self)
        else:
            self.close()
        if sink is not None:
            sink.upstream_end()

    def _fail(self, reason: str) -> None:
        sink = self._leave()
        if self._transport is not None:
            self._transport.abort()
        stale = (
            self.connected and not self.fresh and not self.begun
        )  # the idle race is the pool's fault, not the engine's
        if sink is not None and not stale:
            self.replica.failed(decisive=not self.connected)
        if sink is not None:
            sink.upstream_failed(self, reason)
