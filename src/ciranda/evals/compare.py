"""Is one version better than another? Judged on the same cases, with "cannot tell" as an honest answer. Pure.

Pairing takes the difficulty of the cases out: only those that one version gets right and the other wrong speak. The interval of
the difference is a paired bootstrap over them; the p-value is the exact sign test, which for right or wrong is McNemar's. Two
invented cases, one for each side, are added to the bootstrap, since a sample in which all agree would claim to be certain.

    better      the whole interval is above zero, and the sign test agrees (p < 0.05)
    not_worse   a loss of `margin` or more is excluded (one-sided 5 %); needs a margin
    worse       the whole interval is below zero, and the sign test agrees
    cannot_tell otherwise, and always below `least` cases

Differences are turned so that more is better, whatever the metric: fewer refusals count as a gain.

Each comparison says how large the difference is (`effect`), the smallest one that so many cases would have found
(`detectable`) and how many it would take (`needed`), so that "cannot tell" is no dead end. Several at once are a family
(`together`): among twenty slices one looks worse by chance, so p-values are Holm's, and what does not hold among all is no claim.
A gate that needs every one of several rules to hold needs no correction to pass, since each must hold by itself; only
its claims of harm do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ciranda.evals import power
from ciranda.evals.intervals import quantiles
from ciranda.evals.power import Effect
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Evaluation

Verdict = Literal["better", "not_worse", "worse", "cannot_tell"]
CLAIMS: frozenset[Verdict] = frozenset({"better", "worse"})
NONE = Effect(0.0, "g")
LEAST = 30
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Candidate minus champion on one metric, with its evidence. `mean_a` and `mean_b` are as measured, not turned.

    Args:
        floor: The loss that is excluded one-sided at 5 %.
        effect: How large the difference is, whatever n.
        detectable: The smallest true difference that n cases would find in 8 of 10 tries.
        needed: Cases that would tell: exclude the margin, or find the difference that was seen; 0 when nothing differs.
        adjusted_p: Holm's p-value within the family; p_value when it stands alone.
        family: How many comparisons were made together.
    """

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
    effect: Effect = NONE
    detectable: float = 1.0
    needed: int = 0
    adjusted_p: float = 1.0
    family: int = 1

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return self.low, self.high

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "effect": {**asdict(self.effect), "size": self.effect.size}}


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
    chosen = scorer(metric)
    sign = 1 if chosen.higher_is_better else -1
    gains = [sign * (candidate - champion) for candidate, champion in pairs]
    span = 1.0 if chosen.bounded else max(map(abs, gains)) or 1.0
    low, floor, high = quantiles([*gains, span, -span], (LEVEL / 2, LEVEL, 1 - LEVEL / 2))
    wins, losses = sum(1 for gain in gains if gain > 0), sum(1 for gain in gains if gain < 0)
    p_value, mean = sign_test(wins, losses), math.fsum(gains) / n
    needed = power.needed(gains, margin or mean, margin=margin > 0, span=span)
    mean_a, mean_b = (math.fsum(side) / n for side in zip(*pairs, strict=True))
    found = Comparison(
        metric, margin, n, mean_a, mean_b, mean, low, high, floor, p_value, wins, losses, "cannot_tell", "",
        power.effect(gains, rate=chosen.rate), power.detectable(gains, rate=chosen.rate, span=span),
        needed, p_value,
    )  # fmt: skip
    return judged(found, least=least)


def together(found: Sequence[Comparison], claims: Collection[Verdict] = CLAIMS) -> tuple[Comparison, ...]:
    """The same comparisons as one family: a claim that does not hold among all of them becomes "cannot tell".

    Args:
        claims: The verdicts that are claims here. Where all must hold for a yes (gates), only `worse` is one.
    """
    adjusted = holm([one.p_value for one in found])
    return tuple(_among(one, p, len(found), claims) for one, p in zip(found, adjusted, strict=True))


def _among(one: Comparison, p: float, family: int, claims: Collection[Verdict]) -> Comparison:
    weighed = replace(one, adjusted_p=p, family=family)
    if one.verdict not in claims or p < LEVEL:
        return weighed
    reason = f"{one.reason}, but among {family} comparisons that happens by chance (p = {p:.3f})"
    return replace(weighed, verdict="cannot_tell", reason=reason)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: rejecting those below a level errs in any of them no more often than that level."""
    adjusted, worst = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def by_slice(
    a: Evaluation, b: Evaluation, metric: str, margin: float = 0.0, *, least: int = LEAST
) -> dict[str, Comparison]:
    """Candidate and champion in every slice that both have, such as `language=en`, judged as one family."""
    parts = sorted({(name, value) for one in (*a.answers, *b.answers) for name, value in one.slices.items()})
    found = {
        f"{name}={value}": compare(a, b, metric, margin, where={name: value}, least=least) for name, value in parts
    }
    told = {name: one for name, one in found.items() if one.n}
    return dict(zip(told, together(list(told.values())), strict=True))


def judged(one: Comparison, *, least: int = LEAST) -> Comparison:
    """The same comparison with the verdict that its figures call for now."""
    verdict, reason = _judged(one.n, least, one.low, one.floor, one.high, one.p_value, one.margin)
    if verdict == "cannot_tell" and one.needed > one.n >= least:
        reason += f"; about {one.needed:,} cases would tell"
    return replace(one, verdict=verdict, reason=reason)


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


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided sign test over the cases that differ; McNemar's exact test for right or wrong.

    Coins are symmetric, so it is twice the smaller tail: no library for this.
    """
    n, ways, tail = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / (1 << n)))
