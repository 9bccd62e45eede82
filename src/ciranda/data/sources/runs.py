"""The record of ingestions: one row per source and run, from its first record to the version it ended in, or the error.

A row is written before anything is read, told on while reading (so that people see it move), and closed by the transaction that
registers the version. What a process left open when it died is closed as `interrupted` by the next run of that dataset.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.data.sources.found import Tally, Window
from ciranda.errors import CirandaError, NotFound
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

TOLD_EVERY_S = 0.5
GOOD = ("done", "unchanged")

ingestions = sa.Table(
    "ingestions",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("run", sa.String(40), nullable=False, index=True),
    sa.Column("dataset", sa.String(63), nullable=False, index=True),
    sa.Column("source", sa.String(500), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("window", sa.JSON, nullable=False),
    sa.Column("rows_in", sa.Integer, nullable=False),
    sa.Column("rows_checked", sa.Integer, nullable=False),
    sa.Column("rows_kept", sa.Integer, nullable=False),
    sa.Column("rows_bad", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("cursor_before", sa.Text, nullable=False),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("changes", sa.JSON, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("version", sa.String(80), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("told_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32), nullable=False),
)

ingestion_requests = sa.Table(
    "ingestion_requests",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("id", sa.String(40), nullable=False),
    sa.Column("sources", sa.JSON, nullable=False),
    sa.Column("window", sa.JSON, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("asked_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Asked:
    """An ingestion that somebody wants and does not wait for. No sources named: all."""

    dataset: str
    id: str
    sources: tuple[str, ...]
    window: Window
    actor: str


@dataclass(frozen=True)
class Last:
    """How the last good run of a source ended."""

    cursor: str = ""
    fingerprint: str = ""
    fields: dict[str, Any] | None = None


@dataclass(frozen=True)
class Opening:
    """A source that a run will read."""

    source: str
    kind: str
    cursor: str


def begin(
    db: Database, dataset: str, opening: Sequence[Opening], *, actor: str, window: dict[str, str], run: str = ""
) -> tuple[str, dict[str, str]]:
    """A new run, or more sources of `run`: its name, and the row of each source.

    What an earlier run of the dataset left open has died with its process.
    """
    name, now = run or ids.new("ing"), clock.iso()
    with db.writing() as conn:
        left = (ingestions.c.dataset == dataset) & (ingestions.c.state == "running") & (ingestions.c.run != name)
        conn.execute(ingestions.update().where(left).values(state="interrupted", phase="", ended_at=now))
        count = sa.select(sa.func.count()).select_from(ingestions).where(ingestions.c.run == name)
        first = conn.execute(count).scalar() or 0
        entries = {one.source: f"{name}-{first + place:03d}" for place, one in enumerate(opening)}
        for one in opening:
            conn.execute(
                ingestions.insert().values(
                    id=entries[one.source], run=name, dataset=dataset, source=one.source, kind=one.kind, state="running",
                    phase="reading", actor=actor, window=window, rows_in=0, rows_checked=0, rows_kept=0, rows_bad=0, bytes=0,
                    pages=0, cursor_before=one.cursor, cursor="", fingerprint="", fields={}, changes=[], version="", detail={},
                    started_at=now, told_at=now, ended_at="",
                )
            )  # fmt: skip
    return name, entries


class Teller:
    """Writes down how a run goes, at most twice a second."""

    def __init__(self, db: Database, identifier: str) -> None:
        self._db, self._identifier, self._told = db, identifier, 0.0

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() - self._told < TOLD_EVERY_S:
            return
        self._told = time.monotonic()
        note(self._db, self._identifier, rows_in=tally.rows, rows_bad=tally.bad, bytes=tally.bytes, pages=tally.pages)


def note(db: Database, identifier: str, **values: Any) -> None:
    """What is known of a source's run now."""
    with db.writing() as conn:
        conn.execute(ingestions.update().where(ingestions.c.id == identifier).values(told_at=clock.iso(), **values))


def phase(db: Database, run: str, name: str, **values: Any) -> None:
    """The step that a whole run has come to."""
    with db.writing() as conn:
        mine = (ingestions.c.run == run) & (ingestions.c.state == "running")
        conn.execute(ingestions.update().where(mine).values(phase=name, told_at=clock.iso(), **values))


def done(conn: sa.Connection, run: str, *, version: str, kept: dict[str, int], state: str = "done") -> None:
    """Within the transaction that registers a version: the run is over and its cursors hold."""
    mine = (ingestions.c.run == run) & (ingestions.c.state != "failed")
    now = clock.iso()
    for entry, dataset, source in conn.execute(
        sa.select(ingestions.c.id, ingestions.c.dataset, ingestions.c.source).where(mine)
    ).all():
        if state == "unchanged":
            _forget_looks(conn, dataset, source)
        conn.execute(
            ingestions.update()
            .where(ingestions.c.id == entry)
            .values(state=state, phase="", version=version, rows_kept=kept.get(source, 0), told_at=now, ended_at=now)
        )


def _forget_looks(conn: sa.Connection, dataset: str, source: str) -> None:
    """Of looks that found nothing new, one after the other, the last is kept: a source may be looked at every few seconds."""
    mine = (ingestions.c.dataset == dataset) & (ingestions.c.source == source) & (ingestions.c.state != "running")
    last = conn.execute(
        sa.select(ingestions.c.id, ingestions.c.state).where(mine).order_by(ingestions.c.id.desc()).limit(1)
    ).first()
    if last is not None and last.state == "unchanged":
        conn.execute(ingestions.delete().where(ingestions.c.id == last.id))


