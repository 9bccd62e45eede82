"""Errors as MLflow's clients know them, `{"error_code", "message"}`, and the shape of what they may ask.

Fields that this door does not know are left alone: a newer client may send more. What it does not do at all is refused by name
(`NOT_IMPLEMENTED`), never pretended.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from ciranda.errors import (
    CirandaError,
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from ciranda.web.api.door import RETRY_AFTER_S, Call, Dialect, Rest, json_of

PREFIX = "/mlflow/api/2.0"
CODES: tuple[tuple[type[CirandaError], str], ...] = (
    (Invalid, "INVALID_PARAMETER_VALUE"),
    (TooLarge, "INVALID_PARAMETER_VALUE"),
    (Unauthenticated, "UNAUTHENTICATED"),
    (Forbidden, "PERMISSION_DENIED"),
    (NotFound, "RESOURCE_DOES_NOT_EXIST"),
    (Conflict, "RESOURCE_ALREADY_EXISTS"),
    (Refused, "INVALID_STATE"),
    (LimitReached, "RESOURCE_EXHAUSTED"),
    (Unavailable, "TEMPORARILY_UNAVAILABLE"),
)
STATUS = {Conflict: 400, Refused: 400, LimitReached: 400}  # 429 would be tried again for minutes


class Undone(Invalid):
    """What this door does not do."""

    status = 501


class NoAddress(NotFound):
    """No such endpoint."""


class Lenient(BaseModel):
    """A request; what is not known is not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Nothing(Lenient):
    """A request without fields."""


def tenant_of(call: Call[Any]) -> str:
    return call.principal.tenant


def code_of(error: CirandaError) -> str:
    """MLflow's name of an error."""
    if isinstance(error, Undone):
        return "NOT_IMPLEMENTED"
    if isinstance(error, NoAddress):
        return "ENDPOINT_NOT_FOUND"
    return next((code for kind, code in CODES if isinstance(error, kind)), "INTERNAL_ERROR")


def problem(error: CirandaError, number: str) -> Response:
    """An error as the door sends it."""
    message = ". ".join(part.rstrip(".") for part in (error.message, error.remedy) if part)
    status = STATUS.get(type(error), error.status)
    answer = json_of({"error_code": code_of(error), "message": message}, status, number)
    if error.retry and status >= 500:
        answer.headers["retry-after"] = RETRY_AFTER_S
    if status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


def _nothing(method: str, path: str, others: list[str]) -> CirandaError:
    told = f"it takes {', '.join(others)}" if others else "docs/mlflow.md lists what this door does"
    return NoAddress(f"{method} {path} is not done here", where="MLflow's tracking door", remedy=told)


def _invalid(error: ValidationError, rest: Rest) -> CirandaError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return Invalid(
            f"Missing value for required parameter '{name}'", where=rest.path, remedy="send it; see docs/mlflow.md"
        )
    said = first["msg"].removeprefix("Value error, ")
    return Invalid(f"Invalid value for parameter '{name}': {said}", where=rest.path, remedy=f"correct '{name}'")


DIALECT = Dialect(PREFIX, problem, _nothing, _invalid)
