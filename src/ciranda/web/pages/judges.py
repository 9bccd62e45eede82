"""Judges, two versions side by side, and real traffic asked of a candidate."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.web.page import Entry, Form, Page


def judges(page: Page) -> Response:
    """Models that judge answers, and for what they are believed."""
    return page.render("pages/judges.html", rows=page.reader.judges(page.reach))


def judge(page: Page) -> Response:
    """One judge: what it goes by, what it is worth, what it said."""
    return page.render("pages/judge.html", view=page.reader.judge(page.request.path_params["judge"], page.who))


def calibrate(page: Page, form: Form) -> Response:
    """Hold a judge against the labels of a queue."""
    name, queue = page.request.path_params["judge"], form.get("queue", "")
    if queue not in page.reader.judge(name, page.who).queues:
        raise Invalid(f"no queue {queue!r} to hold it against", where="queue", remedy="choose one of the list")
    page.verbs.calibrate(name, page.who, queue=queue, everything=form.get("all") == "on")
    return page.go(page.url("judge", judge=name), kind="judge_calibrating", name=name)


def compare(page: Page) -> Response:
    """Two versions of a model on the cases that both were asked."""
    model = page.request.path_params["model"]
    names = [one if one.rpartition("@")[0] == model else "" for one in (page.text("candidate"), page.text("live"))]
    return page.render("pages/compare.html", model=model, view=page.reader.sides(model, *names))


def replays(page: Page) -> Response:
    """Replays, newest first, and the form that begins one."""
    return page.render("pages/replays.html", view=page.reader.replays(page.reach))


def replay(page: Page) -> Response:
    """One replay: what would have changed."""
    view = page.reader.replay(page.request.path_params["replay"], page.who)
    page.require("view", view.row.model)
    return page.render("pages/replay.html", view=view)


def begin(page: Page, form: Form) -> Response:
    """Ask a version what users asked the live one."""
    version = form.get("version", "")
    page.require("evaluate", version.rpartition("@")[0])
    made = page.verbs.replay(version, judge=form.get("judge", ""), actor=page.who.name)
    return page.go(page.url("replay", replay=made), kind="replay_begun", name=version)


ENTRIES = (
    Entry("/judges", "judges", "view", judges, section="judges"),
    Entry("/judges/{judge}", "judge", "view", judge, section="judges"),
    Entry("/judges/{judge}/calibrate", "judge_calibrate", "evaluate", None, calibrate, "evaluate", "judges"),
    Entry("/models/{model}/compare", "compare", "view", compare, section="models"),
    Entry("/replays", "replays", "view", replays, begin, "evaluate", "replays"),
    Entry("/replays/{replay}", "replay", "view", replay, section="replays"),
)
