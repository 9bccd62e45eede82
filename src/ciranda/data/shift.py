"""Whether one set of rows differs from another: length, language, label and words, each with a two-sample test and its size.

    length      Kolmogorov-Smirnov on characters; the size is the largest distance between the distribution functions
    language    chi-squared on counts; the size is Cramér's V, corrected for its bias (Bergsma 2013), 0 to 1
    label       the same, where answers are classes
    words       the same on one word of each row, the one with the smallest hash (so rows, which are independent, are
                counted, and not their words, which are not); its bucket is one of BUCKETS

With many rows the smallest difference is certain and none of anybody's business, so a shift needs both: p below `alpha` (shared by
the four, Bonferroni) and a size of `effect` or more. Rows that both sets hold make the test careful, never rash.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ciranda.data.labels import classed

BUCKETS = 256
LEAST_ROWS = 50
RARE = 5  # categories expected less often than this, in both sets together, are counted as one
TESTS = 4
TOLD = 3  # values whose share moved most, named in a reason

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Profile:
    """What is compared: sorted lengths, and counts of languages, labels and word buckets (with an example word each)."""

    rows: int
    lengths: NDArray[Any]
    languages: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Shift:
    """A difference: what differs, how much (0 to 1), how surely, and between which values."""

    what: str
    size: float
    p: float
    told: str

    @property
    def reason(self) -> str:
        """For reports."""
        return f"{self.what} differ from the parent's: {self.told} (size {self.size:.2f}, p {self.p:.1g})"


def bucket_of(text: str) -> int:
    """The bucket of a text's word with the smallest hash; -1 for a text without words."""
    return min((crc32(word.encode()) for word in _WORD.findall(text.lower())), default=-1) % (BUCKETS * 64)


def profile(lengths: NDArray[Any], languages: Iterable[str], labels: Iterable[str], words: Iterable[int]) -> Profile:
    """The profile of rows by their length, language, label and bucket. Empty labels and -1 count as none."""
    named = Counter(label for label in labels if label)
    counted = Counter(word % BUCKETS for word in words if word >= 0)
    return Profile(len(lengths), np.sort(lengths), Counter(languages), named, counted)


def shifts(before: Profile, after: Profile, *, alpha: float, effect: float) -> Iterator[Shift]:
    """What differs surely and by much, the largest first; nothing when one of the sets has fewer than LEAST_ROWS rows."""
    if min(before.rows, after.rows) < LEAST_ROWS:
        return
    found = [_length(before, after), _counted("languages", before.languages, after.languages)]
    if classed(before.labels, before.rows) or classed(after.labels, after.rows):
        found.append(_counted("labels", before.labels, after.labels))
    found.append(_counted("words", before.words, after.words))
    yield from sorted((one for one in found if one.p < alpha / TESTS and one.size >= effect), key=lambda one: -one.size)


def _length(before: Profile, after: Profile) -> Shift:
    both = np.concatenate([before.lengths, after.lengths])
    share = [np.searchsorted(one.lengths, both, side="right") / one.rows for one in (before, after)]
    size = float(np.abs(share[0] - share[1]).max())
    n = before.rows * after.rows / (before.rows + after.rows)
    reach = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * size  # Stephens 1970
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * reach) ** 2) for k in range(1, 101)) if reach > 0.2 else 1.0
    middle = [int(np.median(one.lengths)) for one in (before, after)]
    return Shift("lengths", size, min(max(p, 0.0), 1.0), f"median {middle[0]} → {middle[1]} characters")


def _counted(what: str, before: Mapping[Any, int], after: Mapping[Any, int]) -> Shift:
    names = sorted(before.keys() | after.keys(), key=str)
    table = np.array([[one.get(name, 0) for name in names] for one in (before, after)], dtype=float)
    rare = table.sum(axis=0) < 2 * RARE
    told = _moved(names, table) if what != "words" else "other words are used"
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return Shift(what, 0.0, 1.0, told)
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / total
    squared, freedom = float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1
    size = math.sqrt(max(0.0, squared / total - freedom / (total - 1)))  # Bergsma's correction; the smaller side has 2
    return Shift(what, min(size, 1.0), _chi_squared_above(squared, freedom), told)


def _moved(names: list[Any], table: NDArray[Any]) -> str:
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    most = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:TOLD]
    return ", ".join(f"{names[at] or 'unknown'} {shares[0][at]:.1%} → {shares[1][at]:.1%}" for at in most)


def _chi_squared_above(value: float, freedom: int) -> float:
    """The probability of more: the regularised upper incomplete gamma function Q(freedom/2, value/2), by series or fraction."""
    a, x = freedom / 2, value / 2
    if x <= 0:
        return 1.0
    front = math.exp(min(a * math.log(x) - x - math.lgamma(a), 0.0))
    if x < a + 1:
        term = total = 1 / a
        for k in range(1, 10_000):
            term *= x / (a + k)
            total += term
            if term < total * 1e-12:
                break
        return max(0.0, 1 - front * total)
    return front * _fraction(a, x)


def _fraction(a: float, x: float) -> float:
    """Lentz's method for the continued fraction of Q."""
    b, c = x + 1 - a, 1e300
    d = found = 1 / b
    for k in range(1, 10_000):
        b += 2
        d = 1 / (k * (a - k) * d + b)
        c = b + k * (a - k) / c
        found *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return found
