"""Policies, with a dry run of what they leave; people who are forgotten, with their receipts."""

from __future__ import annotations

from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.govern.access import ROLES
from ciranda.govern.policy import PLATFORM, PURPOSES
from ciranda.web.page import Entry, Form, Page

SEERS = (*(role for role in ROLES if role not in ("feedback", "client")), PLATFORM)


def policies(page: Page) -> Response:
    """The policies in force; for an admin, what a role would see of a dataset version."""
    asked = {name: page.text(name) for name in ("dataset", "role", "purpose")}
    role = asked["role"] if asked["role"] in SEERS else "viewer"
    view = page.reader.policies(page.who, dataset=asked["dataset"], role=role, purpose=asked["purpose"] or "viewing")
    return page.render("pages/policies.html", view=view, roles=SEERS, purposes=PURPOSES)


def erasures(page: Page) -> Response:
    """People who are or were forgotten, as keyed hashes; versions that learnt from them."""
    return page.render("pages/erasures.html", rows=page.reader.erasures(), flags=page.reader.flagged())


def erase(page: Page, form: Form) -> Response:
    """First what is theirs, with the question; then, with a yes, the erasure begins. The name never stands in an address."""
    subject, mentions = form.get("subject", "").strip()[:256], form.get("mentions") == "1"
    if not subject:
        raise Invalid(
            "nobody was named", where="subject", remedy="give the user as stored: an id, an e-mail address, a name"
        )
    if form.get("sure") != "1":
        found = page.reader.theirs(subject, mentions=mentions)
        answer = page.render("pages/ask_erase.html", subject=subject, mentions=mentions, found=found)
        answer.headers["cache-control"] = "no-store"
        return answer
    identifier = page.verbs.erase(subject, mentions=mentions, actor=page.who.name)
    return page.go(page.url("erasure", erasure=identifier))


def erasure(page: Page) -> Response:
    """One erasure: how far it is, or its receipt."""
    return page.render("pages/erasure.html", view=page.reader.erasure(page.request.path_params["erasure"]))


ENTRIES = (
    Entry("/policies", "policies", "view", policies, section="policies"),
    Entry("/erasures", "erasures", "audit", erasures, erase, "settings", "erasures"),
    Entry("/erasures/{erasure}", "erasure", "audit", erasure, section="erasures"),
)
