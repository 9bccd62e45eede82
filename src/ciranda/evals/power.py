"""What a comparison could have found: effect sizes, the smallest difference that so many cases tell, how many would. Pure.

"Cannot tell" has two meanings: there is no difference, or there were too few cases to see it. These figures part them. All are for
paired differences ("gains", in units of the metric): a two-sided test at 5 % that finds what is there in 8 of 10 tries, by the
normal approximation (Miettinen 1968 for pairs of shares); `bench/gates.py` holds it against simulation.

    effect       Cohen's g for shares (how far from even the cases that differ are split; 0.05 small, 0.15 medium, 0.25 large),
                 Cohen's d of the differences for other numbers (0.2, 0.5, 0.8)
    detectable   the smallest true difference that would be found
    needed       the cases that it takes to exclude a loss of a margin, or to find a difference
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Z_LEVEL = 1.959963984540054  # two-sided 5 %
Z_FLOOR = 1.6448536269514722  # one-sided 5 %
Z_POWER = 0.8416212335729143  # 8 of 10
MOST = 10_000_000

Kind = Literal["g", "d"]
BOUNDS: dict[Kind, tuple[float, float, float]] = {"g": (0.05, 0.15, 0.25), "d": (0.2, 0.5, 0.8)}
WORDS = ("negligible", "small", "medium", "large")


@dataclass(frozen=True)
class Effect:
    """How large a difference is, on a scale that does not depend on how many cases there were."""

    value: float
    kind: Kind

    @property
    def size(self) -> str:
        """In a word, by Cohen's conventions."""
        return WORDS[sum(abs(self.value) >= bound for bound in BOUNDS[self.kind])]


def effect(gains: Sequence[float], *, rate: bool) -> Effect:
    """The effect size of paired differences."""
    if rate:
        wins, losses = sum(1 for gain in gains if gain > 0), sum(1 for gain in gains if gain < 0)
        return Effect(wins / (wins + losses) - 0.5 if wins + losses else 0.0, "g")
    spread = math.sqrt(_variance(gains))
    return Effect(math.fsum(gains) / len(gains) / spread if spread else 0.0, "d")


def detectable(gains: Sequence[float], *, rate: bool, span: float = 1.0) -> float:
    """The smallest true mean of such differences that as many cases would find; in units of the metric.

    Args:
        span: The largest difference that there can be.
    """
    n, square = len(gains), _square(gains, span)
    found = (Z_LEVEL + Z_POWER) * math.sqrt(square / n)
    if not rate:
        return found
    for _ in range(50):  # a share that moves by so much makes at least so many cases differ
        found = (Z_LEVEL + Z_POWER) * math.sqrt(max(0.0, max(square, found) - found * found) / n)
    return min(1.0, found + 1 / n)  # Edwards' correction: the exact test counts whole cases


def needed(gains: Sequence[float], difference: float, *, margin: bool, span: float = 1.0) -> int:
    """How many cases it takes to exclude a loss of `difference` between equals (`margin`), or to find so large a one."""
    if not difference:
        return 0
    z = (Z_FLOOR if margin else Z_LEVEL) + Z_POWER
    return min(MOST, math.ceil(z * z * _square(gains, span) / (difference * difference)))


def _square(gains: Sequence[float], span: float) -> float:
    """The mean square, with one invented case for each side: a sample in which all agree would claim to see everything."""
    return (math.fsum(gain * gain for gain in gains) + 2 * span * span) / (len(gains) + 2)


def _variance(gains: Sequence[float]) -> float:
    mean = math.fsum(gains) / len(gains)
    return math.fsum((gain - mean) ** 2 for gain in gains) / max(1, len(gains) - 1)
