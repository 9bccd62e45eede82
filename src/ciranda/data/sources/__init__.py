"""Sources bring rows in: files, watched folders, APIs, databases, buckets, dlt's connectors, sentences, and our own traffic.

What lies here (`files`, `intents`) is read whole each time, so that a corrected or deleted row is corrected or deleted in the
next version. Of all others the newest version is the memory: a run reads those that are asked for, puts what they bring in
place of their old rows, and takes over the rest. Cursors and marks of files move in the transaction that registers the
version, so a kill at any point neither loses a row nor counts one twice.

    with sources.ingest(db, home, …) as batch:
        report = checks.run(batch.rows, …)
        version = versions.commit(db, home, name, report.kept, …, within=batch.finish)

    found     the values            bring     one source, read         cursors   values of a cursor
    folders, pages, tables, buckets, connectors, heard                 the kinds
    mapping   record -> row         fields    what changed in records  quarantine, runs, marks   the tables
    schedule  when a source is due

One row of `ingestions` per source and run says what came, what was bad, and how it ended. Two runs of one dataset at once are
refused here by a lock of the machine, elsewhere by the registering transaction, which asks that the newest version is still
the one that was read."""

from __future__ import annotations

import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.config.source import Source
from ciranda.data import versions
from ciranda.data.checks import stage
from ciranda.data.rows import SPLITS, Row, normalised
from ciranda.data.sources import marks, quarantine, runs, schedule
from ciranda.data.sources.bring import HERE, bring, is_whole
from ciranda.data.sources.found import Brought, Desk, Inputs, Place, Sampler, Tally, Window, label, source_of
from ciranda.data.sources.runs import cursor_of, history, ingestions
from ciranda.data.succession import inherited
from ciranda.errors import CirandaError, Conflict
from ciranda.store.database import Database

__all__ = [
    "Batch", "Brought", "Inputs", "Sampler", "Window", "cursor_of", "due", "history", "ingest", "ingestions", "label", "settle",
]  # fmt: skip

due = schedule.due


@dataclass(frozen=True)
class Batch:
    """All rows that the next version is made of, before checks, and what each source brought.

    Args:
        parent: The version whose rows were taken over; empty before the first.
        failed: Sources that the run went on without, by label, with the reason.
        news: Whether a source brought other rows than the last time.
    """

    db: Database
    run: str
    dataset: str
    parent: str
    rows: Iterable[Row]
    brought: tuple[Brought, ...]
    failed: Mapping[str, CirandaError] = field(default_factory=dict)
    news: bool = True
    whole: frozenset[str] = frozenset()
    carried: Mapping[str, str] = field(default_factory=dict)
    _told: list[float] = field(default_factory=lambda: [0.0])

    def finish(self, conn: sa.Connection, version: versions.DatasetVersion) -> None:
        """Within the transaction that registers `version`: the run is done, its cursors and marks hold.

        Raises Conflict when another version came in between, whose rows this one would not have.
        """
        if self.parent not in (version.parent, version.ref):
            raise Conflict(
                f"{version.parent or 'another version'} came while {self.run} was reading", where=self.dataset,
                remedy="ingest again; it begins with that version",
            )  # fmt: skip
        counts = version.counts.get("source", {})
        kept = {one.source: sum(counts.get(name, 0) for name in self._names(one)) for one in self.brought}
        runs.done(conn, self.run, version=version.ref, kept=kept)
        self._hold(conn)

    def checking(self, rows: int, check: str) -> bool:
        """So many rows went through the checks, or all did and `check` looks among them; written twice a second at most."""
        due = bool(check) or time.monotonic() - self._told[0] >= runs.TOLD_EVERY_S
        if due:
            self._told[0] = time.monotonic()
            runs.phase(self.db, self.run, "comparing" if check else "checking", rows_checked=rows)
        return due

    def committing(self, rows: int) -> None:
        """All rows went through the checks, and what is left becomes a version."""
        runs.phase(self.db, self.run, "committing", rows_checked=rows)

    def pass_by(self) -> None:
        """Nothing new came: the run is over without a version; what it read is read."""
        with self.db.writing() as conn:
            runs.done(conn, self.run, version="", kept={}, state="unchanged")
            self._hold(conn)

    def _hold(self, conn: sa.Connection) -> None:
        for one in self.brought:
            if one.place.marks:
                marks.hold(conn, self.dataset, one.source, one.place.marks, run=self.run)
            whole = self.run if one.source in self.whole else ""
            quarantine.settle(conn, self.dataset, one.source, mended=one.retried, whole_run=whole)

    def _names(self, one: Brought) -> set[str]:
        return one.rows.sources | {self.carried.get(one.source, one.source)}

    @property
    def transformation(self) -> dict[str, Any]:
        """What made the rows, for the version's lineage."""
        sources = [{"source": one.source, "rows": len(one.rows), "bad": len(one.bad)} for one in self.brought]
        return {"kind": "ingestion", "run": self.run, "sources": sources}

    @property
    def changes(self) -> dict[str, tuple[dict[str, str], ...]]:
        """What changed in the fields of each source that has such news."""
        return {one.source: one.changes for one in self.brought if one.changes}


