"""What the palette (Ctrl-K) offers: every page and every action that this person may take, by name."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ciranda.web import i18n
from ciranda.web.page import Entry, Page


def palette(page: Page) -> Response:
    """All destinations and actions, as JSON; the browser filters them as one types."""
    text = json.dumps(_places(page) + [item for model in page.reader.names(page.reach) for item in _model(page, model)])
    return Response(text, media_type="application/json", headers={"cache-control": "private, max-age=10"})


def _places(page: Page) -> list[dict[str, Any]]:
    _ = i18n.messages(page.tag).gettext
    named = [
        ("overview", _("Overview"), "view"), ("models", _("Models"), "view"), ("interactions", _("Interactions"), "view"),
        ("reviews", _("Review"), "view"), ("judges", _("Judges"), "view"), ("replays", _("Replays"), "view"),
        ("alerts", _("Alerts"), "view"), ("datasets", _("Datasets"), "view"),
        ("sources", _("Sources"), "view"), ("experiments", _("Experiments"), "view"),
        ("turns", _("Turns"), "view"), ("audit", _("Audit"), "audit"), ("settings", _("Settings"), "view"),
        ("keys", _("Keys and limits"), "keys"), ("about", _("About"), "view"),
    ]  # fmt: skip
    return [{"text": text, "hint": _("Page"), "href": page.url(name)} for name, text, right in named if page.may(right)]


def _model(page: Page, model: str) -> list[dict[str, Any]]:
    _ = i18n.messages(page.tag).gettext  # no call inside an f-string: the catalogue's reader would not see it
    places = (
        (_("%(model)s: live figures"), page.url("live", model=model)),
        (_("%(model)s: release"), page.url("release", model=model)),
        (_("%(model)s: interactions"), page.url("interactions", {"model": model})),
    )
    actions = (
        ("rollback", _("Roll back %(model)s"), "rollback"),
        ("train", _("Start a turn of %(model)s"), "start_turn"),
        ("train", _("Search a recipe for %(model)s"), "start_search"),
    )
    items = [{"text": model, "hint": _("Model"), "href": page.url("model", model=model)}]
    items += [{"text": text % {"model": model}, "hint": _("Page"), "href": href} for text, href in places]
    items += [
        {"text": text % {"model": model}, "hint": _("Action"), "ask": page.url(name, model=model)}
        for right, text, name in actions
        if page.may(right, model)
    ]
    return items


ENTRIES = (Entry("/palette", "palette", "view", palette),)
