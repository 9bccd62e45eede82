"""The audit log, keys, and what this installation is made of."""

from __future__ import annotations

from importlib import metadata

from starlette.responses import Response

from ciranda.config import bounds
from ciranda.errors import Invalid
from ciranda.gateway import widget
from ciranda.govern import public as publics
from ciranda.govern.access import ROLES
from ciranda.web.page import Entry, Form, Page
from ciranda.web.views.govern import Bound

ROLE_ORDER = tuple(role for role in ROLES if role != publics.ROLE)  # a public key has a form of its own


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


def _keys(page: Page, *, secret: str = "", made: str = "", tag: str = "") -> Response:
    names = page.reader.names(page.reach)
    return page.render(
        "pages/keys.html", rows=page.reader.people(), tenants=page.reader.tenants(), bounded=page.reader.bounded(page.reach),
        roles=ROLE_ORDER, secret=secret, made=made, tag=tag, models=names, whole="*" in page.reach,
    )  # fmt: skip


def create_key(page: Page, form: Form) -> Response:
    """Issue a key; the secret is on this one answer and nowhere else."""
    name, role = form.get("name", "").strip()[:100], form.get("role", "")
    model = form.get("models", "*").strip()
    known = (*page.reader.names(page.reach), *(["*"] if "*" in page.reach else []))
    if model not in known:  # nobody gives more than they have
        raise Invalid(f"no model {model!r} to give", where="models", remedy=f"models are: {', '.join(known)}")
    tenant = form.get("tenant", "").strip() or "default"
    public = _public(form) if role == publics.ROLE else None
    secret = page.verbs.create_key(name, role=role, models=[model], tenant=tenant, public=public, actor=page.who.name)
    answer = _keys(page, secret=secret, made=name, tag=widget.tag(page.gateway, secret) if public else "")
    answer.headers["cache-control"] = "no-store"
    return answer


def _public(form: Form) -> publics.Public:
    """The bounds of a public key, as the form names them."""
    minute = form.get("per_minute", "30").strip()
    if not minute.isdecimal():
        raise Invalid(f"per_minute is {minute[:20]!r}", where="per_minute", remedy="give a whole number")
    return publics.public(
        form.get("origins", "").split(), per_minute=int(minute), corrections=form.get("corrections") == "on"
    )


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


def ask_limits(page: Page) -> Response:
    """What a key or a tenant may use, to be changed."""
    scope, name, shown, held = _bounded(page)
    values = {bound.name: bound for bound in held}
    return page.render("pages/ask_limits.html", scope=scope, name=name, shown=shown, names=bounds.NAMES, values=values)


def limit(page: Page, form: Form) -> Response:
    """Put other limits in place; an empty field does not bind."""
    scope, name, shown, _ = _bounded(page)
    given = {one: form[one].strip().replace(",", ".") for one in bounds.NAMES if form.get(one, "").strip()}
    page.verbs.limit(scope, name, bounds.read(given, where="limits"), actor=page.who.name)
    return page.go(page.url("keys"), kind="limited", name=shown)


def _bounded(page: Page) -> tuple[str, str, str, tuple[Bound, ...]]:
    """Whose limits the address names: scope, name, how it is shown, and its limits."""
    scope, name = page.request.path_params["scope"], page.request.path_params["name"]
    if scope == "key":
        key = next((row for row in page.reader.people() if row.id == name and not row.revoked_at), None)
        if key is not None:
            return scope, name, key.name, key.bounds
    elif scope == "tenant":
        held = next((row.bounds for row in page.reader.tenants() if row.name == name), ())
        return scope, name, name, held
    raise Invalid(f"no {scope[:20]} {name[:100]!r} to limit", where="limits", remedy="reload the list of keys")


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
    Entry("/settings/limits/{scope}/{name}", "limits", "keys", ask_limits, limit, "keys", "settings"),
    Entry("/settings/about", "about", "view", about, section="settings"),
)
