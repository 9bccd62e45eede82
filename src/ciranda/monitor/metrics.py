"""Live figures of a model, for pages and command line: rate, latency, errors, thumbs, quality; now and as a line.

Read from the roll-ups of the store of interactions, so the cost does not grow with traffic. A step without traffic is a gap in
latency (None), not a zero, and zero requests, not a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ciranda.evals import scorers
from ciranda.interactions.query import Point, Total
from ciranda.store import clock

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = " "


class Store(Protocol):
    """The part of `interactions.query.Interactions` that figures come from."""

    def series(
        self,
        model: str,
        *,
        version: str | None = None,
        arm: str | None = None,
        since: datetime | None = None,
        step_s: int = 60,
    ) -> list[Point]: ...

    def totals(
        self, since: datetime | None = None, *, model: str | None = None, rollout: str | None = None
    ) -> list[Total]: ...


@dataclass(frozen=True)
class Line:
    """One figure over time, oldest first, a value per step; None where nothing was measured."""

    name: str
    unit: str
    values: tuple[float | None, ...]

    @property
    def now(self) -> float | None:
        """The latest value that was measured."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass(frozen=True)
class Figures:
    """What a model (version "") or one version of it did in the window.

    Args:
        requests: Answers to users, without shadows.
        per_second: Mean over the window.
        latency_p50_ms, latency_p95_ms: Of answers with a status below 400; None without any.
        error_rate: Share that the version failed; None without requests.
        thumbs_up: Share of the votes; None without votes.
        quality: Mean of the live scorers, bad ones turned round; None without scores.
        lines: The same over time.
    """

    model: str
    version: str
    requests: int
    per_second: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    error_rate: float | None
    votes: int
    thumbs_up: float | None
    quality: float | None
    lines: Mapping[str, Line] = field(default_factory=dict)


def live(store: Store, model: str, *, window_s: int = 3600, step_s: int = 60) -> list[Figures]:
    """The figures of a model as a whole, then of each version that answered in the window."""
    until = clock.now()
    since = until - timedelta(seconds=window_s)
    points = store.series(model, since=since, step_s=step_s)
    totals = [one for one in store.totals(since, model=model) if one.arm != "shadow"]
    starts = _starts(since, until, step_s)
    versions = sorted({point.version for point in points} | {total.version for total in totals})
    parts = [("", points, totals)] + [
        (name, [one for one in points if one.version == name], [one for one in totals if one.version == name])
        for name in versions
    ]
    return [_figures(model, name, own, sums, starts, step_s, window_s) for name, own, sums in parts]


def _starts(since: datetime, until: datetime, step_s: int) -> list[int]:
    first, last = (int(moment.timestamp()) // step_s * step_s for moment in (since, until))
    return list(range(first, last + 1, step_s))


def _figures(
    model: str, version: str, points: Sequence[Point], totals: Sequence[Total], starts: Sequence[int], step_s: int,
    window_s: int,
) -> Figures:  # fmt: skip
    requests = sum(one.requests for one in totals)
    up, down = sum(one.thumbs_up for one in totals), sum(one.thumbs_down for one in totals)
    return Figures(
        model=model, version=version, requests=requests, per_second=requests / window_s,
        latency_p50_ms=_weighted([(one.latency_p50, one.requests) for one in totals]),
        latency_p95_ms=_weighted([(one.latency_p95, one.requests) for one in totals]),
        error_rate=sum(one.errors for one in totals) / requests if requests else None,
        votes=up + down, thumbs_up=up / (up + down) if up + down else None, quality=_quality(totals),
        lines=_lines(points, starts, step_s),
    )  # fmt: skip


def _lines(points: Sequence[Point], starts: Sequence[int], step_s: int) -> dict[str, Line]:
    steps: dict[int, list[Point]] = {start: [] for start in starts}
    for point in points:
        steps.setdefault(int(point.t.timestamp()) // step_s * step_s, []).append(point)
    rows = [steps[start] for start in sorted(steps)]
    counts = [sum(one.requests for one in row) for row in rows]
    errors = [sum(one.errors for one in row) for row in rows]
    ups, downs = (
        [sum(one.thumbs_up for one in row) for row in rows],
        [sum(one.thumbs_down for one in row) for row in rows],
    )
    lines = (
        Line("requests", "1/s", tuple(count / step_s for count in counts)),
        Line("latency_p50", "ms", tuple(_weighted([(one.latency_p50, one.requests) for one in row]) for row in rows)),
        Line("latency_p95", "ms", tuple(_weighted([(one.latency_p95, one.requests) for one in row]) for row in rows)),
        Line("error_rate", "", tuple(_share(bad, n) for bad, n in zip(errors, counts, strict=True))),
        Line("thumbs_up", "", tuple(_share(up, up + down) for up, down in zip(ups, downs, strict=True))),
    )
    return {line.name: line for line in lines}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _weighted(values: Sequence[tuple[float, int]]) -> float | None:
    """The mean by requests of what was measured: of quantiles an approximation, exact for a single version and arm."""
    measured = [(value, weight) for value, weight in values if weight and value > 0]
    total = sum(weight for _, weight in measured)
    return sum(value * weight for value, weight in measured) / total if total else None


def _quality(totals: Sequence[Total]) -> float | None:
    means = [
        (1 - mean if scorers.bad_when_high(name) else mean, one.requests)
        for one in totals
        for name, mean in one.scores.items()
        if 0 <= mean <= 1 and scorers.bounded(name)
    ]
    total = sum(weight for _, weight in means)
    return sum(mean * weight for mean, weight in means) / total if total else None


def spark(values: Sequence[float | None]) -> str:
    """Values as a line of blocks, `▁▃█`; a gap is a space. All alike is a low line."""
    known = [value for value in values if value is not None]
    if not known:
        return GAP * len(values)
    low, high = min(known), max(known)
    height = (high - low) or 1.0
    return "".join(
        GAP if value is None else BLOCKS[round((value - low) / height * (len(BLOCKS) - 1))] for value in values
    )
