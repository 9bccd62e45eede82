"""The Starlette application: routes, the door in front of them, and what a wrong request gets.

Every address is one `Entry` of `pages`. The door knows who asks (or sends them to sign in), puts the security headers on every
answer and a request id into each. Errors of ours become a page with what, where and the remedy; a bug becomes a page with the
id that the log carries. Live streams end with the process. Without the built browser files, one plain page says how to build
them, and the REST API works all the same.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ciranda.errors import CirandaError, NotFound, TooLarge, Unauthenticated
from ciranda.govern.access import Principal
from ciranda.loop.platform import Platform
from ciranda.store import ids
from ciranda.web import api, mlflow, openai, pages
from ciranda.web.assets import Assets, headers
from ciranda.web.page import Entry, Page, Site
from ciranda.web.session import Session, Sessions, refuse_foreign, secret_of
from ciranda.web.stream import Hub, Streams
from ciranda.web.verbs import Verbs
from ciranda.web.views.reader import Reader
from ciranda.web.views.stored import Stored
from ciranda.web.wiring import Wired

MAX_FORM = 64 * 1024
LOG = logging.getLogger(__name__)
POLICY = "; ".join(
    (
        "default-src 'self'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "font-src 'self'",
        "connect-src 'self'", "worker-src 'self'", "object-src 'none'", "base-uri 'none'", "form-action 'self'",
        "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types htmx ciranda",
    )
)  # fmt: skip
SECURE = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
UNBUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Ciranda: the pages are not built</title>
<h1>The pages are not built</h1>
<p>This installation has the REST API only (<code>/api/v1</code>): the browser's files were left out.</p>
<p>To build them, run <code>pip install --force-reinstall --no-deps ./</code> in the project's folder without
<code>CIRANDA_SKIP_UI</code>, or <code>python hatch_build.py</code> in a checkout, then restart.</p></html>"""


class Door:
    """Middleware: who asks, a request id, and the security headers on every answer."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app, self.sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        scope["request_id"] = ids.new("req")
        if request.cookies and not request.url.path.startswith("/static/"):
            found = await run_in_threadpool(self.sessions.principal_of, request)
            if found:
                scope["principal"], scope["session"] = found
        await self.app(scope, receive, partial(self._send, send, scope))

    async def _send(self, send: Send, scope: Scope, message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            extra = {**SECURE, "x-request-id": scope["request_id"]}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in given),
            ]
        await send(message)


class Compress(GZipMiddleware):
    """Middleware: compression of pages; never of a stream, whose points it would hold back, with a compressor's memory each."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/stream"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create(platform: Platform, *, reader: Reader | None = None, verbs: Verbs | None = None) -> Starlette:
    """The application of one home.

    Args:
        platform: The opened home.
        reader: What the pages show; by default it is read from the platform.
        verbs: What the buttons do; by default the verbs of the loop.
    """
    read, do = reader or Stored(platform), verbs or Wired(platform)
    sessions = Sessions(platform.db, secret_of(platform.home.path), hours=platform.settings.session_hours)
    site = Site(read, do, sessions, Assets(), platform.settings, Hub(read))
    entries = pages.ENTRIES if site.assets.complete else ()
    routes: list[BaseRoute] = [
        *api.routes(platform),
        *openai.routes(platform),
        *mlflow.routes(platform),
        Route("/static/{name}", partial(static, site.assets), name="static"),
        Route("/stream", Streams(site.hub), name="stream"),
        *(_route(site, entry) for entry in entries),
    ]
    if not site.assets.complete:
        routes.append(Route("/{path:path}", unbuilt, name="unbuilt"))
    app = Starlette(
        routes=routes,
        lifespan=partial(_lifespan, site.hub),
        middleware=[Middleware(Door, sessions=sessions), Middleware(Compress, minimum_size=500, compresslevel=6)],
        exception_handlers={
            CirandaError: partial(_failed, site),
            HTTPException: partial(_missing, site),
            Exception: _broken,
        },
    )
    app.state.site = site
    return app


@contextlib.asynccontextmanager
async def _lifespan(hub: Hub, _app: Starlette) -> AsyncIterator[None]:
    yield
    hub.close()


def _route(site: Site, entry: Entry) -> Route:
    methods = (["GET"] if entry.read else []) + (["POST"] if entry.write else [])
    return Route(entry.path, partial(_serve, site, entry), methods=methods, name=entry.name)


