"""Is one version better than another? Judged on the same cases, with "cannot tell" as an honest answer. Pure.

Pairing takes the difficulty of the cases out: only those that one version gets right and the other wrong speak. The interval of
the difference is a paired bootstrap over them; the p-value is the exact sign test, which for right or wrong is McNemar's. Two
invented cases, one for each side, are added to the bootstrap, since a sample in which all agree would claim to be certain.

    better      the whole interval is above zero, and the sign test agrees (p < 0.05)
    not_worse   a loss of `margin` or more is excluded (one-sided 5 %); needs a margin
    worse       the whole interval is below zero, and the sign test agrees
    cannot_tell otherwise, and always below `least` cases

Differences are turned so that more is better, whatever the metric: fewer refusals count as a gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ciranda.evals.intervals import quantiles
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Evaluation

Verdict = Literal["better", "not_worse", "worse", "cannot_tell"]
LEAST = 30
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Candidate minus champion on one metric, with its evidence. `mean_a` and `mean_b` are as measured, not turned."""

    metric: str
    margin: float
    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    floor: float
    p_value: float
    wins: int
    losses: int
    verdict: Verdict
    reason: str

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return self.low, self.high

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.__dict__)


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: str,
    margin: float = 0.0,
    *,
    where: Mapping[str, str] | None = None,
    least: int = LEAST,
) -> Comparison:
    """Compare candidate `a` with champion `b` on the cases that both answered.

    Args:
        metric: A scorer's name.
        margin: How much worse still counts as not worse.
        where: Only cases with these slices, such as `{"language": "en"}`.
        least: Below so many common cases nothing is told.
    """
    first, second = a.scores(metric, where), b.scores(metric, where)
    common = sorted(first.keys() & second.keys())
    return of_pairs([(first[case], second[case]) for case in common], metric, margin, least=least)


def of_pairs(
    pairs: Sequence[tuple[float, float]], metric: str, margin: float = 0.0, *, least: int = LEAST
) -> Comparison:
    """The same for scores that are paired already, candidate first: shadow traffic, for example."""
    n = len(pairs)
    if n == 0:
        reason = "no case was answered by both"
        return Comparison(metric, margin, 0, 0, 0, 0, -1, 1, -1, 1, 0, 0, "cannot_tell", reason)
    measured = scorer(metric)
    sign = 1 if measured.higher_is_better else -1
    gains = [sign * (candidate - champion) for candidate, champion in pairs]
    span = 1.0 if measured.bounded else max(map(abs, gains)) or 1.0
    low, floor, high = quantiles([*gains, span, -span], (LEVEL / 2, LEVEL, 1 - LEVEL / 2))
    wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    p_value = _sign_test(wins, losses)
    verdict, reason = _judged(n, least, low, floor, high, p_value, margin)
    mean_a, mean_b = (math.fsum(side) / n for side in zip(*pairs, strict=True))
    return Comparison(
        metric,
        margin,
        n,
        mean_a,
        mean_b,
        math.fsum(gains) / n,
        low,
        high,
        floor,
        p_value,
        wins,
        losses,
        verdict,
        reason,
    )


def _judged(
    n: int, least: int, low: float, floor: float, high: float, p_value: float, margin: float
) -> tuple[Verdict, str]:
    if n < least:
        return "cannot_tell", f"{n} common cases, fewer than {least}"
    if low > 0 and p_value < LEVEL:
        return "better", "the interval is above zero"
    if margin > 0 and floor > -margin:
        return "not_worse", f"a loss of {margin:g} is excluded"
    if high < 0 and p_value < LEVEL:
        return "worse", "the interval is below zero"
    if margin > 0 and floor <= -margin < high:
        return "cannot_tell", f"a loss of {margin:g} is not excluded by {n} cases"
    return "cannot_tell", f"the interval holds zero, or too few of {n} cases differ"


def _sign_test(wins: int, losses: int) -> float:
    """The exact two-sided sign test over the cases that differ; McNemar's exact test for right or wrong.

    Coins are symmetric, so it is twice the smaller tail: no library for this.
    """
    n, ways, tail = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / (1 << n)))
