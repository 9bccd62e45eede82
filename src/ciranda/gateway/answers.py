"""Answers that the gateway gives itself: errors in OpenAI's shape, so that its official clients raise their own types.

`{"error": {"message", "type", "param", "code"}}` with the right status, `x-request-id` on every one and `retry-after` where
waiting helps. Messages say what to do; `where` stays inside, since it may name paths of this machine.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from ciranda.errors import (
    CirandaError,
    Failed,
    Forbidden,
    LimitReached,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
NO_RETRY = b"x-should-retry: false\r\n"

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

    status, retry = 502, True


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

    status, kind = 408, "invalid_request_error"


class HeadersTooLarge(TooLarge):
    """More header bytes than the bound."""

    status = 431


class WrongMethod(CirandaError):
    """The path exists, but not for this method."""

    status, kind = 405, "invalid_request_error"


class UnknownPath(NotFound):
    """No endpoint has this path."""


_CODES[UnknownPath] = "unknown_url"
_CODES[Throttled] = "rate_limit_exceeded"
_CODES[QuotaExceeded] = "insufficient_quota"


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


def event_of(error: CirandaError) -> bytes:
    """The error inside a stream that has begun: what a client raises as `APIError`."""
    return b"data: " + body_of(error) + b"\n\n"


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
