"""Sources bring rows in: files, the sentences of the home, and what users said of our own answers.

Files and sentences are read whole each time, so that a corrected or deleted row is corrected or deleted in the next version;
feedback is read from a cursor on and added to what earlier versions hold of it. The cursor moves in the transaction that
registers the version, so a kill at any point neither loses a correction nor counts one twice.

    with sources.ingest(db, home, …) as batch:
        report = checks.run(batch.rows, …)
        version = versions.commit(db, home, name, report.kept, …, within=batch.finish)

One row of `ingestions` per source and run says what came, what was bad, and how it ended. A run that died is shown as
`interrupted` by the next one. It refuses a bad row unless the source says `bad_rows: drop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.config.model import Source
from ciranda.data import feedback, files, versions
from ciranda.data.feedback import Traffic
from ciranda.data.rows import Row, normalised
from ciranda.errors import Invalid, Refused, Unavailable
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

SHOWN = 20  # bad rows named in a message; all of them are in the ingestion's detail, up to KEPT
KEPT = 1000

ingestions = sa.Table(
    "ingestions",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("run", sa.String(40), nullable=False, index=True),
    sa.Column("dataset", sa.String(63), nullable=False, index=True),
    sa.Column("source", sa.String(500), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("rows_in", sa.Integer, nullable=False),
    sa.Column("rows_bad", sa.Integer, nullable=False),
    sa.Column("cursor", sa.String(200), nullable=False),
    sa.Column("version", sa.String(80), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32), nullable=False),
)


class Sampler(Protocol):
    """Whoever knows the sentences of the home; `engines.hassil` does."""

    def sample(
        self, language: str, count: int, seed: int, *, intents: Sequence[str] | None = None, split: str | None = None
    ) -> list[Row]:
        """`count` rows of a language, the same for the same seed."""


@dataclass(frozen=True)
class Brought:
    """What one source brought: its rows, its bad rows (each error names file and line), where to go on from."""

    source: str
    rows: tuple[Row, ...]
    bad: tuple[Invalid, ...] = ()
    cursor: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """All rows that the next version is made of, before checks, and what each source brought."""

    run: str
    dataset: str
    rows: tuple[Row, ...]
    brought: tuple[Brought, ...]

    def finish(self, conn: sa.Connection, version: versions.DatasetVersion) -> None:
        """Within the transaction that registers `version`: the run is done and its cursors hold."""
        ended = {"state": "done", "version": version.ref, "ended_at": clock.iso()}
        conn.execute(ingestions.update().where(ingestions.c.run == self.run).values(ended))

    @property
    def transformation(self) -> dict[str, Any]:
        """What made the rows, for the version's lineage."""
        sources = [{"source": one.source, "rows": len(one.rows), "bad": len(one.bad)} for one in self.brought]
        return {"kind": "ingestion", "run": self.run, "sources": sources}


@dataclass(frozen=True)
class Inputs:
    """What sources need from outside this package.

    Args:
        root: Where relative file globs start; the model file's folder.
        sampler: Gives the sentences of the home; None when nobody asks for them.
        traffic: Our own interactions; None when the collector is not up.
        languages_of: Names the languages of prompts from live traffic.
    """

    root: Path = Path()
    sampler: Sampler | None = None
    traffic: Traffic | None = None
    languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None


@contextmanager
def ingest(
    db: Database, home: Home, *, dataset: str, model: str, sources: Sequence[Source], inputs: Inputs
) -> Iterator[Batch]:
    """Bring in the rows of every source and keep the record of it; commit inside the block with `within=batch.finish`.

    Raises Refused (bad rows, each named), NotFound (no such file), Unavailable (no interactions to read); nothing is kept then.
    """
    run = _open(db, dataset, sources)
    try:
        brought = []
        for place, source in enumerate(sources):
            one = _bring(source, inputs, model, cursor_of(db, dataset, label(source)))
            _note(db, f"{run}-{place}", one)
            _refuse_bad(source, one)
            brought.append(one)
        rows = settle([*_remembered(db, home, dataset, brought), *(row for one in brought for row in one.rows)])
        yield Batch(run, dataset, tuple(rows), tuple(brought))
    finally:
        _close(db, run)


def label(source: Source) -> str:
    """A source in a line, as `files: data/*.jsonl`; the name its cursor is kept under. Of interactions, feedback is read."""
    if source.files is not None:
        return f"files: {source.files}"[:500]
    if source.intents is not None:
        return f"intents: {source.intents}"
    return "interactions: feedback"


def settle(rows: Iterable[Row]) -> list[Row]:
    """One row per fed-back prompt (the newest word counts), and prompts that are said alike in one split.

    The same phrase may come from two languages, from a file and from a user. The first that brought it decides group and
    split for all, so that nothing learnt in training is asked again in a test.
    """
    newest: dict[str, Row] = {}
    steady = []
    for row in rows:
        if row.source == "interactions":
            newest[_phrase(row)] = row
        else:
            steady.append(row)
    homes: dict[str, tuple[str, str]] = {}
    return [_at_home(row, homes) for row in (*steady, *newest.values())]


