"""Review: the queues, and one answer at a time. Every button is a form; keys press the same buttons."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.web.page import Entry, Form, Page
from ciranda.web.views.reviews import QueuePage


def reviews(page: Page) -> Response:
    """The queues, with what waits in each."""
    return page.render("pages/reviews.html", rows=page.reader.reviews(page.reach))


def _queue(page: Page) -> QueuePage:
    """The queue in the address, once the key reaches it. Raises Forbidden, NotFound."""
    name = page.request.path_params["queue"]
    view = page.reader.review(name, page.who)
    if "*" not in page.reach and name not in {row.name for row in page.reader.reviews(page.reach)}:
        page.require("view", view.row.model or view.row.dataset)
    return view


def review(page: Page) -> Response:
    """The next item for whoever may label, theirs while its lease lasts; figures for everybody."""
    view = _queue(page)
    labels = page.may("label", view.row.model)
    item = page.verbs.review_next(view.row.name, page.who) if labels else None
    return page.render("pages/review.html", view=view, item=item, labels=labels)


def say(page: Page, form: Form) -> Response:
    """Right, wrong, corrected, skipped, or the last one taken back; then on to the next."""
    view, verdict = _queue(page), form.get("verdict", "")
    page.require("label", view.row.model)
    back = page.url("review", queue=view.row.name)
    if verdict == "undo":
        page.verbs.review_undo(view.row.name, page.who)
        return page.go(back, kind="review_undone")
    if not form.get("item"):
        raise Invalid(
            "no item was named", where="review", remedy="go back to the queue and answer the item shown there"
        )
    page.verbs.review_say(
        view.row.name, form["item"], page.who, verdict=verdict, correction=form.get("correction", ""),
        note=form.get("note", ""), once=form.get("once", ""),
    )  # fmt: skip
    return page.go(back, kind=f"review_{verdict}")


def fill(page: Page, form: Form) -> Response:
    """Choose what is most worth labelling, and put it into the queue."""
    view = _queue(page)
    page.require("data", view.row.model)
    of = "rows" if form.get("of") == "rows" or not view.row.model else "interactions"
    told = page.verbs.review_fill(view.row.name, page.who, count=50, of=of)
    return page.go(page.url("review", queue=view.row.name), kind="review_filled", name=told["added"])


def commit(page: Page, form: Form) -> Response:
    """Make a dataset version of what was said."""
    view = _queue(page)
    page.require("data", view.row.model)
    told = page.verbs.review_commit(view.row.name, page.who)
    return page.go(page.url("review", queue=view.row.name), kind="review_committed", name=told["dataset"])


ENTRIES = (
    Entry("/review", "reviews", "view", reviews, section="reviews"),
    Entry("/review/{queue}", "review", "view", review, say, "label", "reviews"),
    Entry("/review/{queue}/fill", "review_fill", "data", None, fill, "data", "reviews"),
    Entry("/review/{queue}/commit", "review_commit", "data", None, commit, "data", "reviews"),
)
