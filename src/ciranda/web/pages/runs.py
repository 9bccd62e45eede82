"""Training: the searches with their trials, and one trial with its curve."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Page


def experiments(page: Page) -> Response:
    """All searches, newest first."""
    return page.render("pages/experiments.html", rows=page.reader.searches(page.reach))


def trial(page: Page) -> Response:
    """One trial."""
    view = page.reader.trial(page.request.path_params["trial"])
    page.require("view", view.search.model)
    return page.render("pages/trial.html", view=view)


ENTRIES = (
    Entry("/experiments", "experiments", "view", experiments, section="experiments"),
    Entry("/experiments/{trial:path}", "trial", "view", trial, section="experiments"),
)
