"""Labels: what a short answer says, where answers are classes.

A label is the `intent`, `label`, `class` or `category` of a JSON object, or a short line as it is (case and spaces aside). Longer
answers have none. Shares of labels say something only where answers are classes: nearly all rows have one, and there are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

FIELDS = ("intent", "label", "class", "category")
CHARACTERS = 48
WORDS = 5
CLASSED = 0.8  # least share of rows with a label
ROWS_PER_CLASS = 5  # fewer rows than this for each label on average: no classes
LEAST_ROWS = 50


@dataclass(frozen=True)
class Share:
    """A label's part of the rows, and what is wrong with it."""

    label: str
    rows: int
    share: float
    reason: str


def label_of(completion: str) -> str:
    """The label that an answer is, or an empty text."""
    text = completion.strip()
    if text[:1] == "{":
        return _field(text)
    if not text or len(text) > CHARACTERS or "\n" in text or len(words := text.casefold().split()) > WORDS:
        return ""
    return " ".join(words).strip(".!")


def labels(completions: Iterable[str]) -> list[str]:
    """The label of each answer."""
    return [label_of(completion) for completion in completions]


def classed(counts: Mapping[str, int], rows: int) -> bool:
    """Whether answers with these labels are classes. `counts` has labels that are no empty text; `rows` counts all."""
    labelled = sum(counts.values())
    return rows >= LEAST_ROWS and labelled >= CLASSED * rows and 1 < len(counts) <= max(labelled // ROWS_PER_CLASS, 2)


def unbalanced(counts: Mapping[str, int], rows: int, *, smallest: float, largest: float) -> Iterator[Share]:
    """Labels whose share is out of bounds, the largest first; nothing where answers are no classes.

    One class alone is no class: then nothing can be said. Shares are of the rows that have a label.
    """
    if not classed(counts, rows):
        return
    labelled = sum(counts.values())
    for label, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        share = count / labelled
        if share > largest:
            yield Share(label, count, share, f"{share:.1%} of the labels, more than {largest:.1%}")
        elif share < smallest:
            yield Share(label, count, share, f"{share:.2%} of the labels ({count} rows), less than {smallest:.2%}")


def _field(text: str) -> str:
    try:
        meant = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        found = next((meant[name] for name in FIELDS if name in meant), None)
        return str(msgspec.json.decode(found))[:CHARACTERS] if found is not None else ""
    except (msgspec.MsgspecError, RecursionError):
        return ""
