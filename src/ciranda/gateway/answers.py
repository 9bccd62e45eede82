"""Answers that the gateway gives itself: errors in the shape of the API that was asked, so that its official clients raise
their own types.

`{"error": {"message", "type", "param", "code"}}` with the right status, `x-request-id` on every one and `retry-after` where
waiting helps. Messages say what to do; `where` stays inside, since it may name paths of this machine. Every error is made in
OpenAI's shape first, which is what records hold; `spoken` turns it into Anthropic's for those who speak that.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import (
    CirandaError,
    Failed,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from ciranda.gateway.server import Request

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
NO_RETRY = b"x-should-retry: false\r\n"
PING = b": ping\n\n"  # a comment, which every reader of events passes over

_CODES: dict[type[CirandaError], str] = {
    Unauthenticated: "invalid_api_key",
    Forbidden: "insufficient_permissions",
    NotFound: "model_not_found",
    TooLarge: "request_too_large",
    LimitReached: "rate_limit_exceeded",
    Unavailable: "engine_unavailable",
    StorageFull: "storage_full",
}


class UpstreamFailed(Failed):
    """The engine broke: it gave no answer, half of one, or nonsense."""

    status = 502
    retry = True


class UpstreamSlow(Failed):
    """The engine did not answer in time."""

    status = 504


class Throttled(LimitReached):
    """A rate, or too many at the same time.

    Args:
        unit: What there is too much of: the `type` of OpenAI's error.
        after_s: When it may fit.
        lines: Header lines that say how much is left.
        hopeless: Whether waiting does not help.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str,
        unit: str = "",
        after_s: float = 1.0,
        lines: bytes = b"",
        hopeless: bool = False,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.type = unit
        self.lines = lines + (NO_RETRY if hopeless else after(after_s))


class QuotaExceeded(LimitReached):
    """A budget is spent: nothing that a client's retries could help."""

    retry = False

    def __init__(self, message: str, *, remedy: str, after_s: float) -> None:
        super().__init__(message, remedy=remedy)
        self.type = "insufficient_quota"
        self.lines = NO_RETRY + after(after_s)


def after(seconds: float) -> bytes:
    """When to come back: whole seconds for everybody, and milliseconds for OpenAI's clients."""
    milliseconds = max(1, round(seconds * 1000))
    return b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-(-milliseconds // 1000), milliseconds)


class TimedOut(CirandaError):
    """The client did not send its request in time."""

    status = 408
    kind = "invalid_request_error"


class HeadersTooLarge(TooLarge):
    """More header bytes than the bound."""

    status = 431


class WrongMethod(CirandaError):
    """The path exists, but not for this method."""

    status = 405
    kind = "invalid_request_error"


class UnknownPath(NotFound):
    """No endpoint has this path."""


class BadField(Invalid):
    """One field of the request is wrong; `param` names it."""

    def __init__(self, message: str, *, param: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.param = param


class Unsupported(BadField):
    """A field asks for what this gateway does not do; `param` names it."""


_CODES[UnknownPath] = "unknown_url"
_CODES[Throttled] = "rate_limit_exceeded"
_CODES[QuotaExceeded] = "insufficient_quota"
_CODES[Unsupported] = "unsupported_value"


def status_line(status: int) -> bytes:
    """The first line of an answer, also for a status that nobody registered."""
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


def body_of(error: CirandaError, *, code: str | None = None, param: str | None = None) -> bytes:
    """The error as a body."""
    message = f"{error.message}. {error.remedy}" if error.remedy else error.message
    kind = getattr(error, "type", "") or kind_of(error.status)
    return shape(message, kind, code or _CODES.get(type(error)), param or error.param)


def shape(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """OpenAI's error object."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def kind_of(status: int) -> str:
    """The `type` that OpenAI gives with a status."""
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def headers_of(error: CirandaError) -> bytes:
    """The header lines that belong to an error: when to come back, or that coming back is useless."""
    if isinstance(error, Throttled | QuotaExceeded):
        return JSON + error.lines
    if error.retry:
        return JSON + b"retry-after: 1\r\n"
    return JSON + NO_RETRY if error.status < 500 and error.status != 408 else JSON


def passed_on(headers: dict[bytes, bytes]) -> bytes:
    """What an engine said of when to come back, as header lines."""
    names = (b"retry-after", b"retry-after-ms")
    return b"".join(b"%b: %b\r\n" % (name, headers[name]) for name in names if name in headers)


def normal(body: bytes, status: int) -> bytes:
    """An engine's error body in OpenAI's shape, whatever it sent."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    error = fields.get("error", fields) if isinstance(fields, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {"message": body[:500].decode("utf-8", "replace") or f"the engine answered {status}"}
    code, kind, param = error.get("code"), error.get("type"), error.get("param")
    return shape(
        str(error.get("message") or error.get("detail") or f"the engine answered {status}"),
        kind if isinstance(kind, str) else kind_of(status),
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
    )


# Anthropic's names of a status; what is not here is `api_error` from 500 on, else `invalid_request_error`.
_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic(request: Request) -> bool:
    """Whether this client speaks Anthropic's dialect: by its endpoint, or by the header that its client always sends."""
    return request.path.startswith(b"/v1/messages") or b"anthropic-version" in request.headers


def spoken(request: Request, shown: bytes, status: int) -> bytes:
    """An error body, in OpenAI's shape as `shape` made it, in the dialect of who asked."""
    return anthropic_error(shown, status, request.request_id) if anthropic(request) else shown


def anthropic_error(shown: bytes, status: int, request_id: bytes) -> bytes:
    """The same error in Anthropic's shape."""
    kind = _ANTHROPIC.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": msgspec.json.decode(shown)["error"]["message"]}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id.decode("latin-1")})
