"""All models, and one."""

from __future__ import annotations

import json

from starlette.responses import Response

from ciranda.web.page import Entry, Page
from ciranda.web.views.live import SPANS, wire


def overview(page: Page) -> Response:
    """What needs a decision, where every model is, whether traffic is healthy."""
    view = page.reader.overview(page.reach)
    return page.render("pages/overview.html", view=view, live=json.dumps(wire(view.window)))


def models(page: Page) -> Response:
    """The fleet, worst first."""
    rows = sorted(page.reader.models(page.reach), key=lambda row: row.severity)
    return page.render("pages/models.html", rows=rows)


def model(page: Page) -> Response:
    """Where one model is in its loop, and what happens next."""
    view = page.reader.model(page.request.path_params["model"])
    return page.render("pages/model.html", view=view, live=json.dumps(wire(view.window)))


def versions(page: Page) -> Response:
    """All versions of a model."""
    name = page.request.path_params["model"]
    return page.render("pages/versions.html", model=name, rows=page.reader.versions(name))


def version(page: Page) -> Response:
    """One version: where it came from, what it scored."""
    return page.render("pages/version.html", view=page.reader.version(page.request.path_params["version"]))


def drift(page: Page) -> Response:
    """What moved on a model."""
    return page.render("pages/drift.html", view=page.reader.drift(page.request.path_params["model"], page.who))


def live(page: Page) -> Response:
    """How a model does, version by version, now and over a while."""
    view = page.reader.figures(page.request.path_params["model"], span_of(page))
    template = "parts/figures.html" if page.target == "figures" else "pages/live.html"
    return page.render(template, view=view, live=json.dumps(wire(view.window)))


def span_of(page: Page) -> str:
    """The stretch of time in the address."""
    return page.text("span") if page.text("span") in SPANS else "15m"


def window(page: Page) -> Response:
    """A stretch of time as numbers: what a chart asks for after its stream was cut, or when its steps are long."""
    name = page.text("model")
    if name:
        page.require("view", name)
    span = span_of(page)
    seconds, step = SPANS[span]
    text = json.dumps(wire(page.reader.window(page.reach, name, seconds=seconds, step=step)))
    return Response(text, media_type="application/json", headers={"cache-control": "no-store"})


ENTRIES = (
    Entry("/", "overview", "view", overview, section="overview"),
    Entry("/models", "models", "view", models, section="models"),
    Entry("/models/{model}", "model", "view", model, section="models"),
    Entry("/models/{model}/live", "live", "view", live, section="models"),
    Entry("/models/{model}/versions", "versions", "view", versions, section="models"),
    Entry("/models/{model}/drift", "drift", "view", drift, section="models"),
    Entry("/versions/{version}", "version", "view", version, section="models"),
    Entry("/window", "window", "view", window),
)