async def _serve(site: Site, entry: Entry, request: Request) -> Response:
    """Admit, then answer on a thread, since what is read is read synchronously."""
    page = page_of(site, request)
    page.section = entry.section
    if not entry.open and not page.signed_in:
        return _to_sign_in(page)
    if request.method != "POST":
        return await run_in_threadpool(_read, page, entry)
    refuse_foreign(request)
    form = await _form(request)
    return await run_in_threadpool(_write, page, entry, form)


def _read(page: Page, entry: Entry) -> Response:
    assert entry.read is not None
    if not entry.open:
        page.require(entry.right, _model_of(page.request))
    return entry.read(page)


def _write(page: Page, entry: Entry, form: dict[str, str]) -> Response:
    assert entry.write is not None
    page.site.sessions.check(page.session.id if page.session else "", form.get("token", ""))
    if not entry.open:
        page.require(entry.does, _model_of(page.request))
    return entry.write(page, form)


def _model_of(request: Request) -> str:
    """The model that an address is about; a version names its own."""
    named = request.path_params.get("model") or request.path_params.get("version", "").rpartition("@")[0]
    return str(named)


def page_of(site: Site, request: Request) -> Page:
    who: Principal | None = request.scope.get("principal")
    session: Session | None = request.scope.get("session")
    return Page(site, request, who, session)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form, refused as soon as it is too long."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_FORM:
            raise TooLarge(f"the form is over {MAX_FORM} bytes", where=request.url.path, remedy="send less text")
        pieces.append(piece)
    text = b"".join(pieces).decode("utf-8", "replace")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=200))


def _to_sign_in(page: Page) -> Response:
    """Nobody is signed in: to the door, and back here after it.

    A link from another site arrives without the strict cookie; one reload of ours brings it along.
    """
    request = page.request
    there = page.url("sign_in", {"next": page.here} if request.method == "GET" else None)
    if page.fragment:
        return Response(status_code=401, headers={"hx-redirect": there})
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        again = quote(page.here, safe="/?&=%@:.,+-_~")
        return HTMLResponse(f'<!doctype html><meta http-equiv="refresh" content="0;url={again}"><title>Ciranda</title>')
    return RedirectResponse(there, status_code=303)


async def static(assets: Assets, request: Request) -> Response:
    """A file by its hashed name, for ever."""
    asset = assets.files.get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("no such file; reload the page", status_code=404)
    body, given = headers(asset, request.headers.get("accept-encoding", ""))
    return Response(body, headers=dict(given))


async def unbuilt(_request: Request) -> Response:
    return HTMLResponse(UNBUILT, status_code=503)


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _failed(site: Site, request: Request, error: Exception) -> Response:
    assert isinstance(error, CirandaError)
    page = page_of(site, request)
    if isinstance(error, Unauthenticated) and not page.signed_in:
        return _to_sign_in(page)
    return await run_in_threadpool(_problem, page, error)


async def _missing(site: Site, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told: CirandaError = NotFound(f"no page {request.url.path}", where="address", remedy="start from the overview")
    if error.status_code == 405:
        told = NotFound(f"{request.url.path} does not take {request.method}", where="address", remedy="use its page")
    page = page_of(site, request)
    if not page.signed_in:
        return _to_sign_in(page)
    return await run_in_threadpool(_problem, page, told, error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """The HTTP edge: a bug becomes an id to look for. Plain text, since what failed may be the drawing of pages."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    number = request.scope.get("request_id", "")
    LOG.error("%s %s failed (%s)", request.method, request.url.path, number, exc_info=error)
    told = (
        f"Ciranda failed on this page ({type(error).__name__}). "
        f"Try again; if it stays, look for {number} in logs/control.log in the home."
    )
    return PlainTextResponse(told, status_code=500, headers={**SECURE, "x-request-id": number})


def _problem(page: Page, error: CirandaError, status: int = 0) -> Response:
    values: dict[str, Any] = {"error": error, "request_id": page.request.scope.get("request_id", "")}
    if not page.site.assets.complete:
        return PlainTextResponse(str(error), status_code=status or error.status)
    template = "pages/error.html" if page.signed_in else "pages/error_door.html"
    return page.render(template, status=status or error.status, **values)
