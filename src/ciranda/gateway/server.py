"""The server's half of HTTP/1.1: a protocol of asyncio on httptools, with bounds and deadlines on everything a client can do.

One request at a time per connection, in order; pipelined ones wait in a bounded queue. Deadlines are kept by one sweep over all
connections instead of a timer each. A refusal is always sent (also 413 in the middle of an upload: the rest is read and thrown
away for a moment, or the reset would destroy the answer). A cut stream never ends cleanly.

It refuses: HTTP/2 and TLS (a reverse proxy's work), upgrades (the request is served as plain HTTP/1.1), trailers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from email.utils import formatdate
from time import monotonic
from typing import Protocol, cast

import httptools

from ciranda.errors import CirandaError, Invalid, TooLarge, Unavailable
from ciranda.gateway import limits
from ciranda.gateway.answers import HeadersTooLarge, TimedOut, body_of, headers_of, spoken, status_line
from ciranda.gateway.outbox import Outbox
from ciranda.store import ids

NEVER = float("inf")
JOIN_BYTES = 64 << 10
BODILESS = frozenset({204, 304})
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


class Request:
    """One request, whole."""

    # Defaults live on the class: one is made per request, and most fields are set once, later.
    method: bytes = b""
    path: bytes = b""
    query: bytes = b""
    body: bytes = b""
    request_id: bytes = b""
    keep_alive: bool = True
    modern: bool = True  # HTTP/1.1, so chunked answers are understood
    received_at: float = 0.0
    ident: str = ""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}

    def name(self) -> None:
        """Give it our id, and the one under which both sides find it in their logs: the client's if that is a plain short word."""
        self.ident = ids.text7()
        sent = self.headers.get(b"x-request-id", b"")
        plain = sent and len(sent) <= 64 and _PLAIN.issuperset(sent)
        self.request_id = sent if plain else b"req_" + self.ident.encode()


class Exchange(Protocol):
    """Whoever answers a request over time is told what becomes of its client."""

    def client_left(self) -> None:
        """The connection is gone; nothing can be answered any more."""

    def client_slow(self) -> None:
        """Its buffer is full: stop reading from the engine."""

    def client_ready(self) -> None:
        """It reads again."""


class Application(Protocol):
    """What a server serves."""

    def received(self, connection: Connection, request: Request) -> None:
        """Answer the request, now or later."""


class Server:
    """What all connections of one process share: the application, the bounds, the clock of deadlines."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.connections: set[Connection] = set()
        self.outbox = Outbox()
        self.draining = False
        self.buffered = 0
        self.date = b""
        self.sweep()

    def protocol(self) -> asyncio.Protocol:
        """A fresh connection; what `loop.create_server` wants."""
        return cast("asyncio.Protocol", Connection(self))

    def sweep(self) -> None:
        """End what is over its deadline. Call every `SWEEP_SECONDS`."""
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        now = monotonic()
        for connection in [one for one in self.connections if one.deadline < now]:
            connection.expire()

    def drain(self) -> None:
        """From now on each connection closes after the answer it owes; those that owe none close at once."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()


