"""Training: one run with all it told, several beside each other, and an end to one. The searches are in `searches`."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Form, Page

MOST = 6


def trial(page: Page) -> Response:
    """One trial."""
    view = page.reader.trial(page.request.path_params["trial"], page.who)
    page.require("view", view.search.model)
    return page.render("pages/trial.html", view=view)


def compare(page: Page) -> Response:
    """Runs beside each other: those that were ticked."""
    asked = [one[:250] for one in page.request.query_params.getlist("run")][: MOST + 1]
    return page.render("pages/runs_beside.html", view=page.reader.beside(asked, page.who))


def ask_cancel(page: Page) -> Response:
    """What a cancellation would do, to be confirmed."""
    view = page.reader.trial(page.request.path_params["trial"], page.who)
    page.require("train", view.search.model)
    return page.render("pages/ask_cancel.html", view=view)


def cancel(page: Page, _form: Form) -> Response:
    """End a run for good."""
    view = page.reader.trial(page.request.path_params["trial"], page.who)
    page.require("train", view.search.model)
    page.verbs.cancel_run(view.row.id, actor=page.who.name)
    return page.go(page.url("trial", trial=view.row.id), kind="cancelled")


def ask_reproduce(page: Page) -> Response:
    """What training a version again would do, to be confirmed."""
    view = page.reader.trial(page.request.path_params["trial"], page.who)
    page.require("train", view.search.model)
    return page.render("pages/ask_reproduce.html", view=view)


def reproduce(page: Page, _form: Form) -> Response:
    """Train the version of a run again."""
    view = page.reader.trial(page.request.path_params["trial"], page.who)
    page.require("train", view.search.model)
    page.verbs.reproduce(view.version, actor=page.who.name)
    return page.go(page.url("trial", trial=view.row.id), kind="reproducing")


ENTRIES = (
    Entry("/experiments/compare", "compare_runs", "view", compare, section="experiments"),
    Entry("/experiments/{trial:path}/cancel", "cancel_run", "train", ask_cancel, cancel, "train", "experiments"),
    Entry(
        "/experiments/{trial:path}/reproduce", "reproduce", "train", ask_reproduce, reproduce, "train", "experiments"
    ),
    Entry("/experiments/{trial:path}", "trial", "view", trial, section="experiments"),
)
