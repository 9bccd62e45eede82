"""Paths that are control's, passed on: `/v1/files`, `/v1/uploads` and `/v1/fine_tuning`, so that one `base_url` reaches them too.

A slow path beside the hot one: a request of these paths is sent to control over a connection of its own, and the answer comes back
in pieces, as it arrives. What a client may grow is bounded as everywhere: so many at a time (`PASSAGES`), the body as the server
takes it, silence by `SILENCE_S`. The key is known before control hears of the request; what it may do, control decides. Only the
headers in `SENT` and `SHOWN` cross. With control away the answer is 503, and everything else here goes on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from ciranda.errors import CirandaError, LimitReached, Unavailable
from ciranda.gateway import limits
from ciranda.gateway.answers import UpstreamFailed, UpstreamSlow
from ciranda.gateway.server import Connection, Request

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway

PATHS = (b"/v1/files", b"/v1/uploads", b"/v1/fine_tuning/jobs")
METHODS = frozenset({b"GET", b"POST", b"DELETE"})
SENT = (b"content-type", b"accept", b"idempotency-key")
SHOWN = frozenset({b"content-type", b"content-disposition", b"retry-after", b"x-should-retry", b"cache-control"})
PASSAGES = 8
SILENCE_S = 120.0  # an upload of many lines is read whole before control answers
WHOLE_BYTES = 64 << 10  # up to so many bytes are sent with their length, as one answer


def covers(path: bytes) -> bool:
    """Whether a path is one of control's."""
    return path.startswith(PATHS) and any(path == one or path.startswith(one + b"/") for one in PATHS)


class Ready(msgspec.Struct):
    """What control writes once it answers."""

    url: str


class Passage(asyncio.Protocol):
    """One request on its way to control, and the answer on its way back. Its connection tells when the client leaves."""

    def __init__(self, gateway: Gateway, connection: Connection, request: Request, secret: bytes) -> None:
        self._gateway, self._connection, self._request, self._secret = gateway, connection, request, secret
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lines: list[bytes] = []
        self._held: list[bytes] = []
        self._size = 0
        self._begun = self._over = self._complete = False

    def start(self, control: Path | str) -> None:
        """Send it to control: at an address, or where the file that control writes says. Raises LimitReached, Unavailable."""
        if len(self._gateway.passages) >= PASSAGES:
            raise LimitReached("other files and jobs are on their way", remedy="send again after a moment")
        host, port, tls = _address(control)
        self._gateway.passages.add(self)
        self._connection.exchange = self
        self._watch()
        self._task = asyncio.get_running_loop().create_task(self._connect(host, port, tls))

    async def _connect(self, host: str, port: int, tls: bool) -> None:
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: self, host, port, ssl=tls or None)
        except (OSError, TimeoutError):
            self._fail(Unavailable("control is not running", remedy="try again in a moment"))

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._over:
            self._transport.abort()
            return
        self._transport.writelines((self._head(), self._request.body))

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._watch()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(UpstreamFailed("control's answer is no HTTP", remedy="send the request again"))
            return
        self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(UpstreamFailed("control broke off", remedy="send the request again"))

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        if (name := name.lower()) in SHOWN:
            self._lines.append(b"%b: %b\r\n" % (name, value))

    def on_body(self, body: bytes) -> None:
        self._held.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        self._complete = True

    def _deliver(self) -> None:
        """Show what there is: a short answer whole, a long one piece by piece."""
        status, lines = self._parser.get_status_code(), b"".join(self._lines)
        if self._complete and not self._begun:
            self._leave()
            self._connection.answer(status, lines, b"".join(self._held))
            return
        if not self._begun and self._size <= WHOLE_BYTES:
            return
        if not self._begun:
            self._begun = True
            self._connection.begin(status, lines)
        piece, self._held = b"".join(self._held), []
        if self._complete:
            self._leave()
            self._connection.finish(piece)
        else:
            self._connection.piece(piece)

    # What the client does.

    def client_left(self) -> None:
        self._leave()

    def client_slow(self) -> None:
        if self._transport is not None and not self._over and self._transport.is_reading():
            self._transport.pause_reading()
            self._unwatch()

    def client_ready(self) -> None:
        if self._transport is not None and not self._over and not self._transport.is_reading():
            self._transport.resume_reading()
            self._watch()

    # How it ends.

    def _head(self) -> bytes:
        request = self._request
        target = request.path + (b"?" + request.query if request.query else b"")
        lines = [b"%b %b HTTP/1.1" % (request.method, target), b"host: control", b"connection: close"]
        lines += [b"authorization: Bearer " + self._secret, b"x-request-id: " + request.request_id]
        lines += [b"%b: %b" % (name, request.headers[name]) for name in SENT if name in request.headers]
        lines.append(b"accept-encoding: identity")
        lines.append(b"content-length: %d\r\n\r\n" % len(request.body))
        return b"\r\n".join(lines)

    def _fail(self, error: CirandaError) -> None:
        if self._over:
            return
        self._leave()
        self._gateway.metrics.refused(error.status)
        if self._begun:
            self._connection.cut()
        else:
            self._connection.fail(error)

    def _leave(self) -> None:
        self._over = True
        self._unwatch()
        self._gateway.passages.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def _watch(self) -> None:
        """Begin to count silence anew."""
        self._unwatch()
        slow = UpstreamSlow(f"control was silent for {SILENCE_S:.0f} s", remedy="send the request again")
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._fail, slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _address(control: Path | str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken there. Raises Unavailable."""
    try:
        said = control if isinstance(control, str) else msgspec.json.decode(control.read_bytes(), type=Ready).url
        url = urlsplit(said)
        host, tls = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if tls else 80)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise Unavailable("control is not running", remedy="try again in a moment") from error
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where control listens, not we
    return anywhere.get(host, host), port, tls
