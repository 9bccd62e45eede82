"""Suites and evaluations: what versions are asked, how they did by slice, and where their answers differ."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Page
from ciranda.web.views.suites import Asked


def listing(page: Page) -> Response:
    """Every suite, and the newest evaluations."""
    return page.render("pages/suites.html", view=page.reader.suites(page.reach, page.text("after", most=63)))


def single(page: Page) -> Response:
    """One suite: a version's cases, the other versions, and how models did."""
    name = str(page.request.path_params["suite"])
    view = page.reader.suite(name, page.whole("number"), max(1, page.whole("page", 1)), page.who)
    return page.render("pages/suite.html", view=view)


def evaluation(page: Page) -> Response:
    """One evaluation: figures by slice, pairs, and answers beside another version's."""
    asked = Asked(
        page.text("against", most=120), page.text("metric", most=520), page.text("slice"), page.text("differing") == "1",
        max(1, page.whole("page", 1)),
    )  # fmt: skip
    view = page.reader.evaluation(str(page.request.path_params["evaluation"]), asked, page.who)
    page.require("view", view.result.model)
    if view.other:
        page.require("view", view.other.model)
    return page.render("parts/answers.html" if page.target == "answers" else "pages/evaluation.html", view=view)


ENTRIES = (
    Entry("/suites", "suites", "view", listing, section="suites"),
    Entry("/suites/{suite}", "suite", "view", single, section="suites"),
    Entry("/evaluations/{evaluation}", "evaluation", "view", evaluation, section="suites"),
)
