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
        ("alerts", _("Alerts"), "view"), ("datasets", _("Datasets"), "view"), ("experiments", _("Experiments"), "view"),
        ("turns", _("Turns"), "view"), ("audit", _("Audit"), "audit"), ("settings", _("Settings"), "view"),
        ("keys", _("Keys"), "keys"), ("about", _("About"), "view"),
    ]  # fmt: skip
    return [{"text": text, "hint": _("Page"), "href": page.url(name)} for name, text, right in named if page.may(right)]


def _model(page: Page, model: str) -> list[dict[str, Any]]:
    _ = i18n.messages(page.tag).gettext
    items = [
        {"text": model, "hint": _("Model"), "href": page.url("model", model=model)},
        {"text": f"{model}: {_('release')}", "hint": _("Page"), "href": page.url("release", model=model)},
        {
            "text": f"{model}: {_('interactions')}",
            "hint": _("Page"),
            "href": page.url("interactions", {"model": model}),
        },
    ]
    if page.may("rollback", model):
        items.append(
            {"text": f"{_('Roll back')} {model}", "hint": _("Action"), "ask": page.url("rollback", model=model)}
        )
    if page.may("train", model):
        items.append(
            {"text": f"{_('Start a turn of')} {model}", "hint": _("Action"), "ask": page.url("start_turn", model=model)}
        )
    return items


ENTRIES = (Entry("/palette", "palette", "view", palette),)
