"""What an admin does to one version beside its release: past its gates in an emergency, its weights away, names for it.

Each asks first, in a dialog or on a page, and the first two want a reason, which stands in the audit log. None of them sends
traffic: an overridden version is approved, and goes out by promotion or release as any other; a name is a label.
"""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.web.page import Entry, Form, Page

MOST = 2000


def ask_override(page: Page) -> Response:
    """What an override means, with what the gates said in sight."""
    return _ask(page, "pages/ask_override.html")


def ask_remove(page: Page) -> Response:
    """What goes with the weights, and what stays."""
    return _ask(page, "pages/ask_remove.html")


def ask_name(page: Page) -> Response:
    """A name for the version."""
    return _ask(page, "pages/ask_alias.html")


def ask_unname(page: Page) -> Response:
    """Which of its names to take away."""
    return _ask(page, "pages/ask_unalias.html")


def _ask(page: Page, template: str) -> Response:
    return page.render(template, view=page.reader.version(page.request.path_params["version"]))


def _said(form: Form) -> str:
    """The reason that was given. Raises Invalid when there is none."""
    if not (reason := form.get("reason", "").strip()[:MOST]):
        raise Invalid("no reason was given", where="reason", remedy="say why: it stands in the audit log")
    return reason


def override(page: Page, form: Form) -> Response:
    """Past its gates and approvals."""
    version = page.request.path_params["version"]
    page.verbs.override(version, reason=_said(form), actor=page.who.name, role=page.who.role)
    return page.go(page.url("version", version=version), kind="overridden", version=version)


def remove(page: Page, form: Form) -> Response:
    """Its weights, for good."""
    version = page.request.path_params["version"]
    page.verbs.remove_version(version, reason=_said(form), actor=page.who.name)
    return page.go(page.url("version", version=version), kind="weights_removed", version=version)


def name(page: Page, form: Form) -> Response:
    """Let a name stand for it."""
    version, given = page.request.path_params["version"], form.get("name", "").strip()[:63]
    page.verbs.alias(version, given, actor=page.who.name)
    return page.go(page.url("version", version=version), kind="named", name=version, given=given)


def unname(page: Page, form: Form) -> Response:
    """Take one of its names away."""
    version, given = page.request.path_params["version"], form.get("name", "").strip()[:63]
    page.verbs.unalias(version, given, actor=page.who.name)
    return page.go(page.url("version", version=version), kind="unnamed", name=version, given=given)


ENTRIES = (
    Entry("/versions/{version}/override", "override", "settings", ask_override, override, "settings", "models"),
    Entry("/versions/{version}/remove", "remove_version", "settings", ask_remove, remove, "settings", "models"),
    Entry("/versions/{version}/name", "alias", "train", ask_name, name, "train", "models"),
    Entry("/versions/{version}/unname", "unalias", "train", ask_unname, unname, "train", "models"),
)
