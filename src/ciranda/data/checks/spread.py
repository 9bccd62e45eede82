"""Checks among all rows that go by what rows are like, not by what each says.

near_duplicates   no row that says nearly what an earlier one says (prompt and answer together)
balance           no label's share among the training rows is out of bounds, where answers are classes
drift             length, language, labels and words are those of the parent version
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ciranda.config.checks import Balance, Drift, Near
from ciranda.data import labels, near, shift
from ciranda.data.checks.check import ALL, Bounds, Flaw, Part, Whole

if TYPE_CHECKING:
    from ciranda.data.checks.check import Notes


WIDTH = 32  # bytes of a language or label that count


def likeness(part: Part, _bounds: Bounds) -> Notes:
    """The MinHash signature of each row."""
    said = zip(part.prompts, part.completions, strict=True)
    return {"slots": near.signatures(f"{prompt}\n{completion}" for prompt, completion in said)}


def near_duplicates(whole: Whole, bounds: Bounds) -> Iterator[Flaw]:
    """Every row that resembles an earlier one which stays."""
    threshold = (bounds.settings.near_duplicates or Near()).threshold
    for place, other, alike in near.twins(whole.notes["slots"], threshold):
        yield Flaw(place, f"nearly the same ({alike:.2f}) as {{row}}", other=other)


def named(part: Part, _bounds: Bounds) -> Notes:
    """The label of each training row, cut to what fits a column; blank where there is none."""
    pairs = zip(part.column("split"), labels.labels(part.completions), strict=True)
    return {"label": _column([label if split == "train" else "" for split, label in pairs]),
            "train": np.array([split == "train" for split in part.column("split")])}  # fmt: skip


def balance(whole: Whole, bounds: Bounds) -> Iterator[Flaw]:
    """One flaw of all rows for each label whose share is out of bounds."""
    setting = bounds.settings.balance or Balance()
    counts, rows = _counts(whole.notes["label"]), int(whole.notes["train"].sum())
    for one in labels.unbalanced(counts, rows, smallest=setting.smallest, largest=setting.largest):
        yield Flaw(ALL, f"label {one.label!r}: {one.reason}")


def features(part: Part, _bounds: Bounds) -> Notes:
    """What drift looks at: length, language, label, and one word of each row."""
    sizes = [len(prompt) + len(answer) for prompt, answer in zip(part.prompts, part.completions, strict=True)]
    said = [prompt or answer for prompt, answer in zip(part.prompts, part.completions, strict=True)]
    return {
        "length": np.array(sizes, dtype=np.int32),
        "language": _column(part.column("language")),
        "label": _column(labels.labels(part.completions)),
        "word": np.array([shift.bucket_of(text) for text in said], dtype=np.int32),
    }


def profile_of(notes: Notes) -> shift.Profile:
    """The profile of rows from their notes."""
    return shift.Profile(
        len(notes["length"]), np.sort(notes["length"]), _counts(notes["language"], blank=True), _counts(notes["label"]),
        Counter((notes["word"][notes["word"] >= 0] % shift.BUCKETS).tolist()),
    )  # fmt: skip


def drift(whole: Whole, bounds: Bounds) -> Iterator[Flaw]:
    """One flaw of all rows for each thing that differs from the parent's rows surely and by much."""
    setting = bounds.settings.drift or Drift()
    if bounds.parent is not None:
        for one in shift.shifts(bounds.parent, profile_of(whole.notes), alpha=setting.alpha, effect=setting.effect):
            yield Flaw(ALL, one.reason)


def _column(texts: list[str]) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    return np.array([text.encode()[:WIDTH] for text in texts], dtype=f"S{WIDTH}")


def _counts(values: np.ndarray[tuple[int], np.dtype[np.bytes_]], *, blank: bool = False) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    told = zip((name.decode(errors="replace") for name in names.tolist()), counts.tolist(), strict=True)
    return {name: count for name, count in told if name or blank}
