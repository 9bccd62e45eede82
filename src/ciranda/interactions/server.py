"""The collector's door: the small part of ClickHouse's HTTP protocol that an unmodified `clickhouse-connect` uses.

    GET  /ping      is it up (no token)
    GET  /status    how ingestion goes, as JSON
    GET, POST  /    one statement in `query` or in the body; `param_x` are bound values; other names are settings;
                    a statement with many bound values comes as a form

So every reader has one client, for the embedded engine and for a cluster. It listens on loopback and wants the token that is
in run/collector.json (as Basic, Bearer or X-ClickHouse-Key). A thread per connection: readers are few, and the tailing goes on
meanwhile, since the engine works outside of Python's lock.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ciranda.interactions.embedded import INSERTS, Engine, Refusal

log = logging.getLogger(__name__)

MOST_BODY = 64 << 20
IDLE_SECONDS = 120
AUTHENTICATION_FAILED = 516
STATUS_OF = {AUTHENTICATION_FAILED: 401, 497: 403, 164: 403, 60: 404, 81: 404, 159: 408, 241: 507}
TRANSPORT = frozenset({
    "query", "database", "user", "password", "role", "quota_key", "session_id", "session_timeout", "session_check",
    "query_id", "compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version",
    "default_format", "enable_http_compression", "send_progress_in_http_headers", "readonly",
    "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close",
})  # fmt: skip
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
BOUNDARY = re.compile(r"multipart/form-data;.*boundary=\"?([^\";]+)", re.IGNORECASE)
FIELD = re.compile(rb'content-disposition: form-data; name="([^"]*)"\r\n(?:[^\r\n]+\r\n)*\r\n', re.IGNORECASE)


class Door(ThreadingHTTPServer):
    """Listens at once; answers after `serve_forever` was started in a thread.

    Args:
        engine: Runs the statements; None where a ClickHouse server does.
        token: What callers must show.
        status: Says how ingestion goes.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, engine: Engine | None, *, token: str, status: Callable[[], Mapping[str, Any]], port: int = 0
    ) -> None:
        self.engine = engine
        self.token = token
        self.status = status
        super().__init__(("127.0.0.1", port), Exchange)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is."""
        log.warning("a connection ended badly", exc_info=True)


class Exchange(BaseHTTPRequestHandler):
    """One connection and the requests on it."""

    server: Door
    protocol_version = "HTTP/1.1"
    server_version = "ciranda"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        self._exchange(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        try:
            body = self._chunks() if chunked else self._read(int(length or 0))
        except (ValueError, EOFError):
            self.close_connection = True
            self._refuse(Refusal(1000, "the body's length is missing, wrong, or over 64 MB"), status=400)
            return
        self._exchange(body)

    def _exchange(self, body: bytes) -> None:
        try:
            self._answer(body)
        except Refusal as refusal:
            self._refuse(refusal, status=STATUS_OF.get(refusal.code, 400))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self, body: bytes) -> None:
        path, values = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if path == "/ping":
            self._send(200, b"Ok.\n", "text/plain")
            return
        if not self._authentic(values):
            raise Refusal(AUTHENTICATION_FAILED, "ciranda: Authentication failed: the token is missing or wrong")
        if path == "/status":
            self._send(200, json.dumps(self.server.status()).encode(), "application/json")
            return
        if path != "/" or self.server.engine is None:
            raise Refusal(60, f"there is nothing at {path[:100]}")
        body = _plain(body, self.headers.get("Content-Encoding", ""))
        if BOUNDARY.search(kind := self.headers.get("Content-Type", "")):
            values, body = values | _form(kind, body), b""
        self._statement(self.server.engine, values, body)

    def _statement(self, engine: Engine, values: Mapping[str, str], body: bytes) -> None:
        settings = {
            name: text for name, text in values.items() if name not in TRANSPORT and not name.startswith("param_")
        }
        head = values.get("query", "") or _head(body)
        if insert := INSERTS.match(head):
            data = body if values.get("query") else body[len(insert[0].encode()) :]
            written = engine.insert(insert, data, settings=settings)
            self._send(200, b"", "text/plain", {"X-ClickHouse-Summary": json.dumps({"written_rows": str(written)})})
            return
        sql = "\n".join(filter(None, (values.get("query", ""), body.decode("utf-8", "replace")))).rstrip("; \r\n")
        parameters = {name[6:]: text for name, text in values.items() if name.startswith("param_")}
        own = FORMAT.search(sql)
        format_ = (
            own[1] if own else values.get("default_format", self.headers.get("X-ClickHouse-Format", "TabSeparated"))
        )
        answer = engine.select(sql, parameters=parameters, settings=settings, format_=format_)
        self._send(200, answer, "application/octet-stream", {"X-ClickHouse-Format": format_})

    def _authentic(self, values: Mapping[str, str]) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            given = _password(given)
        shown = self.headers.get("X-ClickHouse-Key") or given or values.get("password", "")
        return hmac.compare_digest(shown.encode(), self.server.token.encode())

    def _read(self, length: int) -> bytes:
        if not 0 <= length <= MOST_BODY:
            raise ValueError(length)
        body = self.rfile.read(length)
        if len(body) < length:
            raise EOFError
        return body

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            body += self._read(min(size, MOST_BODY - len(body) + 1))
            if len(body) > MOST_BODY:
                raise ValueError(len(body))
            self.rfile.readline(8)
        while self.rfile.readline(1024).strip():
            pass
        return bytes(body)

    def _refuse(self, refusal: Refusal, *, status: int) -> None:
        headers = {"X-ClickHouse-Exception-Code": str(refusal.code)}
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="ciranda collector"'
        self._send(status, f"{refusal}\n".encode(), "text/plain; charset=UTF-8", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(body)), "X-ClickHouse-Timezone": "UTC"}
        for name, value in {**fixed, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: their text holds what users said."""


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _form(kind: str, body: bytes) -> dict[str, str]:
    """The fields of a form. A field with a file name is external data, which is not taken here."""
    found = BOUNDARY.search(kind)
    mark = b"--" + (found[1] if found else "").encode()
    fields: dict[str, str] = {}
    for part in body.split(mark)[1:-1]:
        head = FIELD.match(part, 2)
        if head is None or not part.endswith(b"\r\n"):
            raise Refusal(1000, "a form may hold named fields of text and nothing else")
        fields[head[1].decode("utf-8", "replace")] = part[head.end() : -2].decode("utf-8", "replace")
    return fields


def _head(body: bytes) -> str:
    return body[:4096].decode("utf-8", "replace").split("\n", 1)[0] + "\n"


def _plain(body: bytes, encoding: str) -> bytes:
    """A body as it was before its sender compressed it; lz4 comes with clickhouse-connect, which sends it."""
    try:
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding == "lz4":
            import lz4.frame  # type: ignore[import-untyped]

            return bytes(lz4.frame.decompress(body))
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise Refusal(271, f"the body cannot be decompressed from {encoding}: {error}") from error
    if encoding not in ("", "identity"):
        raise Refusal(271, f"bodies may be plain, gzip or lz4, not {encoding[:20]}")
    return body
