"""Runs that scripts logged through MLflow's door: a list, and one with its curves."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Page


def runs(page: Page) -> Response:
    """All of the tenant's, newest first."""
    chosen = page.text("experiment", most=10)
    number = int(chosen) if chosen.isdecimal() else None
    view = page.reader.tracked_runs(page.who, number, page.text("before", most=60))
    return page.render("pages/tracked_runs.html", view=view)


def run(page: Page) -> Response:
    """One: what was set, how it went, what it left."""
    view = page.reader.tracked_run(page.who, page.request.path_params["run"])
    return page.render("pages/tracked_run.html", view=view)


ENTRIES = (
    Entry("/experiments/logged", "tracked_runs", "view", runs, section="experiments"),
    Entry("/experiments/logged/{run}", "tracked_run", "view", run, section="experiments"),
)
