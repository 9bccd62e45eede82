"""The audit log, keys, and what this installation is made of."""

from __future__ import annotations

from importlib import metadata

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.govern import public as publics
from ciranda.govern.access import ROLES
from ciranda.web.page import Entry, Form, Page

ROLE_ORDER = tuple(
    role for role in ROLES if role != publics.ROLE
)  # a public key has bounds that this form does not ask for


def audit(page: Page) -> Response:
    """Who did what, when, on which object; whether the chain holds."""
    view = page.reader.audit(
        page.reach,
        before=page.whole("before"),
        subject=page.text("subject"),
        actor=page.text("actor"),
        action=page.text("action"),
    )
    return page.render("pages/audit.html", view=view)


def verify(page: Page, _form: Form) -> Response:
    """Walk the whole chain now."""
    page.reader.chain(now=True)
    return page.go(page.url("audit"))


def settings(page: Page) -> Response:
    """What this person sees and how."""
    return page.render("pages/settings.html")


def keys(page: Page) -> Response:
    """Every key, without its secret."""
    return _keys(page)


def _keys(page: Page, *, secret: str = "", made: str = "") -> Response:
    rows, names = page.reader.people(), page.reader.names(page.reach)
    return page.render(
        "pages/keys.html", rows=rows, roles=ROLE_ORDER, secret=secret, made=made, models=names, whole="*" in page.reach
    )


def create_key(page: Page, form: Form) -> Response:
    """Issue a key; the secret is on this one answer and nowhere else."""
    name, role = form.get("name", "").strip()[:100], form.get("role", "")
    model = form.get("models", "*").strip()
    known = (*page.reader.names(page.reach), *(["*"] if "*" in page.reach else []))
    if model not in known:  # nobody gives more than they have
        raise Invalid(f"no model {model!r} to give", where="models", remedy=f"models are: {', '.join(known)}")
    secret = page.verbs.create_key(name, role=role, models=[model], actor=page.who.name)
    answer = _keys(page, secret=secret, made=name)
    answer.headers["cache-control"] = "no-store"
    return answer


def ask_revoke(page: Page) -> Response:
    """What stops working when this key is closed."""
    key = next((row for row in page.reader.people() if row.id == page.request.path_params["key"]), None)
    if key is None:
        raise Invalid("no such key", where="key", remedy="reload the list of keys")
    return page.render("pages/ask_revoke.html", key=key)


def revoke(page: Page, _form: Form) -> Response:
    """Close a key for good."""
    identifier = page.request.path_params["key"]
    name = next((row.name for row in page.reader.people() if row.id == identifier), identifier)
    page.verbs.revoke_key(identifier, actor=page.who.name)
    return page.go(page.url("keys"), kind="revoked", name=name)


def about(page: Page) -> Response:
    """Versions and licences of what is inside."""
    parts = page.site.assets.third_party
    return page.render("pages/about.html", version=metadata.version("ciranda") if _installed() else "", parts=parts)


def _installed() -> bool:
    try:
        metadata.version("ciranda")
    except metadata.PackageNotFoundError:
        return False
    return True


ENTRIES = (
    Entry("/audit", "audit", "audit", audit, verify, "audit", "audit"),
    Entry("/settings", "settings", "view", settings, section="settings"),
    Entry("/settings/keys", "keys", "keys", keys, create_key, "keys", "settings"),
    Entry("/settings/keys/{key}/revoke", "revoke_key", "keys", ask_revoke, revoke, "keys", "settings"),
    Entry("/settings/about", "about", "view", about, section="settings"),
)
