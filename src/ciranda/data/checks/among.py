"""Checks of a row among the others, on hashes of what they say.

conflicts      no two answers to one prompt (`drop` keeps the one that most rows give)
duplicates     no example twice, case and spaces aside
contamination  no phrase and no group of the test rows among the training rows, and no case of any suite, so a test stays a test
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ciranda.data.checks.check import Bounds, Flaw, Part, Whole, hashes, noted, paired
from ciranda.data.overlap import Same

if TYPE_CHECKING:
    from ciranda.data.checks.check import Array, Notes

WEIGHT = {"train": 0, "validation": 1, "test": 2}
SPLIT = tuple(WEIGHT)
HOW = ("exact", "near", "run")


def said_and_answered(part: Part, _bounds: Bounds) -> Notes:
    """What was said, and what was answered; plain text and answers that somebody found wrong answer nothing."""
    every = zip(part.said_names, part.said, part.column("thumb"), strict=True)
    said = noted(name if text and thumb >= 0 else b"" for name, text, thumb in every)
    return {"said": said, "answer": noted(part.answer_names)}


def conflicts(whole: Whole, _bounds: Bounds) -> Iterator[Flaw]:
    """Rows whose answer is not the one that most rows give to their prompt; the first among equals."""
    for places in _groups(whole.notes["said"], unlike=whole.notes["answer"]):
        answers, first, counts = np.unique(whole.notes["answer"][places], return_index=True, return_counts=True)
        if len(answers) > 1:
            best = min(range(len(answers)), key=lambda one: (-counts[one], first[one]))
            other = int(places[first[best]])
            for place in places[whole.notes["answer"][places] != answers[best]]:
                reason = "another answer to this prompt stands in the rows: {answer}"
                yield Flaw(int(place), reason, other=other)


def examples(part: Part, _bounds: Bounds) -> Notes:
    """What was said, answered and rejected, as one."""
    every = zip(part.said_names, part.answer_names, part.rejected, strict=True)
    return {"example": noted(paired(said, answer, other.strip()) for said, answer, other in every)}


def duplicates(whole: Whole, _bounds: Bounds) -> Iterator[Flaw]:
    """Every row but the first of those that say the same."""
    for places in _groups(whole.notes["example"]):
        for place in places[1:]:
            yield Flaw(int(place), "the same example as {row}", other=int(places[0]))


def phrases_and_groups(part: Part, bounds: Bounds) -> Notes:
    """The phrase and the group of each row (blank: none), how much its split weighs, and the suite that asks it too, and how."""
    names = {name: place for place, name in enumerate(bounds.suites)}
    suite, how = np.full(len(part), -1, dtype=np.int32), np.zeros(len(part), dtype=np.int8)
    said = [prompt or text for prompt, text in zip(part.prompts, part.completions, strict=True)]
    for one in bounds.asked.same(said):
        suite[one.place], how[one.place] = names[one.suite], HOW.index(one.how)
    return {
        "phrase": _named(part.phrases),
        "group": _named(part.column("group")),
        "weight": np.array([WEIGHT.get(split, 0) for split in part.column("split")], dtype=np.int8),
        "suite": suite,
        "how": how,
    }


def contamination(whole: Whole, bounds: Bounds) -> Iterator[Flaw]:
    """Flaws are on the training side, so that dropping them leaves the test whole."""
    notes, names = whole.notes, list(bounds.suites)
    weight, flawed = notes["weight"], np.zeros(len(whole), dtype=bool)
    for place in np.flatnonzero((notes["suite"] >= 0) & (weight < WEIGHT["test"])):
        flawed[place] = True
        same = Same(int(place), names[notes["suite"][place]], 0, HOW[notes["how"][place]])
        yield Flaw(int(place), f"{SPLIT[weight[place]]} row {same.reason}")
    for name, words in (
        ("phrase", "says what {split} row {row} says"),
        ("group", "shares its group {group} with {split} row {row}"),
    ):
        for places in _groups(notes[name], unlike=weight):
            held = places[np.argmax(weight[places])]
            for place in places[(weight[places] < weight[held]) & ~flawed[places]]:
                flawed[place] = True
                told = words.replace("{split}", SPLIT[weight[held]])
                yield Flaw(int(place), f"{SPLIT[weight[place]]} row {told}", other=int(held))


def _groups(values: Array, unlike: Array | None = None) -> Iterator[Array]:
    """Places of rows that have the same value, of all values that more than one has, by their first; blank values count as none.

    With `unlike`, only those of which it is not the same for all.
    """
    order = _shared(values)
    order = order[np.argsort(values[order], kind="stable")]
    ordered = values[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts, ends = np.concatenate(([0], edges)), np.concatenate((edges, [len(order)]))
    starts, ends = _several(starts, ends)
    if unlike is not None and len(starts):
        others = unlike[order]
        differ = others != np.repeat(others[starts], ends - starts)
        chosen = np.logical_or.reduceat(differ, starts)
        starts, ends = starts[chosen], ends[chosen]
    inward = np.argsort(
        order[starts], kind="stable"
    )  # by their first row, so that findings are looked up where they lie together
    for start, end in zip(starts[inward].tolist(), ends[inward].tolist(), strict=True):
        yield order[start:end]


def _shared(values: Array) -> Array:
    """Places of values that are not blank and may stand elsewhere too, by their first eight bytes: numbers sort far faster."""
    heads = np.ascontiguousarray(values).view("u8").reshape(len(values), -1)[:, 0]
    ordered = np.sort(heads)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.flatnonzero(np.isin(heads, twice) & (values != b""))


def _several(starts: Array, ends: Array) -> tuple[Array, Array]:
    many = ends - starts > 1
    return starts[many], ends[many]


def _named(texts: list[str]) -> Array:
    """Hashes, blank where there is no text."""
    found = hashes(texts)
    found[[place for place, text in enumerate(texts) if not text]] = b""
    return found
