"""Signing in and out, and what a person prefers. The only pages that answer before anybody signed in."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from ciranda.errors import Unauthenticated
from ciranda.web.i18n import LANGUAGES
from ciranda.web.page import KEYS, LANGUAGE, THEME, Entry, Form, Page
from ciranda.web.session import COOKIE, inside


def sign_in(page: Page) -> Response:
    """The page with one field; who is signed in already goes on."""
    there = inside(page.text("next", "/", most=2000))
    if page.signed_in:
        return RedirectResponse(page.url("overview") if there == "/" else there, status_code=303)
    return page.render("pages/sign_in.html", next=there, wrong=False)


def enter(page: Page, form: Form) -> Response:
    """Check the key, hand out the cookie, go where the person was going."""
    there = inside(form.get("next", "/"))
    try:
        _, cookie = page.site.sessions.sign_in(form.get("key", "")[:200])
    except Unauthenticated:
        return page.render("pages/sign_in.html", status=401, next=there, wrong=True)
    answer = RedirectResponse(page.url("overview") if there == "/" else there, status_code=303)
    page.keep(answer, COOKIE, cookie, seconds=page.site.sessions.seconds, hidden=True)
    return answer


def leave(page: Page, _form: Form) -> Response:
    """End the session, here and for whoever copied the cookie."""
    page.site.sessions.sign_out(page.request.cookies.get(COOKIE, ""))
    return page.leave(RedirectResponse(page.url("sign_in"), status_code=303))


def prefer(page: Page, form: Form) -> Response:
    """Keep language, theme and shortcuts in cookies, then go back."""
    answer = (
        page.go(inside(form.get("back", "/")), kind="saved")
        if page.signed_in
        else RedirectResponse(inside(form.get("back", "/")), status_code=303)
    )
    if form.get("language") in LANGUAGES:
        page.keep(answer, LANGUAGE, form["language"])
    if form.get("theme") in ("light", "dark", "auto"):
        page.keep(answer, THEME, form["theme"])
    if form.get("keys") in ("on", "off"):
        page.keep(answer, KEYS, form["keys"])
    return answer


ENTRIES = (
    Entry("/sign-in", "sign_in", "", sign_in, enter, open=True),
    Entry("/sign-out", "sign_out", "", None, leave, open=True),
    Entry("/preferences", "preferences", "", None, prefer, open=True),
)
