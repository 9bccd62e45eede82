"""All rows through all checks: batches through the row checks, then the notes of all rows through the whole checks.

The first INLINE_ROWS rows are looked at in this process; only when there are more are workers started, which costs a second.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data import columns
from ciranda.data.checks import custom, stage, workers
from ciranda.data.checks.check import ALL, Bounds, Check, Flaw, Whole, WholeCheck
from ciranda.data.checks.findings import CHUNK, Finding, Findings
from ciranda.data.checks.known import CHECKS
from ciranda.data.checks.look import Figure, Looked, Plan, look
from ciranda.data.checks.report import CheckReport, ordered, refusal
from ciranda.data.checks.stage import Stage
from ciranda.data.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

    from ciranda.data.checks.check import Array

INLINE_ROWS = 20_000
OF_ALL = "all rows"  # the origin of what no single row is to blame for


@dataclass(frozen=True)
class Progress:
    """How far the checks are: rows through the row checks, then which whole check is at work."""

    rows: int
    check: str
    rows_per_second: int


Told = Callable[[Progress], None]


@dataclass
class Judged:
    """Rows that went through the checks: the report, what is left of them, and every finding."""

    plan: Plan
    bounds: Bounds
    stage: Stage = field(default_factory=Stage)
    looked: int = 0
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, Figure] = field(default_factory=lambda: defaultdict(Figure))
    began: float = field(default_factory=time.perf_counter)
    _notes: dict[str, dict[str, list[Array]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    @property
    def report(self) -> CheckReport:
        """Counts, speeds and examples."""
        return self._report(tuple(one for found in self.findings.examples.values() for one in found))

    def batches(self) -> columns.Sealed:
        """The rows that are left, to be committed; may be asked for again while the block lasts."""
        return columns.Sealed(self.stage.batches())

    def kept(self) -> tuple[Row, ...]:
        """The rows that are left, as values."""
        return tuple(row for batch in self.stage.batches() for row in columns.rows_of(batch))

    def whole_report(self) -> CheckReport:
        """The report with every finding and the rows that are left, for rows that fit in memory."""
        return self._report(tuple(self.findings), self.kept())

    def _report(self, findings: tuple[Finding, ...], kept: tuple[Row, ...] = ()) -> CheckReport:
        told = {
            check.name: {
                "action": action, "looked": self.figures[check.name].looked, "found": self.figures[check.name].found
            }
            for check, action in self.plan
        }  # fmt: skip
        seconds = {name: figure.seconds for name, figure in self.figures.items()}
        return CheckReport(self.looked, len(self.stage), findings, told, seconds, kept)

    def add(self, looked: Looked, part: pa.RecordBatch | Path) -> None:
        """One batch that was looked at; they are added in the order of the rows."""
        self.looked += looked.rows
        self.stage.add(part, looked.left)
        self.findings.add(looked.findings)
        for name, figure in looked.figures.items():
            self.figures[name].add(figure)
        for name, notes in looked.notes.items():
            for key, values in notes.items():
                self._notes[name][key].append(values)

    def among(self, tell: Told) -> None:
        """Run the whole checks, each on what the ones before left."""
        for check, action in self.plan:
            if isinstance(check, WholeCheck):
                tell(self.progress(check.name))
                self._among(check, action)

    def progress(self, check: str) -> Progress:
        """How far it is by now."""
        return Progress(self.looked, check, round(self.looked / max(time.perf_counter() - self.began, 1e-6)))

    def _among(self, check: WholeCheck, action: str) -> None:
        import numpy as np

        began, alive = time.perf_counter(), self.stage.alive
        notes = {name: _joined(arrays, alive) for name, arrays in self._notes.pop(check.name, {}).items()}
        places = np.flatnonzero(alive)
        flaws = iter(check.flaws(Whole(len(places), notes), self.bounds) if len(places) else ())
        flawed, of_all = np.zeros(len(places), dtype=bool), 0
        while some := list(islice(flaws, CHUNK)):
            self.findings.add(self._told(check, action, some, places))
            flawed[[flaw.place for flaw in some if flaw.place != ALL]] = True
            of_all += sum(flaw.place == ALL for flaw in some)
        if action == "drop":
            alive[places[flawed]] = False
        self.figures[check.name].add(Figure(len(places), int(flawed.sum()) + of_all, time.perf_counter() - began))

    def _told(self, check: Check, action: str, flaws: Sequence[Flaw], places: Array) -> Iterator[Finding]:
        """Findings of a whole check, with the other row named where a reason speaks of one."""
        ones = [flaw for flaw in flaws if flaw.place != ALL]
        yield from (Finding(check.name, action, OF_ALL, "", flaw.reason) for flaw in flaws if flaw.place == ALL)
        mine = self.stage.take([places[flaw.place] for flaw in ones], ("origin", "key", "group"))
        named = [flaw for flaw in ones if flaw.other >= 0]
        wanted = (
            ("origin", "key", "completion") if any("{answer}" in flaw.reason for flaw in named) else ("origin", "key")
        )
        others = zip(*self.stage.take([places[flaw.other] for flaw in named], wanted), strict=True)
        for flaw, origin, key, group in zip(ones, *mine, strict=True):
            reason = flaw.reason if flaw.other < 0 else _spoken(flaw.reason, group, *next(others))
            yield Finding(check.name, action, origin, key, reason)


def _spoken(reason: str, group: str, origin: str, key: str, completion: str = "") -> str:
    """A reason with the other row, its answer and the group in their places."""
    reason = reason.replace("{row}", origin or key[:12]).replace("{group}", group)
    return reason.replace("{answer}", repr(completion.strip()[:80])) if "{answer}" in reason else reason


def _joined(arrays: list[Array], alive: Array) -> Array:
    """Notes of all wanted rows in one array; each part is let go once it is there, so memory holds the notes once."""
    import numpy as np

    whole = np.empty((int(alive.sum()), *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    seen = at = 0
    while arrays:
        part = arrays.pop(0)
        kept = part[alive[seen : seen + len(part)]]
        whole[at : at + len(kept)] = kept
        seen, at = seen + len(part), at + len(kept)
    return whole


@contextmanager
def judge(
    rows: columns.Rows,
    policy: Mapping[str, str],
    *,
    bounds: Bounds | None = None,
    folder: Path | None = None,
    processes: int = 0,
    tell: Told | None = None,
) -> Iterator[Judged]:
    """Look at all rows, values or Arrow batches, with every check that `policy` names; what is left is staged meanwhile.

    Args:
        policy: Action by check, as under `data: checks:`.
        folder: Where rows wait on disk when there are many; a temporary folder otherwise.
        processes: Workers; 0 takes as many as there are processors.

    Raises:
        Blocked: A blocking check found something.
        Invalid: An unknown check or action, or rows that are none.
        StorageFull: There is no room for the rows to wait.
        Failed: A worker died.
    """
    told = tell or _silent
    bounds = bounds or Bounds()
    own = custom.checks(policy, bounds.custom)
    judged = Judged(ordered(policy, {**CHECKS, **own}), bounds)
    inline = 0 if own else INLINE_ROWS
    with ExitStack() as stack:
        parts = columns.parts_of(rows)
        for batch, sealed in _few(parts, inline):
            looked, left = look(batch, judged.plan, judged.bounds, sealed=sealed)
            judged.add(looked, left)
            told(judged.progress(""))
        if judged.looked >= inline:
            place = stack.enter_context(stage.folder_in(folder) if folder else _temporary())
            judged.findings.folder = place
            _in_parallel(judged, parts, place, processes or workers.wanted(), told)
        judged.among(told)
        if (report := judged.report).blocked:
            raise refusal(report)
        yield judged


def run(
    rows: columns.Rows,
    policy: Mapping[str, str],
    *,
    max_characters: int = 2000,
    suites: Mapping[str, Sequence[str]] | None = None,
    bounds: Bounds | None = None,
) -> CheckReport:
    """As `judge`, for rows that fit in memory: the report holds every finding and the rows that are left.

    Args:
        policy: Action by check, as under `data: checks:`.
        suites: Prompts by suite name, for the contamination check.

    Raises Blocked when a blocking check found something, Invalid for an unknown check or action.
    """
    with judge(rows, policy, bounds=bounds or Bounds(max_characters, suites or {})) as judged:
        return judged.whole_report()


def _few(parts: Iterator[tuple[pa.RecordBatch, bool]], rows: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """The first batches, until so many rows have come."""
    seen = 0
    while seen < rows and (part := next(parts, None)) is not None:
        seen += part[0].num_rows
        yield part


def _in_parallel(
    judged: Judged, parts: Iterator[tuple[pa.RecordBatch, bool]], folder: Path, count: int, tell: Told
) -> None:
    """The rest of the batches through workers; what comes back is put in order."""
    first = next(parts, None)
    if first is None:
        return
    waiting: dict[int, tuple[Path, Looked]] = {}
    due = 0

    def heard(index: int, path: Path, looked: Looked) -> None:
        nonlocal due
        waiting[index] = (path, looked)
        while due in waiting:
            path, looked = waiting.pop(due)
            judged.add(looked, path)
            tell(judged.progress(""))
            due += 1

    with workers.hired(count, judged.plan, judged.bounds, folder) as staff:
        for batch, sealed in chain([first], parts):
            for told in staff.give(batch, sealed=sealed):
                heard(*told)
        for told in staff.rest():
            heard(*told)


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ciranda-") as name:
        yield Path(name)


def _silent(_progress: Any) -> None:
    """Nobody listens."""
