"""The catalogue: what data there is and what is said of it, with the forms that say it; the glossary; the causal chain."""

from __future__ import annotations

from dataclasses import fields

from starlette.responses import Response

from ciranda.config.shape import seconds
from ciranda.data.descriptions import SENSITIVITIES, Change
from ciranda.data.entries import Wanted
from ciranda.data.fields import FIELDS
from ciranda.errors import Invalid, NotFound
from ciranda.registry.lineage import GENERATIONS
from ciranda.web.page import Entry, Form, Page
from ciranda.web.views.lineage import LineagePage

LICENCES = (
    "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "CDLA-Permissive-2.0", "MIT",
    "ODbL-1.0", "PDDL-1.0",
)  # fmt: skip
UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def listing(page: Page) -> Response:
    """What there is, narrowed and found by words."""
    wanted = Wanted(**{one.name: page.text(one.name) for one in fields(Wanted)})
    view = page.reader.catalogue(page.reach, wanted, page.text("after"))
    template = "parts/catalogue.html" if page.target == "found" else "pages/datasets.html"
    return page.render(template, view=view, sensitivities=SENSITIVITIES[1:])


def reached(page: Page, right: str = "view") -> str:
    """The dataset in the address, once the key reaches it. Raises Forbidden."""
    name = str(page.request.path_params["dataset"])
    held = page.reader.reached(page.reach)
    if held is not None and name not in held:
        page.require(right, name)
    return name


def dataset(page: Page) -> Response:
    """One dataset: what is said of it and of its fields, its versions."""
    name = reached(page)
    return page.render("pages/line.html", view=page.reader.line(name, page.whole("before")))


def ask_describe(page: Page) -> Response:
    """What is said of a dataset, or of one of its fields, to be changed."""
    name, field, fresh = reached(page, "data"), page.text("field", most=120), page.text("fresh") == "1"
    view = page.reader.line(name, 0)
    said = None if fresh else view.named.get(field)
    return page.render(
        "pages/ask_describe.html", name=name, field=field, said=said.said if said else None, tags=said.tags if said else (),
        terms=said.terms if said else (), sensitivities=SENSITIVITIES, licences=LICENCES, all_fields=FIELDS, fresh=fresh,
        every=lasting(said.said.every_s) if said else "",
    )  # fmt: skip


def describe(page: Page, form: Form) -> Response:
    """Say it; a field that the form has not stays as it was."""
    name, field = reached(page, "data"), form.get("field", "").strip()
    if form.get("fresh"):  # its empty fields were never filled from what is there: they say nothing
        form = {key: value for key, value in form.items() if value.strip()}
    change = Change(
        owner=form.get("owner"), description=form.get("description"), purpose=form.get("purpose"), licence=form.get("licence"),
        sensitivity=form.get("sensitivity"), every_s=_seconds(form["every"]) if "every" in form else None,
        tags=form["tags"].replace(",", " ").split() if "tags" in form else None,
        terms=[one for one in form["terms"].split(",") if one.strip()] if "terms" in form else None,
    )  # fmt: skip
    page.verbs.describe(name, field, change, actor=page.who.name)
    return page.go(page.url("dataset", dataset=name), kind="described", name=f"{name}, {field}" if field else name)


def lasting(duration_s: float) -> str:
    """A duration as one writes it; empty for none."""
    if not duration_s:
        return ""
    return next(f"{duration_s / size:g}{unit}" for unit, size in UNITS if duration_s % size == 0 or unit == "s")


def _seconds(text: str) -> float:
    if not text.strip():
        return 0.0
    try:
        return seconds(text)
    except ValueError as error:
        raise Invalid(f"{text[:40]!r} is no duration", where="every", remedy=f"write {error}") from None


def glossary(page: Page) -> Response:
    """What words mean."""
    return page.render("pages/glossary.html", view=page.reader.glossary(page.reach, page.text("after")))


def define(page: Page, form: Form) -> Response:
    """Define a term, or say it anew."""
    synonyms = [one for one in form.get("synonyms", "").split(",") if one.strip()]
    term = form.get("term", "")
    page.verbs.define(
        term, definition=form.get("definition", ""), owner=form.get("owner", ""), synonyms=synonyms, actor=page.who.name
    )
    return page.go(page.url("glossary"), kind="defined", name=term)


def ask_define(page: Page) -> Response:
    """A term, to be said anew; without a name, a new one."""
    name = page.text("term", most=100)
    row = page.reader.term(page.reach, name) if name else None
    return page.render("pages/ask_define.html", row=row)


def ask_remove(page: Page) -> Response:
    """What goes when a term is removed."""
    return page.render("pages/ask_remove_term.html", row=page.reader.term(page.reach, page.request.path_params["term"]))


def remove(page: Page, _form: Form) -> Response:
    """Take a term out of the glossary."""
    name = page.request.path_params["term"]
    page.verbs.undefine(name, actor=page.who.name)
    return page.go(page.url("glossary"), kind="undefined", name=name)


def lineage(page: Page) -> Response:
    """The causal chain through one thing."""
    asked, direction = page.text("of", most=700), page.text("direction") or "both"
    if direction not in ("both", "back", "forward"):
        raise NotFound(f"no direction {direction!r}", where="lineage", remedy="both, back or forward")
    generations = min(50, page.whole("generations", GENERATIONS))
    graph = page.reader.lineage(page.who, asked, direction, generations) if asked else None
    return page.render("pages/lineage.html", view=LineagePage(asked, direction, generations, graph))


ENTRIES = (
    Entry("/datasets", "datasets", "view", listing, section="datasets"),
    Entry("/datasets/{dataset}", "dataset", "view", dataset, section="datasets"),
    Entry("/datasets/{dataset}/describe", "describe", "data", ask_describe, describe, "data", "datasets"),
    Entry("/glossary", "glossary", "view", glossary, define, "data", "datasets"),
    Entry("/glossary/define", "define", "data", ask_define, section="datasets"),
    Entry("/glossary/{term}/remove", "remove_term", "data", ask_remove, remove, "data", "datasets"),
    Entry("/lineage", "lineage", "view", lineage, section="datasets"),
)
