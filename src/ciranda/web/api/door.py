"""The edge of the REST API: who asks, may they, what do they ask, and the answer or the error as JSON.

Every route is one line of a table (`Rest`), so that the method, the path, the right and the shape of what may be sent can be
tested and printed without running anything. A loader is a plain function on a `Call`; it runs on a thread, since the database is
synchronous. A body is read up to a bound before it is parsed, and must say that it is JSON, which a form of another site cannot.
Errors are the one tree of `ciranda.errors`, with the id that the log carries. This is one of the two places that catch everything.

Doors of other tables (OpenAI's fine-tuning, MLflow's tracking) are the same edge with another `Dialect`: another prefix, and errors
in the shape that their clients know. A route with a `reader` takes its body itself, in pieces, after its caller was admitted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ciranda.errors import CirandaError, Failed, Invalid, NotFound, TooLarge, Unauthenticated
from ciranda.govern import access
from ciranda.govern.access import Principal
from ciranda.loop.platform import Platform
from ciranda.store import ids
from ciranda.web import session

PREFIX = "/api/v1"
MAX_BODY = 1 << 20
RETRY_AFTER_S = "1"
LOG = logging.getLogger(__name__)

Asked = TypeVar("Asked", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[Asked]):
    """One request, admitted and validated. `asked` is the query string of a GET, the body of a POST."""

    platform: Platform
    principal: Principal
    path: Mapping[str, str]
    asked: Asked
    key: str = ""  # the Idempotency-Key header
    origin: str = ""  # this site as the caller reached it

    @property
    def actor(self) -> str:
        """The name that the audit log gives to whoever asks."""
        return self.principal.name

    @property
    def reach(self) -> tuple[str, ...] | None:
        """The models that the key is limited to; None when it reaches all of them."""
        return None if "*" in self.principal.models else self.principal.models

    def reaches(self, model: str) -> bool:
        return self.reach is None or model in self.reach

    def require(self, model: str, *, right: str = "view") -> None:
        """Raise Forbidden unless the key has the right on this model."""
        access.require(self.principal, right, model)


@dataclass(frozen=True)
class Rest:
    """One route. `right` is checked before anything of the request is read; a `{model}` in the path limits it to that model."""

    method: str
    path: str
    right: str
    loader: Callable[[Call[Any]], Any]
    asks: type[BaseModel]
    summary: str
    status: int = 200
    reader: Callable[[Platform, Request], Awaitable[Any]] | None = None


@dataclass(frozen=True)
class Dialect:
    """How one table of routes is spoken.

    Args:
        prefix: What stands before its paths.
        problem: An error as its clients know it, with the request's id.
        nothing: The error for an address that the table has not.
        invalid: The error for a query or a body that is not as the route wants it.
    """

    prefix: str
    problem: Callable[[CirandaError, str], Response]
    nothing: Callable[[str, str, list[str]], CirandaError]
    invalid: Callable[[ValidationError, Rest], CirandaError]


def mounted(platform: Platform, table: Iterable[Rest], dialect: Dialect | None = None) -> list[Route]:
    """The table as Starlette routes, and one behind them that answers for every other address below the prefix."""
    spoken, known = dialect or OURS, list(table)
    routes = [
        Route(spoken.prefix + rest.path, partial(_answer, platform, rest, spoken), methods=[rest.method])
        for rest in known
    ]
    others = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [*routes, Route(spoken.prefix + "/{rest:path}", partial(_nothing, known, spoken), methods=others)]


async def alive(_request: Request) -> Response:
    """That this process answers. It says nothing else, so it needs no key."""
    return Response("ok\n", media_type="text/plain")


async def _answer(platform: Platform, rest: Rest, dialect: Dialect, request: Request) -> Response:
    number = request.scope.get("request_id") or ids.new("req")
    problem = dialect.problem
    try:
        principal = await run_in_threadpool(_admit, platform, rest, request)
        given = await rest.reader(platform, request) if rest.reader else await _asked(rest, request)
        asked = rest.asks.model_validate(given)
        key = request.headers.get("idempotency-key", "")[:200]
        origin = str(request.base_url).rstrip("/")
        call = Call(platform, principal, dict(request.path_params), asked, key, origin)
        found = await run_in_threadpool(rest.loader, call)
        return found if isinstance(found, Response) else json_of(found, rest.status, number)
    except CirandaError as error:
        return problem(error, number)
    except ValidationError as error:
        return problem(dialect.invalid(error, rest), number)
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        LOG.exception("%s %s failed (%s)", rest.method, request.url.path, number)
        told = Failed(
            f"{rest.method} {request.url.path} failed inside: {type(error).__name__}",
            where="control",
            remedy=f"look for {number} in logs/control.log in the home",
        )
        return problem(told, number)


async def _nothing(table: list[Rest], dialect: Dialect, request: Request) -> Response:
    """An address or a method that the table has not."""
    path = request.path_params["rest"]
    others = sorted({rest.method for rest in table if _same(rest.path, f"/{path}")})
    error = dialect.nothing(request.method, f"{dialect.prefix}/{path}", others)
    return dialect.problem(error, request.scope.get("request_id") or ids.new("req"))


def _no_route(method: str, path: str, others: list[str]) -> CirandaError:
    return NotFound(
        f"no route {method} {path}",
        where="the REST API",
        remedy=f"it takes {', '.join(others)}" if others else "docs/rest.md lists every route",
    )


def _same(pattern: str, path: str) -> bool:
    wanted, given = pattern.split("/"), path.split("/")
    return len(wanted) == len(given) and all(
        one == two or one[:1] == "{" for one, two in zip(wanted, given, strict=True)
    )


def _admit(platform: Platform, rest: Rest, request: Request) -> Principal:
    """Who asks: the page's session when the pages put it into the scope, else the key. Then whether they may."""
    principal = request.scope.get("principal")
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        principal = access.check(platform.db, secret.strip())
    elif isinstance(principal, Principal):
        if rest.method != "GET":
            session.refuse_foreign(request)
    else:
        raise Unauthenticated(
            "no key was sent",
            where="Authorization: Bearer …",
            remedy="send the key that `ciranda up` printed at its first start, or one from `ciranda keys create`",
        )
    access.require(principal, rest.right, request.path_params.get("model", ""))
    return principal


