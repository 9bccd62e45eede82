"""Has a share of bad answers (or bad votes) risen? A bet against "at most the limit", valid at every moment.

The limit is learned from the first values after a promotion: what was bad among them, read generously (upper end of a 95 %
Wilson interval, since a small start proves little), plus a margin that a model may get worse by before anybody is told. Betting
begins after fifty values; up to four hundred more sharpen the limit, each only once a hundred quiet ones have followed it,
so that a change cannot raise the limit that it is judged by.
Wealth restarts at every value over epochs of five hundred, as in `bets`, so that a fall after a long good time is found as soon
as one at the beginning: at most alpha * 100,000 / 500 false alarms per 100,000 values.
It says again that things are bad only after another two hundred values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ciranda.deploy.bets import WORSE, e_value, rate_bets
from ciranda.errors import Invalid
from ciranda.monitor.bets import Bound, Hit

EPOCH = 500
QUIET = 200
LAG = 100
SHARPENED = 400
SUSPICIOUS = 5.0
MET = 2000
NONE = (-math.inf,) * len(WORSE)


@dataclass(frozen=True, slots=True)
class Rate:
    """The state of one such bet; `add` gives the next.

    Args:
        alpha: Chance of a false alarm in an epoch.
        margin: How much above its first level the share may rise.
        start: Values that the first level is learned from.
    """

    alpha: float = 0.01
    margin: float = 0.05
    start: int = 50
    seen: int = 0
    learned: float = 0.0
    base: int = 0
    in_epoch: int = 0
    logs: tuple[float, ...] = NONE
    rise: float = 0.0
    began: int = 0
    recent: tuple[float, ...] = ()
    hit_at: int = 0
    hits: int = 0

    @property
    def learning(self) -> bool:
        """Whether the first level is still being learned."""
        return self.seen < self.start

    @property
    def before(self) -> float:
        """The share of bad values in the quiet start."""
        return self.learned / max(self.base, 1)

    @property
    def now(self) -> float:
        """The share of bad values among the latest two hundred."""
        return sum(self.recent) / max(len(self.recent), 1)

    @property
    def limit(self) -> float:
        """What is still tolerated."""
        return min(wilson_upper(self.before, max(self.base, 1)) + self.margin, 0.99)

    @property
    def evidence(self) -> float:
        """The evidence of a rise so far; an alarm comes at 1 / alpha."""
        return float(e_value(self.logs)) if max(self.logs) > -math.inf else 0.0

    @property
    def worsened(self) -> bool:
        """Whether a rise was found and has not been quiet since."""
        return bool(self.hit_at) and self.seen - self.hit_at <= 2 * QUIET

    @property
    def bound(self) -> Bound:
        """The promise on false alarms."""
        return Bound(self.alpha, EPOCH)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "logs": [log if log > -math.inf else None for log in self.logs]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Rate:
        """What `to_dict` wrote."""
        logs = tuple(-math.inf if log is None else log for log in state["logs"])
        return cls(**{**state, "logs": logs, "recent": tuple(state["recent"])})


def add(rate: Rate, bads: Iterable[float]) -> tuple[Rate, list[Hit]]:
    """The state after some values (1 is bad, 0 is good, anything between counts in part), and the alarms they raised."""
    hits: list[Hit] = []
    for bad in bads:
        if not 0 <= bad <= 1:
            raise Invalid(f"a badness of {bad}", where="rates", remedy="give a value between 0 (good) and 1 (bad)")
        rate, hit = _learn(rate, bad) if rate.learning else _bet(rate, bad)
        hits += [hit] if hit else []
    return rate, hits


def _learn(rate: Rate, bad: float) -> tuple[Rate, None]:
    return replace(rate, seen=rate.seen + 1, learned=rate.learned + bad, base=rate.base + 1,
                   recent=(*rate.recent, bad)[-QUIET:]), None  # fmt: skip


def _sharpened(rate: Rate) -> Rate:
    """The limit from one more value of the quiet start, the one a hundred back."""
    settled = rate.base + LAG < rate.seen and rate.base < rate.start + SHARPENED
    if not settled or rate.evidence >= SUSPICIOUS or rate.hit_at:
        return rate
    return replace(rate, learned=rate.learned + rate.recent[-LAG - 1], base=rate.base + 1)


def _bet(rate: Rate, bad: float) -> tuple[Rate, Hit | None]:
    rate = _sharpened(rate)
    fresh = rate.in_epoch >= EPOCH
    before = np.array(NONE if fresh else rate.logs)
    gains = rate_bets(bad, rate.limit)
    logs = np.logaddexp(before, WORSE - math.log(EPOCH)) + gains
    fallen = fresh or rate.rise <= 0
    rate = replace(
        rate, seen=rate.seen + 1, in_epoch=1 if fresh else rate.in_epoch + 1, logs=tuple(logs.tolist()),
        began=rate.seen + 1 if fallen else rate.began, rise=(0.0 if fallen else rate.rise) + float(np.exp(WORSE) @ gains),
        recent=(*rate.recent, bad)[-QUIET:],
    )  # fmt: skip
    if rate.evidence < 1 / rate.alpha:
        return rate, None
    hit = Hit(at=rate.seen, since=rate.began, wealth=rate.evidence, expert=0)
    told = rate.hit_at and rate.seen - rate.hit_at < QUIET
    after = replace(rate, logs=NONE, in_epoch=0, rise=0.0)
    return (after, None) if told else (replace(after, hit_at=rate.seen, hits=rate.hits + 1), hit)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a level: how bad (0 to 1), of which interaction, when (ISO), and masked words that show it."""

    bad: float
    id: str
    at: str
    text: str = ""


