"""A recipe at work: the rows of its inputs through its steps, streamed, with a count of rows before and after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ciranda.data.recipes import functions, steps
from ciranda.data.recipes.file import Recipe
from ciranda.data.recipes.steps import Parts, Work
from ciranda.data.rows import Row


@dataclass
class Tally:
    """Rows that went into each step and came out of it, in the order of the steps; filled while rows pass."""

    names: list[str] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def to_list(self) -> list[dict[str, Any]]:
        """As JSON values."""
        return [{"step": name, "in": came, "out": left}
                for name, came, left in zip(self.names, self.before, self.after, strict=True)]  # fmt: skip


def load(recipe: Recipe, folder: Path, *, file: str) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """The functions that a recipe names, and the digest of each one's file. Raises Invalid, NotFound."""
    found = {name: functions.load(name, folder, where=file) for name in recipe.functions}
    return {name: one for name, (one, _) in found.items()}, {name: digest for name, (_, digest) in found.items()}


def run(
    recipe: Recipe, rows: Iterable[Row], *, functions: Mapping[str, Callable[..., Any]], scratch: Path, tally: Tally
) -> Iterator[Row]:
    """The rows that a recipe makes of those that come in; `tally` counts meanwhile.

    Two rows may have become one by a step that changes them; whoever makes a version of them keeps one of each name.

    Args:
        scratch: A folder of this run alone; it is emptied before and removed after.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    try:
        parts = _parts(iter(rows))
        for place, step in enumerate(recipe.steps):
            work = Work(recipe.seed, functions, scratch, place)
            parts = _counted(steps.act(step, _counted(parts, tally, step.kind), work), tally, place)
        for part in parts:
            yield from part
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _parts(rows: Iterator[Row]) -> Parts:
    while part := list(islice(rows, steps.PART)):
        yield part


def _counted(parts: Parts, tally: Tally, step: str | int) -> Parts:
    """Count rows that go into a step (by its name, which opens its line) or come out of it (by its place)."""
    if isinstance(step, str):
        place = len(tally.names)
        tally.names.append(step)
        tally.before.append(0)
        tally.after.append(0)
        return _seen(parts, tally.before, place)
    return _seen(parts, tally.after, step)


def _seen(parts: Parts, counts: list[int], place: int) -> Parts:
    for part in parts:
        counts[place] += len(part)
        yield part
