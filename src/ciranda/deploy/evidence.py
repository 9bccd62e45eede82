"""What is known about a candidate, and what follows from it: pure values, no store, no clock.

A release may be judged after every single answer, because all of this is betting (`deploy/bets.py`). Per metric, two
bets:

    worse   bets against "the candidate is no worse"            >= 100  ->  stop: false rollback at most 1 %
    fine    bets against "it is worse by the margin or more"    >=  20  ->  go on: false promotion at most 5 %

and they are fed in two ways:

    Pair    shadow: both arms answered the same request, d = score(candidate) - score(champion). That needs few
            answers, so with little traffic it decides quality first. Here `worse` means by more than the margin: no
            user is hurt yet.
    One     canary: each request went to one arm by chance, the candidate's with probability `share`; the difference is
            weighed by the inverse of that probability, so unequal and changing shares and load that swings do no harm.

What pairs have shown is carried into the canary: `fine` starts there with half of the wealth put aside and half of it
bet on, which is an e-process again, while taking the larger of two would not be. A metric with too few votes to
decide anything (thumbs) does not block when pairs have decided quality.

Refused here: judging by a moving window or by a p-value looked at repeatedly (on equal arms that rolls back 2.5 to
17.5 %), and counting one conversation twice (`unit`): its answers resemble one another and no bound would hold.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ciranda.deploy.bets import (
    FINE,
    LATENCY,
    QUALITY,
    THUMBS_UP,
    WORSE,
    Floats,
    Metric,
    Rules,
    e_value,
    one_bets,
    pair_bets,
)
from ciranda.errors import Invalid

__all__ = ["Action", "Arm", "Evidence", "Metric", "One", "Pair", "Rules", "Stage", "Step", "Tally", "add", "decide"]

Action = Literal["hold", "advance", "promote", "rollback"]
Arm = Literal["candidate", "champion"]

UNITS_KEPT = 2000
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Tally:
    """The two bets on one metric (log wealth per bet size, prior included) and the plain sums to tell a person."""

    worse: tuple[float, ...] = tuple(WORSE.tolist())
    fine: tuple[float, ...] = tuple(FINE.tolist())
    candidates: int = 0
    candidate_sum: float = 0.0
    champions: int = 0
    champion_sum: float = 0.0

    @property
    def n(self) -> int:
        """Answers counted on both arms."""
        return self.candidates + self.champions

    def mean(self, usual: float) -> float:
        """Mean over both arms, begun at what is usual, so that the first answer is bet on as well."""
        return (self.candidate_sum + self.champion_sum + usual) / (self.n + 1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one rollout. Immutable; `to_dict` is plain JSON, so any process can take over at any answer.

    Keep the read positions in it (`cursors`), in the same row: then nothing is counted twice after a kill.
    """

    pairs: Mapping[str, Tally] = field(default_factory=dict)
    singles: Mapping[str, Tally] = field(default_factory=dict)
    units: tuple[int, ...] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    entered: int = 0

    @property
    def requests(self) -> int:
        """Answers of the candidate that were counted in the canary, over all its stages."""
        return max((tally.candidates for tally in self.singles.values()), default=0)

    def pair(self, name: str) -> Tally:
        """The tally of shadow pairs for a metric (a fresh one when there are none)."""
        return self.pairs.get(name, FRESH)

    def single(self, name: str) -> Tally:
        """The tally of canary answers for a metric (a fresh one when there are none)."""
        return self.singles.get(name, FRESH)

    def at(self, stream: str, cursor: str) -> Evidence:
        """The same evidence, having read `stream` up to `cursor`."""
        return replace(self, cursors={**self.cursors, stream: cursor})

    def enter(self) -> Evidence:
        """The same evidence at the door of the next stage, which counts its own answers from here."""
        return replace(self, entered=self.requests)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` brings back exactly the same evidence."""
        return {
            "format": FORMAT,
            "units": list(self.units),
            "cursors": dict(self.cursors),
            "entered": self.entered,
            "pairs": {name: asdict(tally) for name, tally in sorted(self.pairs.items())},
            "singles": {name: asdict(tally) for name, tally in sorted(self.singles.items())},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any] | None) -> Evidence:
        """The evidence that `to_dict` wrote; nothing or `{}` is a fresh start."""
        if not state:
            return cls()
        if state.get("format") != FORMAT:
            raise Invalid(
                f"evidence in format {state.get('format')}, this version reads {FORMAT}",
                where="rollouts.evidence",
                remedy="finish or roll back the rollout with the version of Ciranda that began it",
            )
        return cls(
            pairs=_tallies(state["pairs"]),
            singles=_tallies(state["singles"]),
            units=tuple(state["units"]),
            cursors=dict(state["cursors"]),
            entered=int(state["entered"]),
        )


def _tallies(state: Mapping[str, Any]) -> dict[str, Tally]:
    return {
        name: Tally(**{**tally, "worse": tuple(tally["worse"]), "fine": tuple(tally["fine"])})
        for name, tally in state.items()
    }


FRESH = Tally()


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the plan.

    Args:
        kind: `shadow` (the candidate answers copies) or `canary` (it answers a share of the requests).
        share: The candidate's probability in a canary, 0 < share < 1.
        last: Whether all traffic comes next, so that going on means promoting.
    """

    kind: Literal["shadow", "canary"]
    share: float = 0.0
    last: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from the evidence, in words with numbers. `ask` tells that only a person can end this stage."""

    action: Action
    reason: str
    e_values: Mapping[str, float]
    ask: bool = False


@dataclass(frozen=True, slots=True)
class One:
    """One number of one answer in a canary.

    Args:
        metric: Its name.
        arm: Who answered.
        value: In [0, 1].
        share: The candidate's probability in force when that request was assigned.
        unit: The conversation, or "" when the answer stands alone; each counts once per metric.
    """

    metric: str
    arm: Arm
    value: float
    share: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One number, in [0, 1], of both answers to the same request. `unit` as in `One`."""

    metric: str
    candidate: float
    champion: float
    unit: str = ""


# --- taking in ------------------------------------------------------------------------------------------------------


def add(evidence: Evidence, seen: Iterable[One | Pair], rules: Rules) -> Evidence:
    """The evidence with more answers counted, in order. Metrics nobody judges on, and units met before, pass by."""
    pairs, singles, units = dict(evidence.pairs), dict(evidence.singles), dict.fromkeys(evidence.units)
    for item in seen:
        metric = rules.metric(item.metric)
        if metric is None or _met(units, item):
            continue
        if isinstance(item, Pair):
            pairs[metric.name] = _add_pair(pairs.get(metric.name, FRESH), item, metric)
        else:
            singles[metric.name] = _add_one(singles.get(metric.name, FRESH), item, metric)
    return replace(evidence, pairs=pairs, singles=singles, units=tuple(units)[-UNITS_KEPT:])


def _met(units: dict[int, None], item: One | Pair) -> bool:
    """Whether this conversation was counted for this metric; remembers it. The latest two thousand are remembered."""
    if not item.unit:
        return False
    mark = zlib.crc32(f"{type(item).__name__}|{item.metric}|{item.unit}".encode())
    known = mark in units
    units[mark] = None
    return known


def _add_pair(tally: Tally, pair: Pair, metric: Metric) -> Tally:
    candidate, champion = _in_range(pair.candidate, metric), _in_range(pair.champion, metric)
    worse, fine = pair_bets(metric.sign * (candidate - champion), metric.margin)
    return Tally(
        _grow(tally.worse, worse),
        _grow(tally.fine, fine),
        candidates=tally.candidates + 1,
        candidate_sum=tally.candidate_sum + candidate,
        champions=tally.champions + 1,
        champion_sum=tally.champion_sum + champion,
    )


def _add_one(tally: Tally, one: One, metric: Metric) -> Tally:
    if not 0 < one.share < 1:
        raise Invalid(
            f"a canary share of {one.share} compares nothing",
            where=f"metric {one.metric}",
            remedy="give the probability, between 0 and 1, with which the request could reach the candidate",
        )
    value, mine = _in_range(one.value, metric), one.arm == "candidate"
    worse, fine = one_bets(mine, value, centre=tally.mean(metric.usual), share=one.share, metric=metric)
    return Tally(
        _grow(tally.worse, worse),
        _grow(tally.fine, fine),
        candidates=tally.candidates + mine,
        candidate_sum=tally.candidate_sum + mine * value,
        champions=tally.champions + (not mine),
        champion_sum=tally.champion_sum + (not mine) * value,
    )


def _grow(logs: tuple[float, ...], growth: Floats) -> tuple[float, ...]:
    return tuple(map(float.__add__, logs, growth.tolist()))


def _in_range(value: float, metric: Metric) -> float:
    """Bets are fair only for values in [0, 1]: what is outside, or no number, is refused, not clipped silently."""
    if not 0 <= value <= 1:
        raise Invalid(
            f"{metric.name} = {value} is outside [0, 1]",
            where="rollout evidence",
            remedy="scale the score, or compare a flag such as `slower than the champion's p95`",
        )
    return float(value)


