"""Where data comes from: all sources, one dataset's with runs and bad rows, one run; ingest now, and judge bad rows."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import NotFound
from ciranda.web.page import Entry, Form, Page


def sources(page: Page) -> Response:
    """Every dataset with what feeds it."""
    return page.render("pages/sources.html", rows=page.reader.feeds(page.reach))


def _reached(page: Page) -> str:
    """The dataset in the address, once the key reaches it."""
    name: str = page.request.path_params["dataset"]
    if name not in {row.dataset for row in page.reader.feeds(page.reach)}:
        raise NotFound(f"nothing feeds {name!r}", where="sources", remedy="the page of sources lists what there is")
    return name


def feed(page: Page) -> Response:
    """One dataset: its sources, runs, and the bad rows that wait, which only those may see who work on data."""
    view = page.reader.feed(
        _reached(page), before=page.text("before"), bad=page.text("bad"), rows=page.may("data"),
    )  # fmt: skip
    return page.render("pages/feed.html", view=view)


def run(page: Page) -> Response:
    """One run of one source."""
    view = page.reader.ingestion(page.request.path_params["run"])
    if view.row.dataset not in {row.dataset for row in page.reader.feeds(page.reach)}:
        page.require("view", view.row.dataset)
    return page.render("pages/ingestion.html", view=view)


def ingest(page: Page, _form: Form) -> Response:
    """Bring in what all sources of the dataset have, soon."""
    name = _reached(page)
    page.verbs.ingest(name, actor=page.who.name)
    return page.go(page.url("feed", dataset=name), kind="ingest_asked", name=name)


def judge(page: Page, form: Form) -> Response:
    """Have bad rows read again, or give them up: one, or all that wait."""
    name, retry = _reached(page), form.get("do") == "retry"
    page.verbs.bad_rows(name, rows=[form["row"]] if form.get("row") else [], retry=retry, actor=page.who.name)
    return page.go(page.url("feed", dataset=name), kind="rows_retried" if retry else "rows_dropped", name=name)


ENTRIES = (
    Entry("/sources", "sources", "view", sources, section="datasets"),
    Entry("/sources/runs/{run}", "ingestion", "view", run, section="datasets"),
    Entry("/sources/{dataset}", "feed", "view", feed, section="datasets"),
    Entry("/sources/{dataset}/ingest", "ingest", "data", None, ingest, "data", "datasets"),
    Entry("/sources/{dataset}/rows", "bad_rows", "data", None, judge, "data", "datasets"),
)