async def _asked(rest: Rest, request: Request) -> dict[str, Any]:
    if rest.method == "GET":
        return {name: value for name, value in request.query_params.items() if value != ""}
    body = await _body(request)
    said = request.headers.get("content-type", "nothing")
    if body and "application/json" not in said:
        raise Invalid(
            f"the body says it is {said[:100]}",
            where="header content-type",
            remedy="send JSON with `content-type: application/json`",
        )
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is no valid JSON: {error}", where="body", remedy="send one JSON object") from None
    if not isinstance(value, dict):
        raise Invalid(f"the body is a {type(value).__name__}", where="body", remedy="send one JSON object") from None
    return value


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is over the bound, whatever its length said."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY:
            raise TooLarge(
                f"the body is over {MAX_BODY} bytes", where="body", remedy="send less, or the files in several calls"
            )
        pieces.append(piece)
    return b"".join(pieces)


def _invalid(error: ValidationError, rest: Rest) -> Invalid:
    """The first thing that is wrong with a query or a body, and what would be right."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    place = "query" if rest.method == "GET" else "body"
    known = ", ".join(rest.asks.model_fields) or "nothing"
    if first["type"] == "extra_forbidden":
        return Invalid(f"unknown field {name!r}", where=f"{place} of {rest.path}", remedy=f"this route takes {known}")
    if first["type"] == "missing":
        return Invalid(
            f"field {name!r} is missing", where=f"{place} of {rest.path}", remedy=f"this route takes {known}"
        )
    said = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])[:100]
    return Invalid(f"{name}: {said} (got {shown})", where=f"{place} of {rest.path}", remedy=f"correct {name!r}")


def problem(error: CirandaError, number: str) -> Response:
    """An error as the API sends it."""
    answer = json_of({"error": error.to_dict(), "request_id": number}, error.status, number)
    if error.retry:
        answer.headers["retry-after"] = RETRY_AFTER_S
    if error.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


OURS = Dialect(PREFIX, problem, _no_route, _invalid)


def json_of(value: Any, status: int, number: str) -> Response:
    """Any value of ours as JSON: dataclasses as objects, times as text, and NaN, which JSON does not know, as null."""
    headers = {"x-request-id": number, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    content = to_json(value, inf_nan_mode="null", bytes_mode="utf8")
    return Response(content, status_code=status, headers=headers, media_type="application/json")
