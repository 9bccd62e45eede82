"""What fired, and saying that one has seen it."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Form, Page
from ciranda.web.session import inside

STATES = ("open", "acknowledged", "closed")


def alerts(page: Page) -> Response:
    """Open ones first; the others by their tab."""
    state = page.text("state", "open")
    chosen = state if state in STATES else ""
    return page.render("pages/alerts.html", rows=page.reader.alerts(page.reach, chosen), state=chosen)


def alert(page: Page) -> Response:
    """One alert: what changed, since when, on which examples, what was done already."""
    view = page.reader.alert(page.request.path_params["alert"], page.who)
    page.require("view", view.row.model)
    return page.render("pages/alert.html", view=view)


def acknowledge(page: Page, form: Form) -> Response:
    """Somebody has it."""
    view = page.reader.alert(page.request.path_params["alert"], page.who)
    page.require("alert", view.row.model)
    if view.row.state == "open":
        page.verbs.acknowledge(view.row.id, actor=page.who.name)
    back = form.get("back") or page.url("alert", alert=view.row.id)
    return page.go(inside(back), kind="acknowledged")


ENTRIES = (
    Entry("/alerts", "alerts", "view", alerts, section="alerts"),
    Entry("/alerts/{alert}", "alert", "view", alert, section="alerts"),
    Entry("/alerts/{alert}/acknowledge", "acknowledge", "alert", None, acknowledge, "alert", "alerts"),
)
