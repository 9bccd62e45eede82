"""One dataset version: its fields and rows, its check report, what changed since another."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.web.page import Entry, Page
from ciranda.web.pages.catalogue import reached


def dataset_version(page: Page) -> Response:
    """One version: fields, counts, checks, rows."""
    name = reached(page)
    view = page.reader.dataset(
        name, page.request.path_params["number"], page.who, page=max(1, page.whole("page", 1)),
        split=page.text("split"), language=page.text("language"), q=page.text("q"),
    )  # fmt: skip
    return page.render("parts/rows.html" if page.target == "rows" else "pages/dataset.html", view=view)


def checks(page: Page) -> Response:
    """What each check found in a version, and the rows that it named."""
    name, number = reached(page), page.request.path_params["number"]
    view = page.reader.checks(name, number, page.text("check"), max(1, page.whole("page", 1)), page.who)
    return page.render("pages/checks.html", view=view)


def diff(page: Page) -> Response:
    """What changed from one version to another."""
    name, path = reached(page), page.request.path_params
    view = page.reader.diff(
        name, path["old"], path["new"], page.text("kind"), max(1, page.whole("page", 1)), page.who
    )  # fmt: skip
    return page.render("parts/changes.html" if page.target == "changes" else "pages/diff.html", view=view)


ENTRIES = (
    Entry("/datasets/{dataset}/{number:int}", "dataset_version", "view", dataset_version, section="datasets"),
    Entry("/datasets/{dataset}/{number:int}/checks", "check_report", "view", checks, section="datasets"),
    Entry("/datasets/{dataset}/diff/{old:int}..{new:int}", "diff", "view", diff, section="datasets"),
)
