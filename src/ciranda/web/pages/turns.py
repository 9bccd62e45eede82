"""Turns of the loop: the list, and one with its steps."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Page


def turns(page: Page) -> Response:
    """All turns, newest first."""
    model = page.text("model")
    rows = [row for row in page.reader.turns(page.reach) if not model or row.model == model]
    return page.render("pages/turns.html", rows=rows, model=model, models=page.reader.names(page.reach))


def turn(page: Page) -> Response:
    """One turn: which step, since when, who acts next."""
    view = page.reader.turn(page.request.path_params["turn"])
    page.require("view", view.model)
    return page.render("pages/turn.html", view=view)


ENTRIES = (
    Entry("/turns", "turns", "view", turns, section="turns"),
    Entry("/turns/{turn:path}", "turn", "view", turn, section="turns"),
)
