"""Data: the catalogue, one version, what changed between two."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse, Response

from ciranda.errors import NotFound
from ciranda.web.page import Entry, Page


def datasets(page: Page) -> Response:
    """The catalogue."""
    return page.render("pages/datasets.html", rows=page.reader.datasets(page.reach))


def dataset(page: Page) -> Response:
    """A dataset without a number is its newest version."""
    name = page.request.path_params["dataset"]
    for row in page.reader.datasets(page.reach):
        if row.name == name:
            return RedirectResponse(page.url("dataset_version", dataset=name, number=row.number), status_code=303)
    raise NotFound(f"no dataset {name!r}", where="datasets", remedy="the catalogue lists them")


def _reached(page: Page) -> dict[str, Any]:
    """The parts of the address, once the dataset is one that the key reaches. Raises Forbidden."""
    path = page.request.path_params
    if "*" not in page.reach and path["dataset"] not in {row.name for row in page.reader.datasets(page.reach)}:
        page.require("view", path["dataset"])
    return path


def dataset_version(page: Page) -> Response:
    """One version: counts, checks, rows, what is new in it."""
    path = _reached(page)
    view = page.reader.dataset(
        path["dataset"], path["number"], page.who, page=max(1, page.whole("page", 1)),
        split=page.text("split"), language=page.text("language"), q=page.text("q"),
    )  # fmt: skip
    return page.render("parts/rows.html" if page.target == "rows" else "pages/dataset.html", view=view)


def diff(page: Page) -> Response:
    """What one version has that the other has not."""
    path = _reached(page)
    return page.render("pages/diff.html", view=page.reader.diff(path["dataset"], path["old"], path["new"], page.who))


ENTRIES = (
    Entry("/datasets", "datasets", "view", datasets, section="datasets"),
    Entry("/datasets/{dataset}", "dataset", "view", dataset, section="datasets"),
    Entry("/datasets/{dataset}/{number:int}", "dataset_version", "view", dataset_version, section="datasets"),
    Entry("/datasets/{dataset}/diff/{old:int}..{new:int}", "diff", "view", diff, section="datasets"),
)