@contextmanager
def ingest(
    db: Database,
    home: Home,
    *,
    dataset: str,
    model: str,
    sources: Sequence[Source],
    inputs: Inputs,
    actor: str = "",
    only: Collection[str] | None = None,
    window: Window = Window(),  # noqa: B008 - frozen
    patient: bool = False,
    lazy: bool = False,
) -> Iterator[Batch]:
    """Bring in the rows of sources and keep the record of it; commit inside the block with `within=batch.finish`.

    Args:
        only: Labels of the sources to read; the rows of others are taken over. None reads all.
        window: What to read again, whatever the cursors say.
        lazy: Give no rows when nothing new came (`batch.news` is false); end such a run with `batch.pass_by()`.
        patient: Go on without a source that fails, with the rows that it brought before, as long as one is left.

    Raises Refused (bad rows, each named), NotFound (no such file), Unavailable (nobody answers), Conflict (another run of the
    dataset is under way); nothing is kept then.
    """
    with alone(home, dataset, wait=patient and only is None), stage.folder_in(home.datasets) as folder:
        wanted = [one for one in sources if only is None or label(one) in only]
        run = _Run(db, home, dataset, model, sources, inputs, window, actor, folder)
        run.begin(wanted)
        error: CirandaError | None = None
        try:
            run.read(wanted, patient=patient, lazy=lazy)
            yield run.batch(lazy=lazy)
        except CirandaError as raised:
            error = raised
            raise
        finally:
            runs.close(db, run.name, error)


@contextmanager
def alone(home: Home, dataset: str, *, wait: bool = False) -> Iterator[None]:
    """Be the only ingestion of this dataset on this machine; `wait` for the one before, or raise Conflict."""
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home.run / f"ingest-{dataset}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            f"an ingestion of {dataset} is under way", where=dataset, remedy="wait for its end: `ciranda sources runs`"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