@dataclass(frozen=True)
class RateAlarm:
    """A share of bad values that has certainly risen by more than the margin."""

    channel: str
    number: int
    at: int
    messages: int
    since: str
    before: float
    now: float
    limit: float
    e_value: float
    bound: Bound
    examples: tuple[tuple[str, str], ...]

    @property
    def notify(self) -> bool:
        """Always: the margin is its size."""
        return True

    @property
    def summary(self) -> str:
        """One sentence."""
        what = {"quality": "bad answers", "feedback": "thumbs down"}.get(self.channel, self.channel)
        return (f"{what} rose from {self.before:.0%} to {self.now:.0%} since {self.since[:16].replace('T', ' ')} "
                f"(limit {self.limit:.0%}, found after {self.messages} values, e-value {self.e_value:,.0f})")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, in the shape that pages show."""
        return {"channel": self.channel, "number": self.number, "notify": True, "at": self.at, "messages": self.messages,
                "since": self.since, "summary": self.summary, "before": round(self.before, 4), "now": round(self.now, 4),
                "limit": round(self.limit, 4), "e_value": float(f"{min(self.e_value, 1e12):.4g}"),
                "false_alarms_per_100k": round(self.bound.per_100k, 3),
                "examples": [list(one) for one in self.examples]}  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A watched rate with what is needed to tell of it: when its rise began, examples of what was bad, ids met."""

    channel: str
    rate: Rate
    began_at: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    met: tuple[str, ...] = ()
    latest: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"channel": self.channel, "rate": self.rate.to_dict(), "began_at": self.began_at,
                "examples": [list(one) for one in self.examples], "met": list(self.met), "latest": self.latest}  # fmt: skip

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Level:
        """What `to_dict` wrote."""
        examples = tuple((str(one[0]), str(one[1])) for one in state["examples"])
        return cls(state["channel"], Rate.from_dict(state["rate"]), state["began_at"], examples, tuple(state["met"]),
                   state["latest"])  # fmt: skip


def observe(level: Level, values: Iterable[Value]) -> tuple[Level, list[RateAlarm]]:
    """The level after some more values, each interaction counted once, and the alarms they raised."""
    alarms: list[RateAlarm] = []
    met = dict.fromkeys(level.met)
    for value in values:
        if value.id in met:
            continue
        met[value.id] = None
        began = level.rate.began
        rate, hits = add(level.rate, [value.bad])
        bad = ((value.id, value.text),) if value.bad > 0.5 else ()
        level = replace(level, rate=rate, began_at=value.at if rate.began != began else level.began_at,
                        examples=(*level.examples, *bad)[-5:])  # fmt: skip
        for hit in hits:
            alarm = _alarm(level, hit)
            level = replace(level, latest=alarm.to_dict())
            alarms.append(alarm)
    return replace(level, met=tuple(met)[-MET:]), alarms


def _alarm(level: Level, hit: Hit) -> RateAlarm:
    rate, messages = level.rate, hit.at - hit.since + 1
    window = rate.recent[-messages:]
    return RateAlarm(level.channel, rate.hits, hit.at, messages, level.began_at, rate.before, sum(window) / len(window),
                     rate.limit, hit.wealth, rate.bound, level.examples)  # fmt: skip


def wilson_upper(share: float, n: int, z: float = 1.645) -> float:
    """The upper end of a one-sided 95 % Wilson interval for a share seen in n values."""
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre + spread) / (1 + z * z / n)
