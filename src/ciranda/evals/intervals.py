"""How sure a mean is: Wilson's interval for shares, a bootstrap for other numbers. Pure, seeded, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054
RESAMPLES = 4000
CHUNK = 250  # resamples at a time, so that memory stays small
SEED = 20261123


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` scores, and the interval that holds the true one in 95 of 100 such samples."""

    mean: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def estimate(scores: Sequence[float], *, rate: bool) -> Estimate:
    """Mean and interval of scores; `rate` when each is 0 or 1. Raises ValueError without any."""
    if not scores:
        raise ValueError("no scores to average")
    n, mean = len(scores), math.fsum(scores) / len(scores)
    if rate:
        return Estimate(mean, *wilson(math.fsum(scores), n), n)
    low, high = quantiles(scores, (0.025, 0.975))
    return Estimate(mean, min(low, mean), max(high, mean), n)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval: honest near 0 and 1, where the textbook one is not."""
    share, square = successes / n, Z95 * Z95
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def quantiles(scores: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Quantiles of the bootstrapped mean. Equal scores are drawn together, so shares cost no more than a dozen numbers."""
    import numpy as np

    values, counts = np.unique(np.asarray(scores, dtype=float), return_counts=True)
    dice, n, means = np.random.default_rng(SEED), len(scores), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, CHUNK):
        drawn: Any = dice.multinomial(n, counts / n, size=CHUNK)
        means[start : start + CHUNK] = drawn @ values / n
    return [float(value) for value in np.quantile(means, levels)]
