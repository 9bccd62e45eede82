"""Traffic of the last minutes, from the store of interactions: windows for live charts, rates for the list of models."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ciranda.errors import Unavailable
from ciranda.interactions.answers import Mean, Point, Total
from ciranda.interactions.query import Interactions
from ciranda.store import clock
from ciranda.web.views.live import SPANS, STEP_S, Bucket, Figures, LivePage, Quality, Track, Window, colour_of, total

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
        self._known: dict[tuple[str, int, int, int], tuple[Track, ...]] = {}
        self._second = 0

    def window(self, models: Sequence[str], *, seconds: int, split: bool, step: int = STEP_S) -> Window:
        """The last whole steps of these models: by version for one (`split`), summed up for the fleet."""
        until = clock.now_ms() // 1000 // step * step
        name = models[0] if split else ""
        try:
            asked = models if split else self._busy(models)
            tracks = tuple(track for model in asked for track in self._tracks(model, until, seconds, step))
        except Unavailable as error:
            return Window(name, step, until, (), error.message, seconds)
        if not split:
            tracks = (total(tracks),) if tracks else (Track("", 1, _filled((), until, seconds, step)),)
            tracks = (Track("", 1, tracks[0].buckets),)
        return Window(name, step, until, tracks, "", seconds)

    def live(self, model: str, span: str) -> LivePage:
        """One model in one stretch of time: its window, exact figures of the whole of it by version, and quality over time."""
        seconds, step = SPANS[span]
        window = self.window((model,), seconds=seconds, split=True, step=step)
        if window.down:
            return LivePage(model, span, window)
        since = datetime.fromtimestamp(window.until - seconds, UTC)
        try:
            rows = tuple(_figures(one) for one in self.interactions.totals(since, model=model))
            quality = _quality(self.interactions.means(model, since=since, step_s=max(60, step)))
        except Unavailable as error:
            return LivePage(model, span, replace(window, down=error.message))
        return LivePage(model, span, window, rows, quality)

    def _busy(self, models: Sequence[str]) -> list[str]:
        """Those that were asked anything lately, so that a large fleet at rest costs one question."""
        seen = {one.model for one in self.interactions.totals(clock.now() - BUSY)}
        return [model for model in models if model in seen]

    def _tracks(self, model: str, until: int, seconds: int, step: int) -> tuple[Track, ...]:
        now = clock.now_ms() // 1000
        key = (model, until, seconds, step)
        with self._lock:
            if now != self._second:
                self._known, self._second = {}, now
            if key in self._known:
                return self._known[key]
        since = datetime.fromtimestamp(until - seconds, UTC)
        points = self.interactions.series(model, since=since, step_s=step)
        versions = sorted({point.version for point in points if point.version})
        tracks = tuple(
            Track(
                version, colour_of(version), _filled((p for p in points if p.version == version), until, seconds, step)
            )
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


def _figures(one: Total) -> Figures:
    p50, p95, p99 = (value or None for value in (one.latency_p50, one.latency_p95, one.latency_p99))
    return Figures(
        one.version, one.arm, one.requests, one.errors, p50, p95, p99, one.prompt_tokens, one.completion_tokens,
        one.thumbs_up, one.thumbs_down, one.scores,
    )  # fmt: skip


def _quality(means: Iterable[Mean]) -> tuple[Quality, ...]:
    """The lines of each scorer, those with the most scores first."""
    by: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    weight: dict[str, int] = {}
    for one in means:
        by.setdefault(one.scorer, {}).setdefault(one.version, []).append((one.t.timestamp(), one.mean))
        weight[one.scorer] = weight.get(one.scorer, 0) + one.n
    order = sorted(by, key=lambda scorer: (-weight[scorer], scorer))
    return tuple(
        Quality(scorer, tuple((version, colour_of(version), tuple(points)) for version, points in by[scorer].items()))
        for scorer in order
    )


def _filled(points: Iterable[Point], until: int, seconds: int, step: int) -> tuple[Bucket, ...]:
    """Every step of the window; steps without traffic are empty."""
    by = {int(point.t.timestamp()): point for point in points}
    return tuple(_bucket(at, by.get(at)) for at in range(until - seconds, until, step))


def _bucket(at: int, point: Point | None) -> Bucket:
    if point is None:
        return Bucket(at)
    p50, p95, p99 = (
        value if point.requests and value else None
        for value in (point.latency_p50, point.latency_p95, point.latency_p99)
    )
    tokens = point.prompt_tokens + point.completion_tokens
    return Bucket(at, point.requests, point.errors, p95, point.thumbs_up, point.thumbs_down, p50, p99, tokens)