# --- deciding -------------------------------------------------------------------------------------------------------


def decide(stage: Stage, evidence: Evidence, rules: Rules) -> Step:
    """What to do now: stop as soon as harm is certain, go on as soon as "not worse" is, else keep looking."""
    return _decide_shadow(evidence, rules) if stage.kind == "shadow" else _decide_canary(stage, evidence, rules)


def _decide_shadow(evidence: Evidence, rules: Rules) -> Step:
    """Pairs decide on quality (a failed answer scores 0 there), or on what is there when quality is not judged."""
    harm = {m.name: float(e_value(evidence.pair(m.name).worse)) for m in rules.metrics if m.name != THUMBS_UP.name}
    good = {m.name: float(e_value(evidence.pair(m.name).fine)) for m in _deciding(rules)}
    n = min(evidence.pair(name).candidates for name in good)
    told = "; ".join(_told(m, evidence.pair(m.name), "pairs") for m in rules.metrics if evidence.pair(m.name).n)
    found = _Found(harm, good, told or "no pairs yet", "in shadow", n)
    if _mean(harm) >= rules.rollback_at:
        return found.step("rollback", rules)
    ready = n >= rules.min_pairs and min(good.values()) >= rules.advance_at
    return found.step("advance", rules) if ready else found.hold(rules, at_least=rules.min_pairs)


