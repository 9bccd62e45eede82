"""One request for a page: who asks, in which language, for what; and the answer, as a whole page or as a fragment.

A route is one line, `Entry`: path, name, the right it needs, the function that answers. Deny by default: an entry without a
right does not exist (`open` ones, such as the sign-in, say so), and a model in the path is checked against the key's models.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ciranda.config import Settings
from ciranda.govern import access
from ciranda.govern.access import Principal
from ciranda.store import ids
from ciranda.web import i18n, render
from ciranda.web.assets import Assets
from ciranda.web.formats import Formats
from ciranda.web.session import COOKIE, Session, Sessions, decodes
from ciranda.web.stream import Hub
from ciranda.web.verbs import Verbs
from ciranda.web.views.reader import Reader
from ciranda.web.words import Words

LANGUAGE, THEME, ZONE, KEYS, FLASH = "ciranda_lang", "ciranda_theme", "ciranda_zone", "ciranda_keys", "ciranda_flash"
YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True)
class Site:
    """What all requests share."""

    reader: Reader
    verbs: Verbs
    sessions: Sessions
    assets: Assets
    settings: Settings
    hub: Hub


class Page:
    """One request, and how to answer it."""

    def __init__(self, site: Site, request: Request, who: Principal | None, session: Session | None) -> None:
        self.site, self.request = site, request
        self.reader, self.verbs = site.reader, site.verbs
        self._who, self.session = who, session
        cookies = request.cookies
        self.tag = i18n.negotiate(cookies.get(LANGUAGE, ""), request.headers.get("accept-language", ""))
        self.theme = cookies.get(THEME, "") if cookies.get(THEME) in ("light", "dark") else ""
        self.keys = "off" if cookies.get(KEYS) == "off" else "on"
        self.formats = Formats(self.tag, cookies.get(ZONE, "")[:64])
        self.words = Words(i18n.messages(self.tag), self.formats)
        self.section = ""

    @property
    def who(self) -> Principal:
        """The signed-in person; a page that needs no one never asks."""
        assert self._who is not None, "an open page asked who is signed in"
        return self._who

    @property
    def signed_in(self) -> bool:
        return self._who is not None

    @property
    def reach(self) -> tuple[str, ...]:
        """The models this person may see; `*` is all."""
        return self.who.models

    @property
    def fragment(self) -> bool:
        """Whether htmx asks for the main part alone."""
        headers = self.request.headers
        return headers.get("hx-request") == "true" and headers.get("hx-history-restore-request") != "true"

    @property
    def target(self) -> str:
        """The id of the element that htmx will put the answer into."""
        return self.request.headers.get("hx-target", "").partition("#")[2] if self.fragment else ""

    @property
    def layout(self) -> str:
        return "fragment.html" if self.fragment else "layout.html"

    @property
    def origin(self) -> str:
        """This site as others see it, for commands to copy."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}{self.request.scope.get('root_path', '')}"

    @property
    def here(self) -> str:
        """This page's own address."""
        query = self.request.url.query
        return self.request.url.path + (f"?{query}" if query else "")

    @property
    def gateway(self) -> str:
        """Where apps send their requests, for commands to copy."""
        return self.reader.gateway()

    @cached_property
    def flash(self) -> dict[str, Any]:
        """What the form before this page did."""
        return {} if self.fragment else dict(decodes(self.request.cookies.get(FLASH, "")))

    @cached_property
    def open_alerts(self) -> int:
        return len(self.reader.alerts(self.reach, "open"))

    @property
    def token(self) -> str:
        """A fresh form token."""
        return self.site.sessions.token(self.session.id if self.session else "")

    def once(self) -> str:
        """A fresh identity for one sending of a form."""
        return ids.new("once")

    def url(self, name: str, query: Mapping[str, Any] | None = None, /, **params: Any) -> str:
        """The address of a route, below whatever prefix a proxy gave us."""
        path = self.request.scope.get("root_path", "") + str(self.request.app.url_path_for(name, **params))
        return f"{path}?{urlencode(query)}" if query else path

    def asset(self, name: str) -> str:
        """The address of a static file."""
        return self.url("static", name=self.site.assets.names[name])

    def may(self, right: str, model: str = "") -> bool:
        """Whether a button makes sense for this person."""
        return self.who.may(right, model)

    def require(self, right: str, model: str = "") -> None:
        """Pass, or raise Forbidden saying who could grant it."""
        access.require(self.who, right, model)

    def text(self, name: str, default: str = "", *, most: int = 200) -> str:
        """One value of the query string, bounded."""
        return self.request.query_params.get(name, default)[:most].strip()

    def whole(self, name: str, default: int = 0) -> int:
        """One whole number of the query string; anything else is the default."""
        text = self.request.query_params.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 12 else default

    def render(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """The answer in the reader's language."""
        body = render.render(template, self.tag, {"page": self, "f": self.formats, "words": self.words, **values})
        headers = {"vary": "HX-Request, Cookie, Accept-Language", "cache-control": "private, no-cache"}
        answer = Response(body, status_code=status, headers=headers, media_type="text/html")
        if self.flash:
            answer.delete_cookie(FLASH, path=self.cookie_path)
        return answer

    @property
    def cookie_path(self) -> str:
        return self.request.scope.get("root_path", "") or "/"

    def keep(self, answer: Response, name: str, value: str, *, seconds: int = YEAR_S, hidden: bool = False) -> None:
        """Set a cookie of ours: strict, on this site's path, secure when the page came over HTTPS."""
        secure = self.request.url.scheme == "https"
        answer.set_cookie(
            name, value, max_age=seconds, path=self.cookie_path, secure=secure, httponly=hidden, samesite="strict"
        )

    def go(self, path: str, **flash: Any) -> Response:
        """After a form: on to a page, with what was done to be said there once."""
        answer = RedirectResponse(path, status_code=303)
        if flash:
            self.keep(
                answer, FLASH, base64.urlsafe_b64encode(json.dumps(flash).encode()).decode(), seconds=60, hidden=True
            )
        return answer

    def leave(self, answer: Response) -> Response:
        """Take the session's cookie away."""
        answer.delete_cookie(COOKIE, path=self.cookie_path)
        return answer


Form = Mapping[str, str]
Read = Callable[[Page], Response]
Write = Callable[[Page, Form], Response]


@dataclass(frozen=True)
class Entry:
    """One address. `right` is what reading needs, `does` what posting needs; `open` means before anybody signed in."""

    path: str
    name: str
    right: str
    read: Read | None = None
    write: Write | None = None
    does: str = ""
    section: str = ""
    open: bool = False
