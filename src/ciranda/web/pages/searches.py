"""Experiments: the searches, one study with its trials, and the buttons that stop, resume, staff and release it."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.web.page import Entry, Form, Page
from ciranda.web.parallel import Axis, Strand
from ciranda.web.views.searches import StudyPage

MOST_WORKERS, MOST_TRIALS = 256, 1000


def experiments(page: Page) -> Response:
    """All searches, newest first."""
    view = page.reader.experiments(page.reach, page.text("model", most=63), page.text("before", most=300))
    return page.render("pages/experiments.html", view=view)


def study(page: Page) -> Response:
    """One search: what varies, what was reached, how the trials do."""
    view = _study(page)
    axes, strands = drawn(page, view)
    return page.render("pages/study.html", view=view, axes=axes, strands=strands)


def ask_start(page: Page) -> Response:
    """The question before a search is started."""
    model = page.request.path_params["model"]
    return page.render("pages/ask_search.html", model=model)


def start(page: Page, form: Form) -> Response:
    """Begin a search."""
    model = page.request.path_params["model"]
    page.require("train", model)
    trials = _number(form, "trials", MOST_TRIALS)
    search = page.verbs.search(model, event=form.get("once", "")[:80], trials=trials or None, actor=page.who.name)
    return page.go(page.url("study", search=search), kind="search_started")


def change(page: Page, form: Form) -> Response:
    """Stop, resume, add workers, or take the best through the gates."""
    view = _study(page)
    page.require("train", view.row.model)
    verb, here, actor = form.get("verb", ""), page.url("study", search=view.row.id), page.who.name
    if verb == "release":
        turn = page.verbs.search_release(view.row.id, actor=actor)
        return page.go(page.url("turn", turn=turn), kind="turn")
    if verb == "stop":
        page.verbs.search_stop(view.row.id, actor=actor)
    elif verb == "resume":
        page.verbs.search_resume(view.row.id, trials=_number(form, "trials", MOST_TRIALS) or None, actor=actor)
    elif verb == "workers":
        page.verbs.search_workers(view.row.id, _number(form, "workers", MOST_WORKERS), actor=actor)
    else:
        raise Invalid(f"{verb!r} is nothing that a search does", where="verb", remedy="use the page's buttons")
    return page.go(here, kind=f"search_{verb}")


def _study(page: Page) -> StudyPage:
    """The search in the address, once the key reaches it. Raises Forbidden, NotFound."""
    view = page.reader.study(page.request.path_params["search"])
    page.require("view", view.row.model)
    return view


def _number(form: Form, name: str, most: int) -> int:
    text = form.get(name, "").strip()
    if text and (not text.isdecimal() or int(text) > most):
        raise Invalid(f"{text!r} is no number up to {most}", where=name, remedy="write digits, or leave it empty")
    return int(text or 0)


def drawn(page: Page, view: StudyPage) -> tuple[list[Axis], list[Strand]]:
    """The study as coordinates: what varies, what is measured, and what is reached at the right."""
    told = [one for one in view.trials if one.quality is not None or one.state == "running"]
    axes = [
        Axis(one.name, [trial.settings[one.name] for trial in told], page.formats.setting, one.log, one.choices)
        for one in view.coordinates
    ]
    axes = [one for one in axes if len({str(value) for value in one.values}) > 1]
    axes += [
        Axis(page.words.metric(name), [trial.measures.get(name) for trial in told], page.formats.setting)
        for name in view.measured
    ]
    axes.append(Axis(page.words.metric("exact_match"), [trial.quality for trial in told], page.formats.percent))
    return axes, [Strand(page.words.trial(one.number), one.tone) for one in told]


ENTRIES = (
    Entry("/experiments", "experiments", "view", experiments, section="experiments"),
    Entry("/experiments/start/{model}", "start_search", "train", ask_start, start, "train", "experiments"),
    Entry("/experiments/study/{search}", "study", "view", study, change, "train", "experiments"),
)
