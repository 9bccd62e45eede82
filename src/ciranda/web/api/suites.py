"""Suites: registered versions and their cases; evaluations with their answers, beside another version's."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from ciranda.errors import Invalid
from ciranda.evals import foreign, library
from ciranda.evals.library import SuiteVersion
from ciranda.loop import suites
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Nothing, Page, Version
from ciranda.web.api.door import MAX_BODY, Call
from ciranda.web.api.rows import Item

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Swap = Annotated[str, Field(max_length=63)]


class Registering(Asked):
    """A suite to register: the text of a file, or a split of a dataset version."""

    text: str = Field("", max_length=MAX_BODY, description="The file's text: YAML, or JSON lines.")
    file: str = Field(
        "suite.yaml", max_length=500, description="Its name, which errors say; `.jsonl` is read as JSON lines."
    )
    dataset: str = Field("", max_length=80, description="A dataset version in the place of a file, such as tickets@3.")
    split: Literal["train", "validation", "test"] = Field("test", description="Which of its splits.")
    cases: int | None = Field(None, ge=1, le=100_000, description="At most so many of its rows, evenly over languages.")
    name: str = Field("", max_length=63, description="What it is called, if not as the file says.")
    swap: tuple[Swap, ...] = Field((), max_length=10, description="Add counterfactual partners: names, gender, region.")
    note: str = Field("", max_length=2000, description="Why there is a new version.")


class Examined(Version):
    """A version to evaluate."""

    suites: tuple[Annotated[str, Field(max_length=80)], ...] = Field(
        (),
        max_length=20,
        description="`test`, or registered suites such as routing@2; without any, those of the gates.",
    )
    scorers: tuple[Annotated[str, Field(max_length=520)], ...] = Field(
        (), max_length=50, description="Scorers beside those of the gates, such as similarity."
    )


class Versus(Asked):
    """Which version to compare with."""

    after: int = Field(ge=1, description="The number of the other version.")


class Exported(Asked):
    """How to write it."""

    form: Literal["jsonl", "inspect", "lm-eval"] = Field("jsonl", description="For us again, inspect-ai, or lm-eval.")


class Evaluations(Page):
    """Which evaluations."""

    model: str = Field("", max_length=63, description="Only of this model.")
    version: str = Field("", max_length=80, description="Only of this version, such as smart-home@2.")
    suite: str = Field("", max_length=500, description="Only on this suite, in any of its versions or in one.")


class Answers(Page):
    """Which answers of an evaluation, the worst first."""

    against: str = Field("", max_length=120, description="Another evaluation, whose answers stand beside.")
    metric: str = Field("", max_length=520, description="What bad means; without it, the first metric.")
    slice: str = Field("", max_length=200, description="Only cases of this slice, as in language=en.")
    differing: bool = Field(False, description="Only those that differ from the other's.")


def listing(call: Call[Page]) -> Item:
    """The newest version of each suite, by name, with the models that it judges."""
    after = str(rows.place(call.asked.cursor, 1)[0]) if call.asked.cursor else ""
    held, judged = suites.reached(call.platform, call.principal.models), suites.uses(call.platform)
    with call.platform.db.reading() as conn:
        found = library.listing(conn, after=after, limit=call.asked.limit + 1)
    following = rows.cursor([found[call.asked.limit - 1].suite]) if len(found) > call.asked.limit else None
    shown = [one for one in found[: call.asked.limit] if held is None or one.suite in held]
    return rows.listed([_told(call, one, judged) for one in shown], following)


def one(call: Call[Nothing]) -> Item:
    """One suite: all of its versions, newest first."""
    name = call.path["suite"].partition("@")[0]
    suites.demand(call.platform, name, call.principal)
    with call.platform.db.reading() as conn:
        library.find(conn, name)
        found = library.line(conn, name)
    judged = suites.uses(call.platform)
    return {"suite": name, "models": _models(call, name, judged), "versions": [one.to_dict() for one in found]}


def cases(call: Call[Page]) -> Item:
    """The cases of a version, page by page."""
    version = _version(call)
    start = int(rows.place(call.asked.cursor, 1)[0]) if call.asked.cursor else 0
    found = suites.cases(call.platform, version, call.principal)
    end = start + call.asked.limit
    return {
        **rows.listed([one.to_dict() for one in found[start:end]], rows.cursor([end]) if end < len(found) else None),
        "version": version.to_dict(),
    }


def diff(call: Call[Versus]) -> Item:
    """What changed from a version to another."""
    old = _version(call)
    with call.platform.db.reading() as conn:
        new = library.find(conn, f"{old.suite}@{call.asked.after}")
    if any(suites.hidden(call.platform, one.origin, call.principal) for one in (old, new)):
        return {"before": old.ref, "after": new.ref, "hidden": True}
    found = library.compare(call.platform.home, old, new)
    return {
        "before": old.ref,
        "after": new.ref,
        "hidden": False,
        "added": [one.to_dict() for one in found.added],
        "removed": [one.to_dict() for one in found.removed],
        "changed": [[was.to_dict(), now.to_dict()] for was, now in found.changed],
    }


def exported(call: Call[Exported]) -> Response:
    """A version as a file of JSON lines, for us again or for another tool."""
    version = _version(call)
    found = suites.cases(call.platform, version, call.principal)
    text = "".join(foreign.written(version.suite, found, call.asked.form))
    name = f"{version.suite}-{version.number}.jsonl"
    head = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(text, media_type="application/x-ndjson", headers=head)


def register(call: Call[Registering]) -> Item:
    """Register a suite; the newest version as it is when it has the same cases."""
    asked, platform, who = call.asked, call.platform, call.principal
    if bool(asked.text) == bool(asked.dataset):
        raise Invalid(
            "a suite is the text of a file or a dataset version", where="body", remedy="send `text` or `dataset`"
        )
    if asked.text:
        return suites.add(
            platform, asked.text, who, file=asked.file, name=asked.name, swap=asked.swap, note=asked.note
        ).to_dict()
    return suites.take(
        platform,
        asked.dataset,
        who,
        split=asked.split,
        limit=asked.cases,
        name=asked.name,
        swap=asked.swap,
        note=asked.note,
    ).to_dict()


def evaluations(call: Call[Evaluations]) -> Item:
    """Recorded evaluations, newest first."""
    asked = call.asked
    before = rows.place(asked.cursor, 2) if asked.cursor else None
    found = suites.page(
        call.platform, call.reach, model=asked.model, version=asked.version, suite=asked.suite, limit=asked.limit + 1,
        before=(str(before[0]), str(before[1])) if before else None,
    )  # fmt: skip
    last = found[asked.limit - 1] if len(found) > asked.limit else None
    return rows.listed(found[: asked.limit], rows.cursor([last["created_at"], last["id"]]) if last else None)


def answers(call: Call[Answers]) -> Item:
    """The answers of an evaluation, the worst first; beside another's, the largest loss first."""
    asked = call.asked
    for identifier in filter(None, (call.path["evaluation"], asked.against)):
        found = rows.one(
            call.platform.db, "evaluations", id=identifier, remedy="`ciranda evaluate <version>` makes one"
        )
        call.require(found["model"])
    told = suites.told(
        call.platform, call.path["evaluation"], call.principal, against=asked.against, metric=asked.metric, part=asked.slice,
        differing=asked.differing,
    )  # fmt: skip
    start = int(rows.place(asked.cursor, 1)[0]) if asked.cursor else 0
    end = start + asked.limit
    shown = [one.to_dict() for one in islice(told.answers, start, end)]
    return {
        **rows.listed(shown, rows.cursor([end]) if end < len(told.answers) else None),
        "metric": told.metric,
        "hidden": told.hidden,
        "bias": [gap.to_dict() for gap in told.gaps],
    }


def _version(call: Call[Any]) -> SuiteVersion:
    """The version in the address, once the key sees it."""
    suites.demand(call.platform, call.path["suite"], call.principal)
    with call.platform.db.reading() as conn:
        return library.find(conn, f"{call.path['suite']}@{call.path['number']}")


def _told(call: Call[Any], version: SuiteVersion, judged: dict[str, set[str]]) -> Item:
    return {**version.to_dict(), "models": _models(call, version.suite, judged)}


def _models(call: Call[Any], suite: str, judged: dict[str, set[str]]) -> list[str]:
    return sorted(name for name in judged.get(suite, ()) if call.reaches(name))