class Connection:
    """One client connection: the parsing half is here, the answering half in the methods from `answer` on.

    It has all that `asyncio.Protocol` wants, but does not inherit from it: see `compiled`.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._parsed = self._current = Request()
        self._pieces: list[bytes] = []
        self._head_bytes = self._body_bytes = self._held = 0
        self._refusal: CirandaError | None = None
        self._partial = False  # a request has begun to arrive
        self._busy = False  # an answer is owed
        self._begun = False  # ... and its head has been sent
        self._sinking = False  # a refusal was sent; what still comes is thrown away
        self._out: list[bytes] = []  # for the end of this turn
        self._ending = False  # ... and then close
        self.deadline = NEVER
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.peer = ""

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.deadline = monotonic() + limits.HEADER_SECONDS
        full = len(self._server.connections) >= limits.CONNECTIONS
        self._server.connections.add(self)
        if full:
            self._refuse(Unavailable("too many connections", remedy="reuse connections, or add gateway workers"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._server.buffered -= self._held
        self._held = 0
        self._queue.clear()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_left()

    def eof_received(self) -> None:
        """Nothing more comes: the transport closes."""

    def data_received(self, data: bytes) -> None:
        if self._sinking:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._nonsense(error)
        if self._refusal is not None and not self._busy:
            self._refuse(self._refusal)

    def _nonsense(self, error: Exception) -> None:
        reason = f"this is no HTTP/1.1 request: {error}"
        self._refusal = self._refusal or Invalid(reason, remedy="speak HTTP/1.1 to this port")

    def _decline(self, rest: bytes) -> None:
        """Serve an offer to upgrade as plain HTTP/1.1: the parser left its body unread, so it gets the request anew."""
        request = self._parsed
        if request.method == b"CONNECT":
            self._nonsense(httptools.HttpParserError("this is no proxy"))
            return
        kept = [(name, value) for name, value in request.headers.items() if name not in (b"upgrade", b"connection")]
        target = request.path + (b"?" + request.query if request.query else b"")
        lines = b"".join(b"%b: %b\r\n" % pair for pair in kept)
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, target, lines) + rest)
        except httptools.HttpParserError as error:
            self._nonsense(error)

    def pause_writing(self) -> None:
        self.deadline = monotonic() + limits.STALLED_SECONDS
        if self.exchange is not None:
            self.exchange.client_slow()

    def resume_writing(self) -> None:
        self.deadline = NEVER if self._busy else monotonic() + limits.IDLE_SECONDS
        if self.exchange is not None:
            self.exchange.client_ready()

    def expire(self) -> None:
        """The deadline has passed: for sending a request, for reading an answer, or for being idle."""
        if self._partial and not self._busy and not self._sinking:
            self._refuse(TimedOut("the request did not arrive in time", remedy="send headers and body without pauses"))
        elif self.transport.get_write_buffer_size() or self._sinking:
            self.transport.abort()
        else:
            self.close()

    def close_if_idle(self) -> None:
        """Close when nothing is owed and nothing has begun to arrive."""
        if not self._busy and not self._partial:
            self.close()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._parsed = Request()
        self._pieces = []
        self._head_bytes = self._body_bytes = 0
        self._partial = True
        if not self._busy:
            self.deadline = monotonic() + limits.HEADER_SECONDS

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        self._parsed.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= limits.HEADER_BYTES:
            self._parsed.headers[name.lower()] = value
        elif self._refusal is None:
            reason = f"the headers are over {limits.HEADER_BYTES:,} bytes"
            self._refusal = HeadersTooLarge(reason, remedy="send fewer or smaller headers")

    def on_headers_complete(self) -> None:
        request = self._parsed
        request.method = self._parser.get_method()
        headers = request.headers
        request.keep_alive = self._parser.should_keep_alive()
        unasked = request.keep_alive and b"connection" not in headers  # only 1.1 stays open unasked
        request.modern = unasked or self._parser.get_http_version() == "1.1"
        if request.path.find(b"?") >= 0:
            request.path, _, request.query = request.path.partition(b"?")
        declared = headers.get(b"content-length", b"0")
        if len(declared) > 6 and declared.isdigit() and int(declared) > limits.BODY_BYTES:
            self._refuse_body()
        elif (
            b"expect" in headers
            and headers[b"expect"].lower() == b"100-continue"
            and not self._busy
            and not self._refusal
        ):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._busy:
            self.deadline = monotonic() + limits.BODY_SECONDS

    def on_body(self, body: bytes) -> None:
        if self._refusal is not None:
            return
        self._pieces.append(body)
        self._body_bytes += len(body)
        self._held += len(body)
        self._server.buffered += len(body)
        if self._body_bytes > limits.BODY_BYTES:
            self._refuse_body()
        elif self._server.buffered > limits.BUFFERED_BYTES:
            self._refusal = Unavailable("too many large requests at once", remedy="try again in a moment")

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # not the request yet: see `_decline`
        self._partial = False
        if self._refusal is not None:
            return
        request = self._parsed
        request.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        if self._busy:
            self._wait_in_line(request)
        else:
            self._serve(request)

    def _refuse_body(self) -> None:
        reason = f"the body is over {limits.BODY_BYTES:,} bytes"
        self._refusal = TooLarge(reason, remedy="send less context, or images by URL")

    # Requests in order.

    def _serve(self, request: Request) -> None:
        self._busy = True
        self.deadline = NEVER
        self._current = request
        request.received_at = monotonic()
        request.name()
        self._server.application.received(self, request)

    def _wait_in_line(self, request: Request) -> None:
        self._queue.append(request)
        self.transport.pause_reading()
        if len(self._queue) > limits.PIPELINED:
            self._refusal = Invalid("too many pipelined requests", remedy="wait for answers, or open more connections")

    def _answered(self) -> None:
        """The owed answer is out: take the next request, or wait for one."""
        self.exchange = None
        self._busy = self._begun = False
        self._held -= len(self._current.body)
        self._server.buffered -= len(self._current.body)
        if not self._current.keep_alive or self._server.draining:
            self.close()
        elif self._queue:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self.deadline = monotonic() + (limits.BODY_SECONDS if self._partial else limits.IDLE_SECONDS)

    def _next(self) -> None:
        if self._busy or not self._queue or self._ending or self.transport.is_closing():
            return
        request = self._queue.popleft()
        if not self._queue:
            self.transport.resume_reading()
        self._serve(request)

    # Answering.

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer. `headers` are complete lines."""
        length = b"" if status in BODILESS else b"content-length: %d\r\n" % len(body)
        head = self._head(status, headers, length)
        if self._current.method == b"HEAD":
            body = b""
        if len(body) < JOIN_BYTES:
            self.send(head + body)
        else:
            self.send(head)
            self.send(body)
        self._answered()

    def fail(self, error: CirandaError, headers: bytes = b"", *, code: str | None = None) -> None:
        """Send an error as the whole answer."""
        shown = spoken(self._current, body_of(error, code=code), error.status)
        self.answer(error.status, headers + headers_of(error), shown)

    def begin(self, status: int, headers: bytes) -> None:
        """Start an answer of unknown length; then `piece`, and `finish` or `cut`."""
        self._begun = True
        if not self._current.modern:
            self._current.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n" if self._current.modern else b""
        self.send(self._head(status, headers, framing))

    def piece(self, payload: bytes) -> None:
        """Send a part of it."""
        if payload:
            self.send(b"%x\r\n%b\r\n" % (len(payload), payload) if self._current.modern else payload)

    def finish(self, payload: bytes = b"") -> None:
        """Send the last part and end cleanly."""
        if self._current.modern:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload) if payload else b"0\r\n\r\n"
            self.send(last)
        elif payload:
            self.send(payload)
        self._answered()

    def cut(self, payload: bytes = b"") -> None:
        """Send a last part and end uncleanly: the final chunk is never sent, so no client takes the answer for complete."""
        self.piece(payload)
        self.exchange = None
        self.close()

    # Sending, at the end of the turn.

    def flush(self) -> None:
        """Send what this turn made. Part of the `outbox.Sender` protocol."""
        out, self._out = self._out, []
        if self.transport.is_closing():
            return
        if len(out) == 1:
            self.transport.write(out[0])
        else:
            self.transport.writelines(out)
        if self._sinking and self.transport.can_write_eof():
            self.transport.write_eof()
        elif self._ending:
            self.transport.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are, after all that was made before."""
        if not self._out:
            self._server.outbox.add(self)
        self._out.append(data)

    def close(self) -> None:
        """Close, once what was made is sent."""
        if self._out:
            self._ending = True
        else:
            self.transport.close()

    def _head(self, status: int, headers: bytes, framing: bytes) -> bytes:
        close = b"" if self._current.keep_alive and not self._server.draining else b"connection: close\r\n"
        own = b"x-request-id: %b\r\n" % self._current.request_id
        if self._current.path.startswith(b"/v1/messages"):
            own += b"request-id: %b\r\n" % self._current.request_id  # where Anthropic's client looks for it
        return b"".join((status_line(status), self._server.date, own, headers, framing, close, b"\r\n"))

    def _refuse(self, error: CirandaError) -> None:
        """Answer what never became a request, then listen no more: a reset now would destroy the answer on its way."""
        self._sinking = True
        self._current = self._parsed
        self._current.keep_alive = False
        self._current.name()
        self._refusal = None
        body = spoken(self._current, body_of(error), error.status)
        self.send(self._head(error.status, headers_of(error), b"content-length: %d\r\n" % len(body)) + body)
        self.deadline = monotonic() + limits.LINGER_SECONDS
