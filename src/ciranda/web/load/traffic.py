"""Traffic of the last minutes, from the store of interactions: windows for live charts, rates for the list of models."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ciranda.errors import Unavailable
from ciranda.interactions.answers import Point, Total
from ciranda.interactions.query import Interactions
from ciranda.store import clock
from ciranda.web.views.live import STEP_S, Bucket, Track, Window, colour_of, total

HOUR = timedelta(hours=1)
SPARK = timedelta(hours=2)
SPARK_STEP_S = 300
BUSY = timedelta(minutes=20)


@dataclass(frozen=True)
class Rates:
    """One model's last hour, without shadows."""

    requests: int = 0
    errors: int = 0
    p95_ms: float = 0.0
    up: int = 0
    down: int = 0

    @property
    def votes(self) -> int:
        return self.up + self.down


class Traffic:
    """Windows of traffic. The same second asked twice is read once, since every stream and page asks the same.

    Args:
        interactions: The store; while it is away a window says so in `down`.
    """

    def __init__(self, interactions: Interactions) -> None:
        self.interactions = interactions
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, int], tuple[Track, ...]] = {}
        self._second = 0

    def window(self, models: Sequence[str], *, seconds: int, split: bool) -> Window:
        """The last whole steps of these models: by version for one (`split`), summed up for the fleet."""
        until = clock.now_ms() // 1000 // STEP_S * STEP_S
        name = models[0] if split else ""
        try:
            asked = models if split else self._busy(models)
            tracks = tuple(track for model in asked for track in self._tracks(model, until, seconds))
        except Unavailable as error:
            return Window(name, STEP_S, until, (), error.message)
        if not split:
            tracks = (total(tracks),) if tracks else (Track("", 1, _filled((), until, seconds)),)
            tracks = (Track("", 1, tracks[0].buckets),)
        return Window(name, STEP_S, until, tracks)

    def _busy(self, models: Sequence[str]) -> list[str]:
        """Those that were asked anything lately, so that a large fleet at rest costs one question."""
        seen = {one.model for one in self.interactions.totals(clock.now() - BUSY)}
        return [model for model in models if model in seen]

    def _tracks(self, model: str, until: int, seconds: int) -> tuple[Track, ...]:
        now = clock.now_ms() // 1000
        key = (model, until, seconds)
        with self._lock:
            if now != self._second:
                self._known, self._second = {}, now
            if key in self._known:
                return self._known[key]
        since = datetime.fromtimestamp(until - seconds, UTC)
        points = self.interactions.series(model, since=since, step_s=STEP_S)
        versions = sorted({point.version for point in points if point.version})
        tracks = tuple(
            Track(version, colour_of(version), _filled((p for p in points if p.version == version), until, seconds))
            for version in versions
        )
        with self._lock:
            self._known[key] = tracks
        return tracks

    def rates(self, models: Sequence[str]) -> dict[str, Rates]:
        """The last hour by model; nothing while the store is away."""
        try:
            totals = self.interactions.totals(clock.now() - HOUR)
        except Unavailable:
            return {}
        return {name: _rates([one for one in totals if one.model == name and one.arm != "shadow"]) for name in models}

    def spark(self, model: str) -> tuple[float, ...]:
        """Requests of the last two hours in steps of five minutes."""
        now = clock.now_ms() // 1000 // SPARK_STEP_S * SPARK_STEP_S
        try:
            points = self.interactions.series(model, since=clock.now() - SPARK, step_s=SPARK_STEP_S)
        except Unavailable:
            return ()
        by: dict[int, int] = {}
        for point in points:
            by[int(point.t.timestamp())] = by.get(int(point.t.timestamp()), 0) + point.requests
        steps = int(SPARK.total_seconds()) // SPARK_STEP_S
        return tuple(float(by.get(now - SPARK_STEP_S * back, 0)) for back in range(steps - 1, -1, -1))

    def answered(self, rollout: str) -> dict[str, int]:
        """Answers of a rollout by arm."""
        try:
            return _by_arm(self.interactions.totals(rollout=rollout))
        except Unavailable:
            return {}

    def served(self, version: str, since: str) -> int:
        """Answers of a live version since a moment."""
        try:
            totals = self.interactions.totals(clock.parse(since), model=version.rpartition("@")[0])
        except Unavailable:
            return 0
        return sum(one.requests for one in totals if one.version == version and one.arm == "live")


def _by_arm(totals: Iterable[Total]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in totals:
        counts[one.arm] = counts.get(one.arm, 0) + one.requests
    return counts


def _rates(totals: Sequence[Total]) -> Rates:
    return Rates(
        sum(one.requests for one in totals),
        sum(one.errors for one in totals),
        max((one.latency_p95 for one in totals), default=0.0),
        sum(one.thumbs_up for one in totals),
        sum(one.thumbs_down for one in totals),
    )


def _filled(points: Iterable[Point], until: int, seconds: int) -> tuple[Bucket, ...]:
    """Every step of the window; steps without traffic are empty."""
    by = {int(point.t.timestamp()): point for point in points}
    return tuple(_bucket(at, by.get(at)) for at in range(until - seconds, until, STEP_S))


def _bucket(at: int, point: Point | None) -> Bucket:
    if point is None:
        return Bucket(at)
    p95 = point.latency_p95 if point.requests and point.latency_p95 else None
    return Bucket(at, point.requests, point.errors, p95, point.thumbs_up, point.thumbs_down)
