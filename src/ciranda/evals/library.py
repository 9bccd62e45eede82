"""Registered suites: named lines of immutable, numbered versions, like datasets. Cases lie once, under their file's digest.

A version is named `routing@2`, and also by a digest over its cases in any order, so registering the same ones again adds nothing.
What a gate or an evaluation says of it stays true, since it never changes; only the erasure of a person takes words out of it,
and says so (`redacted`). Who names no number means the newest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.config.shape import NAME
from ciranda.errors import Invalid, NotFound
from ciranda.evals import suites, written
from ciranda.evals.cases import Case, Suite
from ciranda.govern import audit
from ciranda.store import clock, files
from ciranda.store.database import Database, metadata

LOCK = 0x53554954

suite_versions = sa.Table(
    "suite_versions",
    metadata,
    sa.Column("suite", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("content", sa.String(71), nullable=False),
    sa.Column("cases", sa.Integer, nullable=False),
    sa.Column("slices", sa.JSON, nullable=False),
    sa.Column("origin", sa.String(500), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("redacted", sa.Integer, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class SuiteVersion:
    """One registered version. `slices` counts cases by slice, as in `{"language": {"en": 40}}`; `content` names the file."""

    suite: str
    number: int
    digest: str
    content: str
    cases: int
    slices: dict[str, dict[str, int]]
    origin: str
    note: str
    redacted: int
    created_at: str
    created_by: str

    @property
    def ref(self) -> str:
        return f"{self.suite}@{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ref": self.ref, **self.__dict__}


@dataclass(frozen=True)
class Change:
    """What one version of a suite has and another has not; `changed` pairs cases that ask the same and expect something else."""

    old: str
    new: str
    added: tuple[Case, ...]
    removed: tuple[Case, ...]
    changed: tuple[tuple[Case, Case], ...]


def register(db: Database, home: Home, suite: Suite, *, actor: str, origin: str = "", note: str = "") -> SuiteVersion:
    """Make a suite the next version of its line; the newest one as it is when it has the same cases.

    Raises:
        Invalid: Its name is none, or it has no case.
    """
    _demand(suite)
    with db.reading() as conn:
        last = _newest(conn, suite.name)
    if last is not None and last.digest == suite.digest:
        return last
    content = _write(home, suite)
    with db.writing() as conn:
        _one_at_a_time(conn)
        last = _newest(conn, suite.name)
        if last is not None and last.digest == suite.digest:
            return last
        made = SuiteVersion(
            suite.name, last.number + 1 if last else 1, suite.digest, content, len(suite.cases), counted(suite.cases), origin,
            note, 0, clock.iso(), actor,
        )  # fmt: skip
        conn.execute(suite_versions.insert().values(**made.__dict__))
        detail = {"digest": made.digest, "cases": made.cases, "origin": origin}
        audit.record(conn, actor=actor, action="suite.registered", subject=made.ref, detail=detail)
    return made


def _one_at_a_time(conn: sa.Connection) -> None:
    """Numbers follow each other: on SQLite a writer is alone anyway."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def _demand(suite: Suite) -> None:
    if not re.fullmatch(NAME, suite.name):
        raise Invalid(f"{suite.name!r} is no name of a suite", where="suite",
                      remedy="small letters, digits and dashes, such as routing; or give it one: --name")  # fmt: skip
    if not suite.cases:
        raise Invalid(f"{suite.name} has no case", where="suite", remedy="write some cases")


def counted(cases: Iterable[Case]) -> dict[str, dict[str, int]]:
    """How many cases each slice has."""
    found: dict[str, dict[str, int]] = {}
    for case in cases:
        for name, value in case.slices.items():
            values = found.setdefault(name, {})
            values[value] = values.get(value, 0) + 1
    return found


def find(conn: sa.Connection, ref: str) -> SuiteVersion:
    """A version by `routing@2`, or the newest by `routing`. Raises NotFound."""
    name, _, number = ref.partition("@")
    query = sa.select(suite_versions).where(suite_versions.c.suite == name)
    if number:
        query = query.where(suite_versions.c.number == (int(number) if number.isdecimal() and len(number) < 10 else -1))
    row = conn.execute(query.order_by(suite_versions.c.number.desc()).limit(1)).first()
    if row is None:
        raise NotFound(
            f"no suite {ref!r}", where="suites", remedy="`ciranda suite list` shows them, `ciranda suite add` makes one"
        )
    return SuiteVersion(**row._mapping)


