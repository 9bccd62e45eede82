"""Checks on rows before they become a version: each says which rows have a flaw and why; policy says what follows.

    with checks.judge(rows, policy, bounds=Bounds(…), folder=home.datasets) as judged:
        versions.commit(db, home, name, judged.batches(), report=judged.report.to_dict(), findings=judged.findings, …)

    report = checks.run(rows, policy)        the same for rows that fit in memory; report.kept are rows again

Actions: `block` (or `strict`) refuses the version, `drop` leaves the row out, `mask` changes it, `warn` only reports, `off`.
A blocked version is refused after all have looked, so one report names everything.

**How a check is written** (`check.py` has the types; every function must be importable, since workers get it by name):

    RowCheck("length", flaws)                  flaws(part: Part, bounds: Bounds) -> Iterable[Flaw]
    WholeCheck("duplicates", notes, flaws)     notes(part: Part, bounds: Bounds) -> dict[str, np.ndarray]
                                               flaws(whole: Whole, bounds: Bounds) -> Iterable[Flaw]

- A *row check* looks at one batch (`part.prompts`, `part.completions`, `part.texts`, `part.column("group")`, `part.rows`; each
  built once) in a worker process and yields `Flaw(place in the part, reason, mended=Row | None)`.
- A *whole check* has two halves. `notes` runs in the worker and makes compact columns of a batch: arrays whose first dimension
  is the rows (hashes from `hashes(texts)`, numbers, a MinHash signature as a two-dimensional array). `flaws` runs once over the
  notes of all rows (`whole.notes["said"]`), never over their texts; places count in the whole. A reason may speak of another
  row: with `Flaw(place, "the same as {row}", other=place2)`, `{row}` becomes that row's origin, `{answer}` its completion.
- It stands in `CHECKS` (`known.py`) in the order of running: row checks, then whole checks, each on what the ones before left.
- `Bounds` carries what a check compares with; it is sent to the workers once, so it stays small and picklable.

Up to INLINE_ROWS rows are looked at in this process. More are sent to worker processes, which also write what they leave to a
staging folder, so memory holds the notes alone (10M rows with six hash columns: 1 GB). `tell` hears of progress; the report has
rows per second of each check. A worker that dies is an error that names it (Failed), a full disk is StorageFull, and a kill -9
leaves a staging folder that the next run removes.
"""

from ciranda.data.checks.check import Bounds, Check, Flaw, Part, RowCheck, Whole, WholeCheck, hashes
from ciranda.data.checks.findings import EXAMPLES, Finding
from ciranda.data.checks.judging import Judged, Progress, judge, run
from ciranda.data.checks.known import CHECKS
from ciranda.data.checks.report import ACTIONS, SHOWN, Blocked, CheckReport

__all__ = [
    "ACTIONS", "CHECKS", "EXAMPLES", "SHOWN", "Blocked", "Bounds", "Check", "CheckReport", "Finding", "Flaw", "Judged", "Part",
    "Progress", "RowCheck", "Whole", "WholeCheck", "hashes", "judge", "run",
]  # fmt: skip
