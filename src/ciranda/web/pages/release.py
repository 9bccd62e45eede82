"""Who gets which answers, and the buttons that change it. Each asks first: a dialog where scripts run, a page where not."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid, Refused
from ciranda.web.page import Entry, Form, Page


def release(page: Page) -> Response:
    """Is the newcomer better? Split, steps, gates, evidence, history."""
    return page.render("pages/release.html", view=page.reader.release(page.request.path_params["model"]))


def ask_rollback(page: Page) -> Response:
    """What a rollback would do, to be confirmed."""
    return page.render("pages/ask_rollback.html", view=page.reader.release(page.request.path_params["model"]))


def rollback(page: Page, form: Form) -> Response:
    """Back to the version that the person saw named; sent twice, it is one rollback."""
    model, to = page.request.path_params["model"], form.get("to", "")
    view = page.reader.release(model)
    if to not in {row.version for row in view.versions}:
        raise Invalid(f"{to!r} is no version of {model}", where="to", remedy="reload the page and choose again")
    back = page.url("release", model=model)
    if view.live == to and not (view.rollout and view.rollout.state in ("running", "held")):
        return page.go(back, kind="rolled_back", model=model, version=to)
    done = page.verbs.rollback(model, to=to, actor=page.who.name)
    undo = view.live if view.live != to else ""
    return page.go(back, kind="rolled_back", model=model, version=to, undo=undo, seconds=done.get("seconds"))


def ask_promote(page: Page) -> Response:
    """What a promotion would do, to be confirmed."""
    version = page.request.path_params["version"]
    view = page.reader.release(version.rpartition("@")[0])
    return page.render("pages/ask_promote.html", view=view, version=version)


def promote(page: Page, _form: Form) -> Response:
    """All traffic to this version."""
    version = page.request.path_params["version"]
    model = version.rpartition("@")[0]
    page.verbs.promote(version, actor=page.who.name)
    return page.go(page.url("release", model=model), kind="promoted", model=model, version=version)


def ask_approve(page: Page) -> Response:
    """What the approval would start, with the evidence in sight."""
    view = page.reader.release(page.request.path_params["model"])
    if not view.rollout or view.rollout.state != "awaiting_approval":
        raise Refused(
            f"nothing of {view.model} waits for approval",
            where="release",
            remedy="look at the model's page for what happens next",
        )
    return page.render("pages/ask_approve.html", view=view)


def approve(page: Page, form: Form) -> Response:
    """Let the waiting version out."""
    model = page.request.path_params["model"]
    page.verbs.approve(model, note=form.get("note", "")[:2000], actor=page.who.name)
    return page.go(page.url("release", model=model), kind="approved", model=model)


def inbox(page: Page) -> Response:
    """What waits for people: releases before their begin or held, and versions that lack approvals."""
    return page.render("pages/approvals.html", waiting=page.reader.approvals(page.reach))


def ask_yes(page: Page) -> Response:
    """What a yes to a version means, with its gates in sight."""
    return page.render("pages/ask_word.html", view=page.reader.version(page.request.path_params["version"]), yes=True)


def ask_no(page: Page) -> Response:
    """What a no to a version means."""
    return page.render("pages/ask_word.html", view=page.reader.version(page.request.path_params["version"]), yes=False)


def yes(page: Page, form: Form) -> Response:
    """Keep a person's yes."""
    return _said(page, form, yes=True)


def no(page: Page, form: Form) -> Response:
    """Keep a person's no."""
    return _said(page, form, yes=False)


def _said(page: Page, form: Form, *, yes: bool) -> Response:
    version = page.request.path_params["version"]
    page.verbs.say(version, yes=yes, note=form.get("note", "")[:2000], actor=page.who.name)
    return page.go(page.url("approvals"), kind="said_yes" if yes else "said_no", version=version)


def ask_turn(page: Page) -> Response:
    """What a turn started by hand would do."""
    model = page.request.path_params["model"]
    return page.render("pages/ask_turn.html", model=model, expected=page.reader.expected(model))


def turn(page: Page, form: Form) -> Response:
    """Start a turn; the form's own identity makes a doubled click one turn."""
    model = page.request.path_params["model"]
    page.verbs.turn(model, event=f"page-{form.get('once', '')[:60]}", actor=page.who.name)
    return page.go(page.url("model", model=model), kind="turn", model=model)


ENTRIES = (
    Entry("/models/{model}/release", "release", "view", release, section="models"),
    Entry("/models/{model}/rollback", "rollback", "rollback", ask_rollback, rollback, "rollback", "models"),
    Entry("/versions/{version}/promote", "promote", "promote", ask_promote, promote, "promote", "models"),
    Entry("/models/{model}/approve", "approve", "approve", ask_approve, approve, "approve", "models"),
    Entry("/approvals", "approvals", "view", inbox, section="approvals"),
    Entry("/versions/{version}/approve", "say_yes", "approve", ask_yes, yes, "approve", "approvals"),
    Entry("/versions/{version}/decline", "say_no", "approve", ask_no, no, "approve", "approvals"),
    Entry("/models/{model}/turn", "start_turn", "train", ask_turn, turn, "train", "models"),
)
