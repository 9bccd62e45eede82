"""The line to a running Ciranda: control's REST API and the gateway, over the standard library's HTTP.

A rich HTTP library costs 130 ms at import, which is felt at every command; this needs a few calls only. Errors come back as the
same classes that the server raised, so that the exit code is the same here and there. It refuses to follow redirects and reads no
proxy settings: a key is sent to the address that was asked for, and to no other.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from ciranda.errors import CirandaError, Failed, Invalid, Unavailable

PREFIX = "/api/v1"
SECONDS = 600.0  # an ingestion answers when it is done
LONGEST = 64 << 20
PIECE = 1 << 18


@dataclass(frozen=True)
class Answer:
    """The head of an answer that is being read."""

    status: int
    headers: Mapping[str, str]
    response: http.client.HTTPResponse = field(repr=False)


@dataclass(frozen=True)
class Client:
    """One server and the key for it.

    Args:
        url: Where it listens, such as http://127.0.0.1:7700.
        key: The secret; it is sent with every call and shown nowhere.
        remedy: What to do when nobody answers.
    """

    url: str
    key: str = field(repr=False)
    remedy: str = "start it with `ciranda up`"

    def get(self, path: str, **query: Any) -> Any:
        """Ask control."""
        chosen = {name: value for name, value in query.items() if value not in (None, "")}
        return self._json("GET", PREFIX + path + (f"?{urlencode(chosen)}" if chosen else ""), None, {})

    def download(self, path: str, **query: Any) -> Iterator[bytes]:
        """Ask control for a file, and read it while it comes; one that was cut raises Unavailable."""
        chosen = {name: value for name, value in query.items() if value not in (None, "")}
        with self._open("GET", f"{PREFIX}{path}?{urlencode(chosen)}", None, {}) as answer:
            if answer.status >= 300:
                raise _error(answer, self._read(answer))
            while piece := answer.response.read(PIECE):
                yield piece

    def upload(self, path: str, file: IO[bytes], size: int, **query: Any) -> Any:
        """Send control a file as it is, read while it goes."""
        chosen = {name: value for name, value in query.items() if value not in (None, "")}
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        return self._json("POST", PREFIX + path + (f"?{urlencode(chosen)}" if chosen else ""), file, headers)

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str = "") -> Any:
        """Ask control to do something; `key` makes doing it twice the same as once."""
        return self._json("POST", PREFIX + path, body or {}, {"idempotency-key": key} if key else {})

    def send(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Post to the gateway."""
        return self._json("POST", path, body, headers or {})

    @contextmanager
    def stream(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Post to the gateway, and read the answer while it comes."""
        with self._open("POST", path, body, headers or {}) as answer:
            if answer.status >= 400:
                raise _error(answer, self._read(answer))
            yield answer

    def _json(
        self, method: str, path: str, body: Mapping[str, Any] | IO[bytes] | None, headers: Mapping[str, str]
    ) -> Any:
        with self._open(method, path, body, headers) as answer:
            content = self._read(answer)
            if answer.status >= 300:
                raise _error(answer, content)
        try:
            return json.loads(content)
        except ValueError:
            raise Failed(
                f"{self.url}{path} answered no JSON", where=self.url, remedy="is this the address of control?"
            ) from None

    @contextmanager
    def _open(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Iterator[Answer]:
        connection, root = self._connection()
        sent = {"authorization": f"Bearer {self.key}", "accept": "application/json", **headers}
        if isinstance(body, Mapping):
            sent["content-type"], body = "application/json", json.dumps(body)
        try:
            connection.request(method, root + path, body, sent)
            response = connection.getresponse()
            yield Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response)
        except (ConnectionError, socket.gaierror, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
            raise self._away(error) from None
        finally:
            connection.close()

    def _connection(self) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{self.url!r} is no address", where="--url", remedy="write it as https://host:port")
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=SECONDS), parts.path.rstrip("/")
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS), parts.path.rstrip("/")

    def _read(self, answer: Answer) -> bytes:
        content = answer.response.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise Failed(f"an answer of over {LONGEST} bytes", where=self.url, remedy="ask for less: a page, a filter")
        return content

    def _away(self, error: Exception) -> Unavailable:
        if isinstance(error, http.client.IncompleteRead):
            return Unavailable("the answer was cut in the middle", where=self.url, remedy="ask again")
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Unavailable(f"nobody answers at {self.url} ({reason})", where=self.url, remedy=self.remedy)


def part(name: str) -> str:
    """A name as one part of a path; `@` and `:` stay as they are."""
    return quote(name, safe="@:")


def tree(root: type[CirandaError] = CirandaError) -> Iterator[type[CirandaError]]:
    """Every error class of `ciranda.errors`. A narrower one of a module is for that module; over a wire it is its parent."""
    for child in root.__subclasses__():
        if child.__module__ == CirandaError.__module__:
            yield child
            yield from tree(child)


def _error(answer: Answer, content: bytes) -> CirandaError:
    """The error that the server sent, as the class that it was there."""
    try:
        told = json.loads(content)["error"]
        told = told if isinstance(told, dict) else {"message": str(told)}
    except (ValueError, KeyError, TypeError):
        told = {"message": f"HTTP status {answer.status} without a reason"}
    return rebuilt(told, answer.status, answer.headers.get("x-request-id", ""))


def rebuilt(told: Mapping[str, Any], status: int, request: str = "") -> CirandaError:
    """An error from its JSON: by its class name, else (the gateway speaks OpenAI's dialect) by its status."""
    named = {one.__name__: one for one in tree()}
    by_status = {one.status: one for one in tree()}
    kind = named.get(str(told.get("code"))) or by_status.get(status, Unavailable if status >= 502 else Failed)
    where = str(told.get("where") or told.get("param") or "")
    place = f"{where} (request {request})" if request and status >= 500 else where
    return kind(str(told.get("message", "")), where=place, remedy=str(told.get("remedy") or ""))
