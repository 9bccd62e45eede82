"""What was asked and answered: the list with its filters, and one in a drawer or on its own page."""

from __future__ import annotations

from dataclasses import fields

from starlette.responses import Response

from ciranda.interactions.events import KINDS
from ciranda.web.page import Entry, Page
from ciranda.web.views.interactions import Filters

MOST = {"user": 256, "conversation": 256, "tail": 1}


def filters(page: Page) -> Filters:
    """The filters in the address."""
    return Filters(**{field.name: page.text(field.name, most=MOST.get(field.name, 200)) for field in fields(Filters)})


def interactions(page: Page) -> Response:
    """The list; htmx asks for its results alone."""
    chosen = filters(page)
    if chosen.model:
        page.require("view", chosen.model)
    view = page.reader.interactions(page.reach, chosen, page.text("before"), page.who)
    template = "parts/interactions.html" if page.target == "results" else "pages/interactions.html"
    return page.render(template, view=view)


def interaction(page: Page) -> Response:
    """One interaction with everything known of it."""
    view = page.reader.interaction(page.request.path_params["interaction"], page.who)
    page.require("view", view.row.model)
    return page.render("pages/interaction.html", view=view)


def events(page: Page) -> Response:
    """What happened at the gateway beside answers."""
    kind, model = page.text("kind", most=40), page.text("model", most=63)
    if model:
        page.require("view", model)
    view = page.reader.events(page.reach, kind if kind in KINDS else "", model, page.text("before"), page.who)
    names = [(name, page.words.event(name)) for name in KINDS]
    return page.render("pages/events.html", view=view, names=names)


ENTRIES = (
    Entry("/interactions", "interactions", "view", interactions, section="interactions"),
    Entry("/interactions/events", "events", "view", events, section="interactions"),
    Entry("/interactions/{interaction}", "interaction", "view", interaction, section="interactions"),
)
