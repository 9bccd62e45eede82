"""The way of rows from the spool into the tables: plan a batch, make the plan durable, store it, retire what is finished.

    found segments -> cuts of whole frames -> rows -> plan on disk -> inserts under tokens -> progress -> digest, removal

Killed at any arrow, the next start repeats from the last durable one, and nothing is lost or stored twice. Each insert holds
one table's rows of one day, so it is one part: a reader never sees number 7 of the order of arrival before number 6.
A failed insert or a full disk is tried again with the same plan; the spool holds what waits meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from ciranda.interactions import seals, segments
from ciranda.interactions.intake import Desk, Parsed, due, parse
from ciranda.interactions.progress import Batch, Cut, Progress
from ciranda.interactions.rows import Row
from ciranda.interactions.segments import Segment
from ciranda.interactions.spool import Frame, pack
from ciranda.store import clock
from ciranda.store.database import Database

log = logging.getLogger(__name__)

MOST_FRAMES = 5_000
MOST_BYTES = 16 << 20
DAY_MS = 86_400_000


class Store(Protocol):
    """What rows go into."""

    def rows(self, sql: str, parameters: Mapping[str, Any], /) -> list[dict[str, Any]]: ...

    def insert(self, table: str, rows: Sequence[Row], *, token: str) -> None: ...


@dataclass(frozen=True)
class Done:
    """What one step did. `full` says that more is waiting already."""

    frames: int
    full: bool


class Ingestion:
    """Brings one home's spool into the tables. One at a time: the process that owns it holds the lock.

    Args:
        spool: Folder with one folder of segments per writer.
        folder: Where progress and quarantine are kept.
        store: The tables.
        database: The control database, for the digests of finished segments.
    """

    def __init__(self, spool: Path, folder: Path, *, store: Store, database: Database) -> None:
        self.spool = spool
        self.quarantine = folder / "quarantine"
        self.progress = Progress.load(folder / "progress.json")
        self._store = store
        self._database = database
        self._desk = Desk(store.rows)
        self._turn = 0

    def step(self) -> Done:
        """Store what has come since the last step. After an error, call again: the same plan is tried anew."""
        if self.progress.batch is not None:
            return self._repeat(self.progress.batch)
        present = segments.found(self.spool)
        cuts, frames = self._cut(self._in_turn(present))
        full = len(frames) >= MOST_FRAMES or sum(cut.end - cut.start for cut in cuts) >= MOST_BYTES
        if frames or due(self.progress.waiting, clock.now_ms()):
            self._take_in(cuts, frames)
        self._retire(present)
        return Done(len(frames), full)

    def forget(self, name: str) -> None:
        """Take a person's feedback out of what waits; the file that said what the last batch was is written anew."""
        self.progress.waiting = [one for one in self.progress.waiting if one.row.get("user") != name]
        if self.progress.batch is None:
            self.progress.settle()

    def adopt(self) -> None:
        """Seal the segments of writers that died."""
        segments.adopt_orphans(self.spool)

    def _cut(self, present: Sequence[Segment]) -> tuple[list[Cut], list[Frame]]:
        """The next whole frames of each segment, within the bounds of a batch."""
        cuts: list[Cut] = []
        frames: list[Frame] = []
        size = MOST_BYTES
        for segment in present:
            start = self.progress.at(segment.name).offset
            if len(frames) >= MOST_FRAMES or size <= 0 or segments.length(segment) <= start:
                continue
            if taken := segments.take(segment, start, frames=MOST_FRAMES - len(frames), size=size):
                cuts.append(Cut(segment.name, start, taken[-1].end_offset, len(taken)))
                frames += taken
                size -= taken[-1].end_offset - start
            elif segment.sealed:
                self.progress.skip(segment.name, segments.put_aside(segment, start, self.quarantine))
        return cuts, frames

    def _take_in(self, cuts: list[Cut], frames: list[Frame]) -> None:
        parsed = parse(frames)
        self._set_aside(parsed)
        doubles = self._desk.doubles(parsed.of("interactions"))
        parsed.leave_out(doubles)
        self._desk.remember(parsed.of("interactions"))
        feedback = self._desk.feedback(parsed.of("feedback"), self.progress.waiting, clock.now_ms())
        for row in feedback.refused:
            if row.get("public"):
                continue  # strangers could fill the disk
            name = f"feedback-{hashlib.sha256(row['id'].encode()).hexdigest()[:16]}"
            reason = "feedback on another tenant's interaction, or on a model that its key is not for"
            segments.keep(self.quarantine, name, msgspec.json.encode(row), reason)
        rows = len(parsed.of("interactions")) + len(feedback.ready)
        scores = self._desk.scores(parsed.of("scores"))
        batch = Batch(self.progress.sequence, rows, cuts, feedback.ready, scores, doubles)
        self.progress.begin(batch, feedback.waiting)
        self._insert(batch, parsed)

    def _repeat(self, batch: Batch) -> Done:
        """Store a plan that an earlier try, or an earlier process, may have stored in part."""
        present = {segment.name: segment for segment in segments.found(self.spool)}
        frames: list[Frame] = []
        for cut in batch.cuts:
            if cut.segment in present:
                frames += segments.again(present[cut.segment], cut.start, cut.end)
            else:
                log.error("ALERT segment %s vanished before its rows were known to be stored", cut.segment)
        parsed = parse(frames)
        parsed.leave_out(batch.doubles)
        self._desk.remember(parsed.of("interactions"))
        self._insert(batch, parsed)
        return Done(len(frames), full=True)

    def _insert(self, batch: Batch, parsed: Parsed) -> None:
        numbers = itertools.count(batch.sequence)
        tables = (("interactions", parsed.of("interactions")), ("feedback", batch.feedback), ("scores", batch.scores),
                  ("started", parsed.of("started")), ("events", parsed.of("events")))  # fmt: skip
        for table, rows in tables:
            for day, group in _by_day(rows):
                if table in ("interactions", "feedback"):
                    group = [row | {"sequence": next(numbers)} for row in group]
                self._store.insert(table, group, token=f"{batch.token}:{table}:{day}")
        self.progress.done()

    def _set_aside(self, parsed: Parsed) -> None:
        for frame, reason in parsed.bad:
            content = b"".join(pack(frame.kind, frame.meta, frame.request, frame.response))
            segments.keep(self.quarantine, hashlib.sha256(content).hexdigest()[:32], content, reason)

    def _retire(self, present: Sequence[Segment]) -> None:
        """Put digests of finished segments into the audit chain and remove the files."""
        finished = [one for one in present if one.sealed and self.progress.at(one.name).offset >= segments.length(one)]
        gone = self.progress.reached.keys() - {segment.name for segment in present}
        if not finished:
            self.progress.forget(gone)
            return
        self.progress.settle()
        for segment in finished:
            try:
                seals.retire(self._database, segment, records=self.progress.at(segment.name).frames)
            except sa.exc.SQLAlchemyError as error:
                log.warning("the digest of %s waits for the control database: %s", segment.name, error)
                return

    def _in_turn(self, present: list[Segment]) -> list[Segment]:
        """Begin with another segment each time, so that a busy writer holds up nobody."""
        self._turn += 1
        first = self._turn % len(present) if present else 0
        return present[first:] + present[:first]


def _by_day(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Rows by the day of their time, oldest day first, otherwise in their order."""
    ordered = sorted(rows, key=_day)
    for day, group in itertools.groupby(ordered, key=_day):
        yield day, list(group)


def _day(row: Row) -> int:
    return int(row["ts_ms"]) // DAY_MS
