"""Errors as OpenAI's API has them: `{"error": {"message", "type", "param", "code"}}`, so that its client raises its own types.

What our errors say of a place stays inside, since it may name paths of this machine; the remedy is part of the message.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from ciranda.errors import CirandaError, Conflict, Forbidden, Invalid, NotFound, Refused, TooLarge, Unauthenticated
from ciranda.gateway import answers
from ciranda.web.api.door import RETRY_AFTER_S, Dialect, Rest

PREFIX = "/v1"
CODES: dict[type[CirandaError], str] = {
    Unauthenticated: "invalid_api_key",
    Forbidden: "insufficient_permissions",
    TooLarge: "request_too_large",
}
STATUS = {Conflict: 400, Refused: 400}  # which that API has no status of its own for


class Wrong(Invalid):
    """A field of a request is wrong: `param` names it, `code` says how."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, remedy: str = "") -> None:
        super().__init__(message, where="the fine-tuning door", remedy=remedy)
        self.param, self.code = param, code


class Missing(NotFound):
    """No object of that id, for this key; `param` names what the client called it."""

    def __init__(self, message: str, *, param: str, code: str | None = None) -> None:
        super().__init__(message, where="the fine-tuning door", remedy="")
        self.param, self.code = param, code


def problem(error: CirandaError, number: str) -> Response:
    """An error as the door sends it."""
    status = STATUS.get(type(error), error.status)
    code = getattr(error, "code", None) or CODES.get(type(error))
    message = ". ".join(part.rstrip(".") for part in (error.message, error.remedy) if part)
    kind = answers.kind_of(status)
    answer = Response(
        answers.shape(message, kind, code, error.param), status_code=status, media_type="application/json",
        headers={"x-request-id": number, "cache-control": "no-store"},
    )  # fmt: skip
    if error.retry:
        answer.headers["retry-after"] = RETRY_AFTER_S
    elif status < 500:
        answer.headers["x-should-retry"] = "false"
    if status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


def _nothing(method: str, path: str, others: list[str]) -> CirandaError:
    told = f"; it takes {', '.join(others)}" if others else ""
    return NoAddress(f"Invalid URL ({method} {path}){told}")


class NoAddress(NotFound):
    """No such address."""

    code = "unknown_url"

    def __init__(self, message: str) -> None:
        super().__init__(message, where="the fine-tuning door", remedy="")


def _invalid(error: ValidationError, rest: Rest) -> CirandaError:
    """The first thing that is wrong, in the words that the official API has for it."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    if first["type"] == "extra_forbidden":
        return Wrong(f"Unknown parameter: '{name}'", param=name, code="unknown_parameter")
    if first["type"] == "missing":
        return Wrong(f"Missing required parameter: '{name}'", param=name, code="missing_required_parameter")
    said, shown = first["msg"].removeprefix("Value error, "), repr(first["input"])[:100]
    kind = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return Wrong(f"Invalid value for '{name}': {said} (got {shown})", param=name or None, code=kind)


def _is_branch(part: Any) -> bool:
    """Of a union's branches, which pydantic names in the place of an error."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-")) or part in ("int", "float"))


DIALECT = Dialect(PREFIX, problem, _nothing, _invalid)