def _decide_canary(stage: Stage, evidence: Evidence, rules: Rules) -> Step:
    harm = {m.name: float(e_value(evidence.single(m.name).worse)) for m in rules.metrics}
    skipped = [m for m in rules.metrics if _too_few(m, stage, evidence, rules)]
    good = {m.name: _fine(evidence, m) for m in rules.metrics if m not in skipped}
    n = evidence.requests - evidence.entered
    told = [_told(m, evidence.single(m.name), "answers") for m in rules.metrics if evidence.single(m.name).n]
    told += [_told_skip(m, evidence.single(m.name), stage) for m in skipped]
    found = _Found(harm, good, "; ".join(told) or "no answers yet", f"at {stage.share:.0%} of traffic", n)
    if _mean(harm) >= rules.rollback_at:
        return found.step("rollback", rules)
    if n >= rules.min_requests and min(good.values()) >= rules.advance_at:
        return found.step("promote" if stage.last else "advance", rules)
    return found.hold(rules, at_least=rules.min_requests)


def _deciding(rules: Rules) -> tuple[Metric, ...]:
    quality = tuple(m for m in rules.metrics if m.name == QUALITY.name)
    return quality or tuple(m for m in rules.metrics if m.name not in (THUMBS_UP.name, LATENCY.name)) or rules.metrics


def _fine(evidence: Evidence, metric: Metric) -> float:
    """Wealth against "worse by the margin": what the pairs brought, half kept, half of it bet on in the canary."""
    canary = float(e_value(evidence.single(metric.name).fine))
    if metric.name not in evidence.pairs:
        return canary
    return float(e_value(evidence.pair(metric.name).fine)) * (1 + canary) / 2


def _too_few(metric: Metric, stage: Stage, evidence: Evidence, rules: Rules) -> bool:
    """Votes are rare: while they are fewer than a decision needs, and pairs have decided quality, they do not block."""
    quality, tally = rules.metric(QUALITY.name), evidence.single(metric.name)
    if metric.name != THUMBS_UP.name or quality is None:
        return False
    decided = float(e_value(evidence.pair(quality.name).fine)) >= rules.advance_at
    undecided = _fine(evidence, metric) < rules.advance_at
    return decided and undecided and tally.n < metric.needed(tally.mean(metric.usual), stage.share)


def _mean(harm: Mapping[str, float]) -> float:
    """An average of e-values is an e-value: judging on many metrics needs no correction."""
    return sum(harm.values()) / len(harm)


@dataclass(frozen=True, slots=True)
class _Found:
    """The e-values of one look, and the words for them."""

    harm: Mapping[str, float]
    good: Mapping[str, float]
    told: str
    place: str
    n: int

    def step(self, action: Action, rules: Rules) -> Step:
        if action == "rollback":
            worst = max(self.harm, key=lambda name: self.harm[name])
            return self._because(
                action,
                f"{worst} is worse {self.place}: {self.told}; mean e-value "
                f"{_mean(self.harm):.3g}, {rules.rollback_at:g} is enough",
            )
        return self._because(
            action,
            f"not worse {self.place}: {self.told}; smallest e-value "
            f"{min(self.good.values()):.3g}, {rules.advance_at:g} is enough",
        )

    def hold(self, rules: Rules, *, at_least: int) -> Step:
        name = min(self.good, key=lambda key: self.good[key])
        wanting = (
            f"{self.n} of at least {at_least}"
            if self.n < at_least
            else f"{name} has e-value {self.good[name]:.3g} of {rules.advance_at:g}"
        )
        if rules.patience and self.n >= rules.patience:
            return self._because(
                "hold",
                f"undecided {self.place} after {self.n:,}, a person has to decide: {wanting}; {self.told}",
                ask=True,
            )
        return self._because("hold", f"still looking {self.place}: {wanting}; {self.told}")

    def _because(self, action: Action, reason: str, *, ask: bool = False) -> Step:
        values = {f"{name}:worse": e for name, e in self.harm.items()}
        return Step(action, reason, values | {f"{name}:fine": e for name, e in self.good.items()}, ask)


def _told(metric: Metric, tally: Tally, what: str) -> str:
    mine = f"{tally.candidate_sum / tally.candidates:.1%}" if tally.candidates else "nothing yet"
    theirs = f"{tally.champion_sum / tally.champions:.1%}" if tally.champions else "nothing yet"
    counts = f"{tally.candidates:,}" if what == "pairs" else f"{tally.candidates:,} and {tally.champions:,}"
    return f"{metric.name} {mine} against {theirs} on {counts} {what} (margin {metric.margin:.0%})"


def _told_skip(metric: Metric, tally: Tally, stage: Stage) -> str:
    return (
        f"{metric.name} does not block, {tally.n:,} votes of some {metric.needed(tally.mean(metric.usual), stage.share):,} that a "
        f"decision needs, and shadow pairs have decided quality"
    )