def load(db: Database, home: Home, ref: str) -> Suite:
    """The cases of a version, under its full name. Raises NotFound, or Invalid when its file was changed."""
    with db.reading() as conn:
        found = find(conn, ref)
    return of(home, found)


def of(home: Home, version: SuiteVersion) -> Suite:
    """The cases of a version. Raises NotFound, or Invalid when its file was changed."""
    path = suites.report_path(home, version.content)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"the cases of {version.ref} are gone", where=str(path), remedy="restore the home's artefacts"
        ) from None
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != version.content:
        raise Invalid(
            f"the cases of {version.ref} were changed on disk", where=str(path), remedy="restore the home's artefacts"
        )
    return Suite(version.ref, tuple(Case.of(json.loads(line)) for line in content.splitlines()))


def listing(conn: sa.Connection, *, after: str = "", limit: int = 50) -> list[SuiteVersion]:
    """The newest version of each suite, by name, those after `after`."""
    table = suite_versions
    newest = sa.select(table.c.suite, sa.func.max(table.c.number).label("number")).group_by(table.c.suite).subquery()
    joined = (table.c.suite == newest.c.suite) & (table.c.number == newest.c.number)
    query = sa.select(table).join(newest, joined).where(table.c.suite > after).order_by(table.c.suite).limit(limit)
    return [SuiteVersion(**row._mapping) for row in conn.execute(query)]


def names(conn: sa.Connection) -> list[str]:
    """Every registered suite."""
    return list(conn.execute(sa.select(suite_versions.c.suite).distinct().order_by(suite_versions.c.suite)).scalars())


def line(conn: sa.Connection, suite: str) -> list[SuiteVersion]:
    """Every version of a suite, newest first."""
    query = sa.select(suite_versions).where(suite_versions.c.suite == suite).order_by(suite_versions.c.number.desc())
    return [SuiteVersion(**row._mapping) for row in conn.execute(query)]


def compare(home: Home, old: SuiteVersion, new: SuiteVersion) -> Change:
    """What changed from one version to another."""
    before, after = ({case.id: case for case in of(home, one).cases} for one in (old, new))
    gone = [case for name, case in before.items() if name not in after]
    fresh = [case for name, case in after.items() if name not in before]
    asked = {case.messages: case for case in gone}
    changed = [(asked[case.messages], case) for case in fresh if case.messages in asked]
    moved = {case.id for pair in changed for case in pair}
    return Change(
        old.ref, new.ref, tuple(one for one in fresh if one.id not in moved),
        tuple(one for one in gone if one.id not in moved), tuple(changed),
    )  # fmt: skip


def rewrite(db: Database, home: Home, version: SuiteVersion, cases: Sequence[Case]) -> None:
    """Put other cases in the place of a version's: a person's words are gone from it. Its old file is removed."""
    suite = Suite(version.suite, tuple(cases))
    content = _write(home, suite)
    with db.writing() as conn:
        mine = (suite_versions.c.suite == version.suite) & (suite_versions.c.number == version.number)
        values = {"content": content, "digest": suite.digest, "redacted": suite_versions.c.redacted + 1}
        conn.execute(suite_versions.update().where(mine).values(values))
        others = conn.execute(sa.select(sa.func.count()).where(suite_versions.c.content == version.content)).scalar()
    if not others:
        suites.report_path(home, version.content).unlink(missing_ok=True)


def _newest(conn: sa.Connection, suite: str) -> SuiteVersion | None:
    found = line(conn, suite)
    return found[0] if found else None


def _write(home: Home, suite: Suite) -> str:
    """Write the cases as a content-addressed file; returns its name, `sha256:…`. Writing it again changes nothing."""
    content = "".join(written.to_lines(suite)).encode()
    name = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = suites.report_path(home, name)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(path, content)
    return name
