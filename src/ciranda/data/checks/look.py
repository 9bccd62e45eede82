"""One batch through all row checks, and the notes for the whole checks: what a worker does, also without one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ciranda.data import columns
from ciranda.data.checks.check import Bounds, Check, Flaw, Part, RowCheck, WholeCheck
from ciranda.data.checks.findings import Finding

if TYPE_CHECKING:
    import pyarrow as pa

    from ciranda.data.checks.check import Notes

Plan = Sequence[tuple[Check, str]]


@dataclass
class Figure:
    """How many rows a check looked at, how many have a flaw, and how long it took."""

    looked: int = 0
    found: int = 0
    seconds: float = 0.0

    def add(self, other: Figure) -> None:
        """Count another batch too."""
        self.looked, self.found = self.looked + other.looked, self.found + other.found
        self.seconds += other.seconds


@dataclass(frozen=True)
class Looked:
    """What came of one batch: how many rows are left, findings, notes and figures by check."""

    rows: int
    left: int
    findings: list[Finding] = field(default_factory=list)
    notes: dict[str, Notes] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)


def look(batch: pa.RecordBatch, plan: Plan, bounds: Bounds, *, sealed: bool = True) -> tuple[Looked, pa.RecordBatch]:
    """Run the plan's row checks on a batch and take the notes of the others; returns what is left of it, sealed, too."""
    part = Part(batch) if sealed else Part(*columns.sealing(batch))
    findings, figures, notes = list[Finding](), dict[str, Figure](), {}
    for check, action in plan:
        began = time.perf_counter()
        if isinstance(check, RowCheck):
            flaws = list(check.flaws(part, bounds))
            figures[check.name] = Figure(len(part), len({flaw.place for flaw in flaws}))
            findings += _told(check.name, action, part, flaws)
            part = _acted(part, flaws, action)
            figures[check.name].seconds = time.perf_counter() - began
    for check, _ in plan:
        if isinstance(check, WholeCheck):
            began = time.perf_counter()
            notes[check.name] = check.notes(part, bounds)
            figures[check.name] = Figure(seconds=time.perf_counter() - began)
    return Looked(batch.num_rows, len(part), findings, notes, figures), part.batch


def _told(name: str, action: str, part: Part, flaws: Sequence[Flaw]) -> Iterator[Finding]:
    if flaws:
        keys, origins = part.column("key"), part.column("origin")
        for flaw in flaws:
            yield Finding(name, action, origins[flaw.place], keys[flaw.place], flaw.reason)


def _acted(part: Part, flaws: Sequence[Flaw], action: str) -> Part:
    import numpy as np

    if action == "drop" and flaws:
        keep = np.ones(len(part), dtype=bool)
        keep[[flaw.place for flaw in flaws]] = False
        return part.only(keep)
    mended = {flaw.place: flaw.mended for flaw in flaws if flaw.mended} if action == "mask" else {}
    return part.mended(mended) if mended else part
