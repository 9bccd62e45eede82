"""Lines of dataset versions: by name and by time, what changed between two, what checks found; branches, reverts, garbage."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ciranda.config.shape import seconds
from ciranda.data import aliases, branches, collect, reading, versions
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Page
from ciranda.web.api.catalogue import demand, reached
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item

REF = r"^([1-9]\d{0,8}|[a-z][a-z0-9.-]{0,62}|\d{4}-[\d:TZ.+-]{3,40})$"
NUMBER = "Its number, a tag or alias, or a moment at which it was the newest."


class Line(Page):
    """The versions of a dataset."""

    at: str = Field("", max_length=40, description="Only the one that was the newest at this moment, ISO 8601.")


class Between(Asked):
    """Which two versions are compared."""

    before: str = Field(pattern=REF, description=NUMBER)
    after: str = Field(pattern=REF, description=NUMBER)
    limit: int = Field(20, ge=0, le=200, description="How many rows of each kind are shown.")


class Found(Page):
    """What checks found in a version."""

    check: str = Field("", max_length=63, description="Only of this check.")


class Naming(Asked):
    """A name for a version."""

    version: str = Field(pattern=REF, description=NUMBER)
    name: str = Field(pattern=r"^[a-z][a-z0-9.-]{0,62}$", description="What it is called from now on.")
    moving: bool = Field(False, description="An alias, which may move to other versions; else a tag, which stays.")


class Unnaming(Asked):
    """A name to take away."""

    name: str = Field(max_length=63, description="The tag or alias.")


class Branching(Asked):
    """Where a new line begins."""

    version: str = Field(pattern=REF, description=NUMBER)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The new dataset.")


class Reverting(Asked):
    """Where to go back to."""

    to: str = Field(pattern=REF, description=NUMBER)
    parent: str = Field("", max_length=80, description="Refuse when the newest version is another one by now.")


class Collecting(Asked):
    """What may be collected."""

    dataset: str = Field("", max_length=63, description="Only of this dataset.")
    keep: int = Field(collect.KEEP, ge=1, le=1000, description="Newest versions of each dataset that stay.")
    age: Annotated[float, BeforeValidator(seconds)] = Field(
        collect.AGE.total_seconds(), ge=0, description="Versions younger than this stay, such as 30d."
    )
    dry: bool = Field(True, description="Only say what would go.")


def listing(call: Call[Line]) -> Item:
    """The versions of a dataset, newest first, with their names; or the one of a moment."""
    name, asked = demand(call), call.asked
    if asked.at:
        return rows.listed([_told(call, versions.at(call.platform.db, name, asked.at), _names(call, name))])
    before = int(rows.place(asked.cursor, 1)[0]) if asked.cursor else None
    found = versions.line(call.platform.db, name, before=before, limit=asked.limit + 1)
    shown, names = found[: asked.limit], _names(call, name)
    following = rows.cursor([shown[-1].number]) if len(found) > asked.limit else None
    return rows.listed([_told(call, one, names) for one in shown], following)


def diff(call: Call[Between]) -> Item:
    """What changed between two versions: how many rows, some of them, and how the whole moved."""
    name, asked, reader = demand(call), call.asked, reading.asking(call.principal, "viewing")
    db, home = call.platform.db, call.platform.home
    before, after = (versions.get(db, f"{name}@{one}").ref for one in (asked.before, asked.after))
    found = reading.diff(db, home, before, after, reader, most=asked.limit)
    return {
        "before": before,
        "after": after,
        **found.summary(),
        "movement": reading.movement(db, home, before, after, reader).to_dict(),
        "rows": {
            "added": [_row(row) for row in found.added],
            "removed": [_row(row) for row in found.removed],
            "changed": [[_row(was), _row(now)] for was, now in found.changed],
        },
    }


def findings(call: Call[Found]) -> Item:
    """What the checks found when a version was committed, row by row."""
    ref = f"{demand(call)}@{call.path['number']}"
    asked, reader = call.asked, reading.asking(call.principal, "viewing")
    start = int(rows.place(asked.cursor, 1)[0]) if asked.cursor else 0
    found = reading.findings(
        call.platform.db, call.platform.home, ref, reader, check=asked.check, start=start, limit=asked.limit + 1
    )
    following = rows.cursor([start + asked.limit]) if len(found) > asked.limit else None
    return rows.listed(list(islice(found, asked.limit)), following)


def name(call: Call[Naming]) -> Item:
    """Give a version a name."""
    dataset, asked = demand(call, right="data"), call.asked
    version = versions.get(call.platform.db, f"{dataset}@{asked.version}")
    with call.platform.db.writing() as conn:
        fixed = not asked.moving
        return aliases.put(conn, dataset, asked.name, version.number, fixed=fixed, actor=call.actor).to_dict()


def unname(call: Call[Unnaming]) -> Item:
    """Take a name away."""
    dataset = demand(call, right="data")
    with call.platform.db.writing() as conn:
        return {**aliases.remove(conn, dataset, call.asked.name, actor=call.actor).to_dict(), "removed": True}


def branch(call: Call[Branching]) -> Item:
    """Begin another dataset at a version of this one."""
    dataset, asked, reach = demand(call, right="data"), call.asked, reached(call)
    if reach is not None and asked.name not in reach:
        call.require(asked.name, right="data")
    ref = f"{dataset}@{asked.version}"
    return branches.branch(call.platform.db, call.platform.home, ref, asked.name, actor=call.actor).to_dict()


def revert(call: Call[Reverting]) -> Item:
    """Make the rows of an older version the newest again."""
    dataset, asked = demand(call, right="data"), call.asked
    ref = f"{dataset}@{asked.to}"
    found = branches.revert(call.platform.db, call.platform.home, ref, actor=call.actor, parent=asked.parent or None)
    return found.to_dict()


def collected(call: Call[Collecting]) -> Item:
    """Collect what nobody needs, or say what would go."""
    asked = call.asked
    found = collect.collect(
        call.platform.db, call.platform.home, dataset=asked.dataset, keep=asked.keep, age=timedelta(seconds=asked.age),
        dry=asked.dry, actor=call.actor,
    )  # fmt: skip
    return found.to_dict()


def _names(call: Call[Any], dataset: str) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    with call.platform.db.reading() as conn:
        for one in aliases.every(conn, dataset):
            names.setdefault(one.number, []).append(one.name)
    return names


def _told(call: Call[Any], version: DatasetVersion, names: dict[int, list[str]]) -> Item:
    reader = reading.asking(call.principal, "viewing")
    report = reading.report(call.platform.db, version, reader)
    return {**version.to_dict(), "report": report, "names": names.get(version.number, [])}


def _row(row: Row) -> Item:
    shown = (
        "key",
        "prompt",
        "completion",
        "rejected",
        "split",
        "language",
        "group",
        "source",
        "origin",
        "thumb",
        "tags",
    )
    return {**{name: getattr(row, name) for name in shown}, "extra": dict(row.extra)}