class _Run:
    """One run over the sources of a dataset: what is read, in which order, and what is taken over."""

    def __init__(
        self, db: Database, home: Home, dataset: str, model: str, sources: Sequence[Source], inputs: Inputs, window: Window,
        actor: str, folder: Path,
    ) -> None:  # fmt: skip
        self.db, self.home, self.dataset, self.model = db, home, dataset, model
        self.sources, self.inputs, self.window, self.actor, self.folder = sources, inputs, window, actor, folder
        self.newest = versions.newest_of(db, dataset)
        self.last = {label(one): runs.last_of(db, dataset, label(one)) for one in sources}
        self.name, self.entries, self.whole = "", dict[str, str](), set[str]()
        self.brought: dict[str, Brought] = {}
        self.failed: dict[str, CirandaError] = {}

    def begin(self, wanted: Sequence[Source]) -> None:
        """Write down what is going to be read."""
        opening = [runs.Opening(label(one), one.kind, self.last[label(one)].cursor) for one in wanted]
        window = {"since": self.window.since, "until": self.window.until} if self.window else {}
        self.name, entries = runs.begin(self.db, self.dataset, opening, actor=self.actor, window=window, run=self.name)
        self.entries.update(entries)

    def read(self, wanted: Sequence[Source], *, patient: bool, lazy: bool) -> None:
        """Read the wanted sources; then, when they have news, what lies here and is read whole each time."""
        for source in wanted:
            try:
                self._one(source)
            except CirandaError as error:
                if not patient or source.kind in HERE:
                    raise
                self.failed[label(source)] = error
                runs.failed(self.db, self.entries[label(source)], error)
        if self.failed and not self.brought:
            raise next(iter(self.failed.values()))
        rest = [one for one in self.sources if one.kind in HERE and label(one) not in self.brought]
        if rest and (self.news or not lazy):
            self.begin(rest)
            for source in rest:
                self._one(source)

    def _one(self, source: Source) -> None:
        name = label(source)
        entry, last = self.entries[name], self.last[name]
        known = marks.known(self.db, self.dataset, name) if source.kind in ("folder", "s3") else {}
        desk = Desk(
            name,
            self.model,
            self.inputs,
            last.cursor,
            known,
            self.window,
            Tally(runs.Teller(self.db, entry)),
            Place(),
            self.folder,
        )
        again = {} if source.kind in HERE else quarantine.retried(self.db, self.dataset, name)
        try:
            found = bring(source, desk, last, again)
        except CirandaError:
            told = {"rows_in": desk.tally.rows, "rows_bad": desk.tally.bad, "bytes": desk.tally.bytes}
            runs.note(self.db, entry, detail={"bad": desk.tally.named}, pages=desk.tally.pages, **told)
            raise
        if found.bad and source.bad_rows == "quarantine":
            quarantine.keep(self.db, self.dataset, name, self.name, found.bad)
        self.brought[name] = found
        if is_whole(source, desk):
            self.whole.add(name)
        runs.note(
            self.db, entry, rows_in=len(found.rows), rows_bad=len(found.bad), bytes=desk.tally.bytes, pages=desk.tally.pages,
            cursor=found.place.cursor, fields=found.fields, changes=list(found.changes), fingerprint=found.rows.fingerprint,
            detail={**found.detail, "bad": desk.tally.named, "files": len(found.place.marks)},
        )  # fmt: skip

    @property
    def news(self) -> bool:
        """Whether a source brought other rows than in its last good run."""
        return self.newest is None or any(
            one.rows.fingerprint != self.last[name].fingerprint or one.retried for name, one in self.brought.items()
        )

    def batch(self, *, lazy: bool) -> Batch:
        """Everything together."""
        news = self.news or not lazy
        if news:
            runs.phase(self.db, self.name, "checking")
        carried = {label(one): source_of(one) for one in self.sources}
        parent = self.newest.ref if self.newest else ""
        return Batch(
            self.db, self.name, self.dataset, parent, self if news else (), tuple(self.brought.values()), self.failed, news,
            frozenset(self.whole), carried,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Row]:
        """All rows that the next version is made of, streamed; may be asked for again while the run lasts."""
        fresh = (row for one in self.brought.values() for row in one.rows)
        return settle(chain(self._taken_over(), fresh))

    def _taken_over(self) -> Iterator[Row]:
        """What the newest version holds of sources that are not read whole here, less what came anew."""
        theirs: dict[str, list[Callable[[Row], bool] | None]] = defaultdict(list)
        for source in self.sources:
            if source.kind not in HERE:
                one = self.brought.get(label(source))
                theirs[source_of(source)].append(one.replaces if one else None)
        if self.newest is None or not theirs:
            return
        for row in inherited(self.home, self.newest.ref):
            replaced = theirs.get(row.source)
            if replaced is not None and not any(gone is not None and gone(row) for gone in replaced):
                yield row


def settle(rows: Iterable[Row]) -> Iterator[Row]:
    """One row per fed-back prompt (the newest word counts), and prompts that are said alike in one split.

    The same phrase may come from two languages, from a file and from a user. The first that brought it decides group and
    split for all, so that nothing learnt in training is asked again in a test.
    """
    newest: dict[str, Row] = {}
    homes: dict[int, tuple[str, str]] = {}
    for row in rows:
        if row.source == "interactions":
            newest[_phrase(row)] = row
        else:
            yield _at_home(row, homes)
    for row in newest.values():
        yield _at_home(row, homes)


def _at_home(row: Row, homes: dict[int, tuple[str, str]]) -> Row:
    """`homes` holds phrases by their hash, so that millions of them fit in memory."""
    mine = (row.group, row.split)
    group, split = homes.setdefault(hash(_phrase(row)), KNOWN.get(mine, mine))
    return row if (group, split) == mine else row.with_(group=group, split=split)


KNOWN = {("", split): ("", split) for split in SPLITS}
"""The homes that most rows have, once in memory."""


def _phrase(row: Row) -> str:
    return normalised(row.prompt or row.completion)
