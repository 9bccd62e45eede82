"""How far annotators agree beyond chance: Krippendorff's alpha over all, Cohen's kappa for each two, with intervals.

What is compared is whether the given answer was right: a correction says that it was not. Alpha is that for nominal data (K.
Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011): one minus observed over expected disagreement, from the matrix of
coincidences; it takes any number of annotators and items that some have not seen. Kappa is Cohen's (1960). Intervals are the 2.5
and 97.5 percentiles of 1,000 bootstrap samples of items, seeded, so the same labels give the same figures.
Why not a library: `krippendorff` is under the GPL, and `scikit-learn` and `statsmodels` bring 50 MB for twenty lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 20261123
LEAST = 2  # items that were said of twice, for a figure at all

Said = tuple[str, str, str]  # item, annotator, category
Array = NDArray[Any]


@dataclass(frozen=True)
class Figure:
    """A coefficient with its interval over `n` items; None where chance alone would agree always (all said the same)."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(self.__dict__)


def agreement(said: Iterable[Said]) -> list[Figure]:
    """Alpha over all annotators, then kappa for each two who labelled at least LEAST common items."""
    by_item: dict[str, dict[str, str]] = defaultdict(dict)
    for item, annotator, category in said:
        by_item[item][annotator] = category
    units = [list(one.values()) for one in by_item.values() if len(one) > 1]
    if len(units) < LEAST:
        return []
    found = [_figure("alpha", _counts(units), _alpha)]
    for one, two in combinations(sorted({name for item in by_item.values() for name in item}), 2):
        pairs = [(item[one], item[two]) for item in by_item.values() if one in item and two in item]
        if len(pairs) >= LEAST:
            found.append(_figure(f"kappa: {one}, {two}", _pairs(pairs), _kappa))
    return found


def alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha of the categories given to each unit; None when it is not defined."""
    counts = _counts([one for one in units if len(one) > 1])
    return _value(_alpha(counts, np.ones((1, len(counts)))))


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of what two annotators said of the same items; None when it is not defined."""
    table = _pairs(pairs)
    return _value(_kappa(table, np.ones((1, len(table)))))


def _figure(name: str, table: Array, coefficient: Any) -> Figure:
    n = len(table)
    weights = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    drawn = coefficient(table, weights)
    known = drawn[np.isfinite(drawn)]
    low, high = (float(one) for one in np.quantile(known, (0.025, 0.975))) if len(known) else (None, None)
    return Figure(name, _value(coefficient(table, np.ones((1, n)))), low, high, n)


def _value(found: Array) -> float | None:
    return float(found[0]) if np.isfinite(found[0]) else None


def _counts(units: Sequence[Sequence[str]]) -> Array:
    """Units x categories: how often each category was given."""
    names = sorted({category for unit in units for category in unit})
    return np.array([[unit.count(name) for name in names] for unit in units], float)


def _alpha(counts: Array, weights: Array) -> Array:
    """One coefficient for each row of weights (how often each unit counts)."""
    given = counts.sum(axis=1)
    apart = (given**2 - (counts**2).sum(axis=1)) / (
        given - 1
    )  # ordered pairs of unlike categories, over pairable values
    totals = weights @ counts
    n = totals.sum(axis=1)
    expected = (n**2 - (totals**2).sum(axis=1)) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = 1 - (weights @ apart) / expected
    return np.where(expected > 0, found, np.nan)


def _pairs(pairs: Sequence[tuple[str, str]]) -> Array:
    """Items x (2 x categories): one-hot of what each of the two said."""
    names = sorted({name for pair in pairs for name in pair})
    return np.array([[float(one == name) for one in pair for name in names] for pair in pairs])


def _kappa(table: Array, weights: Array) -> Array:
    half = table.shape[1] // 2
    first, second, n = table[:, :half], table[:, half:], weights.sum(axis=1)
    same = weights @ (first * second).sum(axis=1) / n
    chance = ((weights @ first) * (weights @ second)).sum(axis=1) / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = (same - chance) / (1 - chance)
    return np.where(chance < 1, found, np.nan)
