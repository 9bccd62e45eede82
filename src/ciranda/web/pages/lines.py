"""What can be done with a dataset version: go back to its rows, begin another dataset with them, give it a name."""

from __future__ import annotations

import re

from starlette.responses import Response

from ciranda.data.place import parse_ref
from ciranda.errors import Forbidden, Invalid
from ciranda.web.page import Entry, Form, Page
from ciranda.web.pages.catalogue import reached

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def ask_revert(page: Page) -> Response:
    """What going back does, before it is done."""
    name, number = reached(page, "data"), page.request.path_params["number"]
    newest = page.reader.line(name, 0).entry.newest
    return page.render("pages/ask_revert.html", name=name, number=number, newest=newest)


def revert(page: Page, form: Form) -> Response:
    """Make the rows of this version the newest again; refused when another version came in between."""
    name, number = reached(page, "data"), page.request.path_params["number"]
    made = page.verbs.revert(f"{name}@{number}", parent=form.get("parent", ""), actor=page.who.name)
    return _to(page, made, kind="reverted")


def ask_branch(page: Page) -> Response:
    """What the other dataset is called."""
    return page.render("pages/ask_branch.html", name=reached(page, "data"), number=page.request.path_params["number"])


def branch(page: Page, form: Form) -> Response:
    """Begin another dataset with these rows."""
    name, number = reached(page, "data"), page.request.path_params["number"]
    wanted = form.get("name", "").strip()
    if not NAME.fullmatch(wanted):
        raise Invalid(
            f"{wanted[:100]!r} is no name for a dataset", where="name", remedy="small letters, digits, hyphens"
        )
    held = page.reader.reached(page.reach)
    if held is not None:  # nobody makes what they could not see afterwards
        raise Forbidden("this key is for named models only", where=wanted, remedy="ask an admin to begin the dataset")
    return _to(page, page.verbs.branch(f"{name}@{number}", wanted, actor=page.who.name), kind="branched")


def ask_name(page: Page) -> Response:
    """Which name, and whether it may move."""
    return page.render("pages/ask_name.html", name=reached(page, "data"), number=page.request.path_params["number"])


def name(page: Page, form: Form) -> Response:
    """Give this version a name: a tag that stays, or one that moves on to later versions."""
    dataset, number = reached(page, "data"), page.request.path_params["number"]
    given, fixed = form.get("name", "").strip(), form.get("moves") != "on"
    page.verbs.name_version(dataset, given, number, fixed=fixed, actor=page.who.name)
    return page.go(page.url("dataset", dataset=dataset), kind="named", name=f"{dataset}@{number}", given=given)


def _to(page: Page, ref: str, *, kind: str) -> Response:
    dataset, number = parse_ref(ref)
    return page.go(page.url("dataset_version", dataset=dataset, number=number), kind=kind, name=ref)


_VERSION = "/datasets/{dataset}/{number:int}"
ENTRIES = (
    Entry(f"{_VERSION}/revert", "revert", "data", ask_revert, revert, "data", section="datasets"),
    Entry(f"{_VERSION}/branch", "branch", "data", ask_branch, branch, "data", section="datasets"),
    Entry(f"{_VERSION}/name", "name_version", "data", ask_name, name, "data", section="datasets"),
)
