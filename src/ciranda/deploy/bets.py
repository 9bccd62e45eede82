"""The bets behind every rollout decision: what is compared, by which rules, and what one answer does to the wealth of
those who bet on it. Pure numpy, no store, no clock.

An e-process is the wealth of somebody who bets against a claim at fair odds: while the claim holds, the wealth is not
expected to grow, and the chance that it ever reaches 100 is at most 1 in 100 (Ville), however often one looks and
whenever one stops. Bet sizes are not tuned: a fixed mixture bets with all of them at once. The bets work on scalars
and on arrays alike, so the simulation in `bench/canary.py` measures this very code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda.errors import Invalid
from ciranda.evals import scorers

Floats = NDArray[np.float64]

# Bets as a share of the largest one allowed. Smaller ones than these would only win where differences do not matter.
BETS: Floats = np.array([0.98, *(2.0**-k for k in range(1, 8))])
# The wealth that starts on each, in logs. Against "worse by the margin" the largest bet carries much: it decides the
# commonest case, no failure on either side, nearly as soon as counting could. Harm comes among answers that vary, where
# the largest bet is soon ruined.
FINE: Floats = np.log([0.37, *([0.09] * 7)])
WORSE: Floats = np.log([0.1, *([0.9 / 7] * 7)])


@dataclass(frozen=True, slots=True)
class Metric:
    """One number in [0, 1] per answer that the arms are compared by.

    Args:
        name: error_rate, latency_p95_ms (1 when slower than the champion's p95), quality, thumbs_up, or
            a scorer's name.
        high_is_bad: Whether more of it is worse.
        margin: How much worse the candidate may be and still be called "not worse".
        tolerance: How much worse is no reason yet to roll back (0: any certain worsening is one).
        usual: The mean to expect before the first answer; a wrong one costs some answers, never the bounds.
    """

    name: str
    high_is_bad: bool
    margin: float
    tolerance: float = 0.0
    usual: float = 0.9

    @property
    def sign(self) -> int:
        """+1 when a high value is bad, so that `sign * difference > 0` always means worse."""
        return 1 if self.high_is_bad else -1

    def needed(self, mean: float, share: float) -> int:
        """About how many values an undecided canary needs: 2 (ln 20 + 2) variance / margin squared."""
        return math.ceil(10 * max(mean * (1 - mean), 0.05) / (share * (1 - share)) / self.margin**2)


ERROR_RATE = Metric("error_rate", True, 0.02, usual=0.01)
# A new process on a shared machine is always a little slower or faster: only what exceeds the margin is a reason to
# go back.
LATENCY = Metric("latency_p95_ms", True, 0.10, tolerance=0.10, usual=0.05)
QUALITY = Metric("quality", False, 0.05)
THUMBS_UP = Metric("thumbs_up", False, 0.05)
KNOWN: Mapping[str, Metric] = {metric.name: metric for metric in (ERROR_RATE, LATENCY, QUALITY, THUMBS_UP)}


@dataclass(frozen=True, slots=True)
class Rules:
    """How a rollout is judged.

    Args:
        metrics: What it is judged on (`release.judge_on`).
        rollback_at: Mean e-value over the metrics at which the candidate goes back.
        advance_at: Smallest e-value over the metrics from which it goes on.
        min_pairs: Pairs that the shadow stage wants to see in any case.
        min_requests: Answers by the candidate that each canary stage wants to see in any case.
        patience: Answers (or pairs) after which an undecided stage asks a person; 0 waits for ever.
    """

    metrics: tuple[Metric, ...] = (ERROR_RATE, LATENCY, QUALITY, THUMBS_UP)
    rollback_at: float = 100.0
    advance_at: float = 20.0
    min_pairs: int = 10
    min_requests: int = 20
    patience: int = 40_000

    @classmethod
    def of(cls, judge_on: Iterable[str], margins: Mapping[str, float] | None = None, **settings: Any) -> Rules:
        """The rules of a `release:` section.

        Args:
            judge_on: Metric names; one not in `KNOWN` is a scorer's, and says itself what is
                better.
            margins: `release.margins`, by metric name; a margin is a share between 0 and 1, such as 0.05.
            settings: Any other field of `Rules`.
        """
        wanted, margins = tuple(dict.fromkeys(judge_on)), margins or {}
        if not wanted:
            raise Invalid(
                "a rollout must be judged on at least one metric",
                where="release.judge_on",
                remedy=f"name some of {', '.join(KNOWN)}",
            )
        for name, margin in margins.items():
            if name not in wanted or not 0 < margin < 1:
                raise Invalid(
                    f"margin {name}: {margin} is of no use",
                    where="release.margins",
                    remedy="give a share between 0 and 1, such as 0.05, for a metric named in release.judge_on",
                )
        return cls(metrics=tuple(_with_margin(name, margins) for name in wanted), **settings)

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, when the rollout is judged on it."""
        return next((metric for metric in self.metrics if metric.name == name), None)


def _with_margin(name: str, margins: Mapping[str, float]) -> Metric:
    bad = scorers.bad_when_high(name)
    metric = KNOWN.get(name) or replace(QUALITY, name=name, high_is_bad=bad, usual=0.1 if bad else 0.9)
    margin = margins.get(name, metric.margin)
    return replace(metric, margin=margin, tolerance=margin if metric.tolerance else 0.0)


def pair_bets(worse_by: Any, margin: Any) -> tuple[Floats, Floats]:
    """Log growth, for every bet size (last axis), of the bets against "worse by at most the margin" and "by at least".

    Args:
        worse_by: How much worse the candidate did on the same request, in [-1, 1]; a scalar or an array.
        margin: How much worse is still called "not worse".
    """
    excess = np.asarray(worse_by, float)[..., None] - margin
    return np.log1p(BETS * excess / (1 + margin)), np.log1p(-BETS * excess / (1 - margin))


def one_bets(candidate: Any, value: Any, *, centre: Any, share: Any, metric: Metric) -> tuple[Floats, Floats]:
    """Log growth, for every bet size (last axis), of the bets against "no worse" and "worse by at least the margin".

    Args:
        candidate: Whether the candidate answered; a scalar or an array, as the others are.
        value: The metric in [0, 1].
        centre: The pooled mean before this answer; it lowers the variance and cancels in expectation.
        share: The probability with which the request went to the candidate; its inverse weighs the answer.
        metric: Its sign, margin and tolerance.
    """
    value, centre, share = (np.asarray(x, float) for x in (value, centre, share))
    off = value - centre
    gap = np.where(candidate, off / share, -off / (1 - share))
    low = -np.maximum(centre / share, (1 - centre) / (1 - share))
    high = np.maximum((1 - centre) / share, centre / (1 - share))
    if metric.sign < 0:
        gap, low, high = -gap, -high, -low
    # Scaled so that a bet of 1 loses all on the worst possible answer, never more.
    excess = (gap - metric.tolerance) / (metric.tolerance - low)
    spare = (metric.margin - gap) / (high - metric.margin)
    return np.log1p(BETS * excess[..., None]), np.log1p(BETS * spare[..., None])


def rate_bets(bad: Any, limit: float) -> Floats:
    """Log growth, for every bet size, of the bets against "at most `limit` of all answers are bad" (one arm only)."""
    return np.log1p(BETS * (np.asarray(bad, float)[..., None] - limit) / limit)


def e_value(log_wealth: Any) -> Floats:
    """The wealth over the last axis (its prior is in the logs), safe for very long runs: at most e^700."""
    logs = np.asarray(log_wealth, float)
    top = logs.max(axis=-1)
    total = top + np.log(np.exp(logs - top[..., None]).sum(axis=-1))
    return np.asarray(np.exp(np.minimum(total, 700.0)), float)