def failed(db: Database, identifier: str, error: CirandaError) -> None:
    """One source ended with an error; the run may go on without it."""
    note(db, identifier, state="failed", error=error.to_dict(), ended_at=clock.iso())


def close(db: Database, run: str, error: CirandaError | None) -> None:
    """A run that nobody finished brought nothing: it failed, or its rows were refused."""
    with db.writing() as conn:
        unfinished = (ingestions.c.run == run) & (ingestions.c.state == "running")
        values = {"state": "failed", "ended_at": clock.iso(), "error": error.to_dict() if error else None}
        conn.execute(ingestions.update().where(unfinished).values(values))


def last_of(db: Database, dataset: str, source: str) -> Last:
    """How the last good run of a source (by its label) ended; empty before the first."""
    good = (ingestions.c.dataset == dataset) & (ingestions.c.source == source) & ingestions.c.state.in_(GOOD)
    query = sa.select(ingestions).where(good).order_by(ingestions.c.id.desc()).limit(1)
    with db.reading() as conn:
        row = conn.execute(query).first()
    return Last(row.cursor, row.fingerprint, dict(row.fields)) if row else Last()


def cursor_of(db: Database, dataset: str, source: str) -> str:
    """Where the last run of a source (by its label) that ended in a version left off; empty before the first."""
    return last_of(db, dataset, source).cursor


def recent(db: Database, dataset: str, source: str, *, limit: int = 8) -> list[sa.Row[Any]]:
    """The latest runs of one source, newest first, for whoever plans the next one."""
    mine = (ingestions.c.dataset == dataset) & (ingestions.c.source == source)
    columns = (ingestions.c.state, ingestions.c.error, ingestions.c.started_at, ingestions.c.ended_at)
    query = sa.select(*columns).where(mine).order_by(ingestions.c.id.desc()).limit(limit)
    with db.reading() as conn:
        return list(conn.execute(query))


def history(db: Database, dataset: str, *, limit: int = 50) -> list[dict[str, Any]]:
    """The latest runs of a dataset's sources, newest first."""
    return page(db, dataset=dataset, limit=limit)


def page(
    db: Database,
    *,
    dataset: str = "",
    source: str = "",
    within: Sequence[str] | None = None,
    before: str = "",
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Runs, newest first, from the one after `before` (an id) on; `within` names the datasets that may be seen."""
    query = sa.select(ingestions).order_by(ingestions.c.id.desc()).limit(limit)
    if dataset:
        query = query.where(ingestions.c.dataset == dataset)
    if source:
        query = query.where(ingestions.c.source == source)
    if within is not None:
        query = query.where(ingestions.c.dataset.in_(list(within)))
    if before:
        query = query.where(ingestions.c.id < before)
    with db.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(query)]


def get(db: Database, identifier: str) -> dict[str, Any]:
    """One source's run. Raises NotFound."""
    with db.reading() as conn:
        row = conn.execute(sa.select(ingestions).where(ingestions.c.id == identifier)).first()
    if row is None:
        raise NotFound(f"no ingestion {identifier!r}", where="ingestions", remedy="`ciranda sources runs` lists them")
    return dict(row._mapping)


def under_way(db: Database, dataset: str) -> bool:
    """Whether a run of the dataset is shown as going on."""
    mine = (ingestions.c.dataset == dataset) & (ingestions.c.state == "running")
    with db.reading() as conn:
        return conn.execute(sa.select(ingestions.c.id).where(mine).limit(1)).first() is not None


def ask(conn: sa.Connection, dataset: str, *, sources: Sequence[str], window: Window, actor: str) -> str:
    """Want an ingestion; one that waits already is replaced by this one, which reads what both name. Returns its id."""
    before = conn.execute(sa.select(ingestion_requests).where(ingestion_requests.c.dataset == dataset)).first()
    both = sorted({*before.sources, *sources}) if before is not None and before.sources and sources else []
    wanted = both if before is not None else list(sources)
    since = window.since or (before.window.get("since", "") if before else "")
    values = {
        "id": ids.new("ask"), "sources": wanted, "window": {"since": since, "until": window.until}, "actor": actor,
        "asked_at": clock.iso(),
    }  # fmt: skip
    conn.execute(ingestion_requests.delete().where(ingestion_requests.c.dataset == dataset))
    conn.execute(ingestion_requests.insert().values(dataset=dataset, **values))
    return str(values["id"])


def asked(db: Database, dataset: str) -> Asked | None:
    """What somebody wants of a dataset, if anything."""
    with db.reading() as conn:
        row = conn.execute(sa.select(ingestion_requests).where(ingestion_requests.c.dataset == dataset)).first()
    if row is None:
        return None
    return Asked(row.dataset, row.id, tuple(row.sources), Window(**row.window), row.actor)


def answered(db: Database, done: Asked) -> None:
    """It was done, or failed visibly; one that was asked for meanwhile stays."""
    with db.writing() as conn:
        conn.execute(ingestion_requests.delete().where(ingestion_requests.c.id == done.id))