def cursor_of(db: Database, dataset: str, source: str) -> str:
    """Where the last run of a source (by its label) that ended in a version left off; empty before the first."""
    done = (ingestions.c.dataset == dataset) & (ingestions.c.source == source) & (ingestions.c.state == "done")
    query = sa.select(ingestions.c.cursor).where(done).order_by(ingestions.c.id.desc()).limit(1)
    with db.reading() as conn:
        return str(conn.execute(query).scalar() or "")


def due(db: Database, dataset: str, sources: Sequence[Source], *, now: datetime) -> bool:
    """Whether one of the sources has an `every` that has passed since its last run began, however that one ended."""
    began = sa.select(sa.func.max(ingestions.c.started_at)).where(ingestions.c.dataset == dataset)
    with db.reading() as conn:
        for source in sources:
            last = conn.execute(began.where(ingestions.c.source == label(source))).scalar()
            if source.every is not None and (not last or (now - clock.parse(last)).total_seconds() >= source.every):
                return True
    return False


def history(db: Database, dataset: str, *, limit: int = 50) -> list[dict[str, Any]]:
    """The latest runs of a dataset's sources, newest first."""
    query = sa.select(ingestions).where(ingestions.c.dataset == dataset).order_by(ingestions.c.id.desc()).limit(limit)
    with db.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(query)]


def _at_home(row: Row, homes: dict[str, tuple[str, str]]) -> Row:
    group, split = homes.setdefault(_phrase(row), (row.group, row.split))
    return row if (group, split) == (row.group, row.split) else row.with_(group=group, split=split)


def _phrase(row: Row) -> str:
    return normalised(row.prompt)


def _bring(source: Source, inputs: Inputs, model: str, cursor: str) -> Brought:
    if source.files is not None:
        found = list(files.read(source.files, inputs.root))
        bad = tuple(one for one in found if isinstance(one, Invalid))
        return Brought(label(source), tuple(one for one in found if isinstance(one, Row)), bad)
    if source.intents is not None:
        if inputs.sampler is None:
            raise Unavailable("nobody here samples sentences", where=label(source), remedy='install "ciranda[demo]"')
        return Brought(label(source), tuple(inputs.sampler.sample(source.intents, source.count, source.seed)))
    if inputs.traffic is None:
        raise Unavailable(
            "the interactions cannot be read", where=label(source), remedy="start the platform: `ciranda up`"
        )
    heard = feedback.listen(inputs.traffic, model, cursor or None)
    rows, contradictions = feedback.rows_of(heard.voices, languages_of=inputs.languages_of)
    named = [{"prompt": one.prompt, "answers": one.answers} for one in contradictions[:SHOWN]]
    detail = {"voices": len(heard.voices), "contradictions": len(contradictions), "contradicted": named}
    return Brought(label(source), tuple(rows), cursor=heard.cursor, detail=detail)


def _remembered(db: Database, home: Home, dataset: str, brought: Sequence[Brought]) -> list[Row]:
    """What earlier versions learnt from users, as long as that source is still asked for."""
    newest = versions.newest_of(db, dataset)
    if newest is None or not any(one.source.startswith("interactions") for one in brought):
        return []
    return versions.read(home, newest.ref, source="interactions")


def _refuse_bad(source: Source, one: Brought) -> None:
    if not one.bad or source.bad_rows == "drop":
        return
    named = "\n  ".join(f"{error.where}: {error.message}" for error in one.bad[:SHOWN])
    more = f"\n  … and {len(one.bad) - SHOWN} more" if len(one.bad) > SHOWN else ""
    raise Refused(
        f"{len(one.bad)} bad row{'s' if len(one.bad) > 1 else ''} in {one.source}\n  {named}{more}",
        where=one.bad[0].where,
        remedy="correct these rows, or set `bad_rows: drop` at the source to go on without them",
    )


def _open(db: Database, dataset: str, sources: Sequence[Source]) -> str:
    """A new run, one row per source; what an earlier run left open has died with its process."""
    run, now = ids.new("ing"), clock.iso()
    with db.writing() as conn:
        left = (ingestions.c.dataset == dataset) & (ingestions.c.state == "running")
        conn.execute(ingestions.update().where(left).values(state="interrupted", ended_at=now))
        for place, source in enumerate(sources):
            conn.execute(
                ingestions.insert().values(
                    id=f"{run}-{place}", run=run, dataset=dataset, source=label(source), state="running",
                    rows_in=0, rows_bad=0, cursor="", version="", detail={}, started_at=now, ended_at="",
                )
            )  # fmt: skip
    return run


def _note(db: Database, identifier: str, one: Brought) -> None:
    bad = [{"where": error.where, "reason": error.message} for error in one.bad[:KEPT]]
    values = {
        "rows_in": len(one.rows),
        "rows_bad": len(one.bad),
        "cursor": one.cursor,
        "detail": {**one.detail, "bad": bad},
    }
    with db.writing() as conn:
        conn.execute(ingestions.update().where(ingestions.c.id == identifier).values(values))


def _close(db: Database, run: str) -> None:
    """A run that nobody finished brought nothing: it failed, or its rows were refused."""
    with db.writing() as conn:
        unfinished = (ingestions.c.run == run) & (ingestions.c.state == "running")
        conn.execute(ingestions.update().where(unfinished).values(state="failed", ended_at=clock.iso()))
