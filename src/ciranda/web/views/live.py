"""A short window of traffic in equal buckets, by version: what the live charts start from and are kept up with.

Raw counts travel, not rates: page, stream and chart derive each metric by the same few rules (`metric` here, its twin in
`static/js/charts.js`), so that a point means the same wherever it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STEP_S = 5
WINDOW_S = 900
METRICS = ("requests", "errors", "latency", "quality")
DETAILS = (("requests", "errors", "tokens", "thumbs"), ("p50", "latency", "p99"))
SPANS = {"15m": (WINDOW_S, STEP_S), "1h": (3600, 60), "6h": (21600, 120), "24h": (86400, 600), "7d": (604800, 3600)}
"""What may be looked at, each with the step that makes it some 60 to 180 points."""
TIMES = {"p50": "p50", "latency": "p95", "p99": "p99"}


@dataclass(frozen=True)
class Bucket:
    """What happened in one step. Latencies in ms; None where nothing was asked."""

    at: int  # seconds since the epoch, start of the step
    requests: int = 0
    errors: int = 0
    p95: float | None = None
    up: int = 0
    down: int = 0
    p50: float | None = None
    p99: float | None = None
    tokens: int = 0  # of prompts and answers


@dataclass(frozen=True)
class Track:
    """The buckets of one version, or of everything (`label` empty), oldest first, without gaps.

    `colour` is 1 to 6 and follows the version's number.
    """

    label: str
    colour: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class Window:
    """All tracks of a page over the same steps."""

    model: str  # empty: the fleet
    step: int
    until: int
    tracks: tuple[Track, ...] = ()
    down: str = ""  # why there are no figures, when the store of interactions is away
    span: int = WINDOW_S

    @property
    def empty(self) -> bool:
        """Whether nothing was asked at all."""
        return not any(bucket.requests for track in self.tracks for bucket in track.buckets)


def colour_of(version: str) -> int:
    """Series colour of `smart-home@7`: by its number, so that it stays the same on every page."""
    number = version.rpartition("@")[2]
    return (int(number) - 1) % 6 + 1 if number.isdigit() and int(number) else 6


def metric(name: str, bucket: Bucket, step: int) -> float | None:
    """One number of one bucket: requests per second, share of errors, p95 in ms, share of thumbs up."""
    if name == "requests":
        return bucket.requests / step
    if name == "errors":
        return bucket.errors / bucket.requests if bucket.requests else None
    if name in TIMES:
        return quantile(bucket, name)
    if name == "tokens":
        return bucket.tokens / step
    votes = bucket.up + bucket.down
    return bucket.up / votes if votes else None


def quantile(bucket: Bucket, name: str) -> float | None:
    """A latency of a bucket by the metric's name."""
    value: float | None = getattr(bucket, TIMES[name])
    return value


def recent(name: str, track: Track, step: int, seconds: int = 60) -> float | None:
    """The value of the last minute: sums of counts, and for latency the mean of p95 weighted by requests."""
    last = track.buckets[-max(1, seconds // step) :]
    if not last:
        return None
    return metric(name, _sum(last), step * len(last))


def total(tracks: Sequence[Track]) -> Track:
    """All tracks as one: counts add up, p95 is weighted by requests (exact while one version answers)."""
    if len(tracks) == 1:
        return tracks[0]
    merged = [_sum(buckets) for buckets in zip(*(track.buckets for track in tracks), strict=True)]
    return Track("", 1, tuple(merged))


def _sum(buckets: Sequence[Bucket]) -> Bucket:
    return Bucket(
        at=buckets[0].at,
        requests=sum(bucket.requests for bucket in buckets),
        errors=sum(bucket.errors for bucket in buckets),
        p95=_weighted("latency", buckets),
        up=sum(bucket.up for bucket in buckets),
        down=sum(bucket.down for bucket in buckets),
        p50=_weighted("p50", buckets),
        p99=_weighted("p99", buckets),
        tokens=sum(bucket.tokens for bucket in buckets),
    )


def _weighted(name: str, buckets: Sequence[Bucket]) -> float | None:
    """A latency of several buckets: the mean of theirs, weighted by requests; exact it is in the table beside."""
    timed = [(value, one.requests) for one in buckets if (value := quantile(one, name)) is not None and one.requests]
    weight = sum(count for _, count in timed)
    return sum(value * count for value, count in timed) / weight if weight else None


def points(name: str, track: Track, step: int, *, group: int = 3) -> list[tuple[float, float | None]]:
    """A coarser line for a chart drawn on the server: `group` steps as one point."""
    result: list[tuple[float, float | None]] = []
    for index in range(0, len(track.buckets) - group + 1, group):
        whole = _sum(track.buckets[index : index + group])
        result.append((float(whole.at), metric(name, whole, step * group)))
    return result


def wire(window: Window) -> dict[str, Any]:
    """The window as the browser takes it: one row per track, columns of numbers."""
    return {
        "model": window.model,
        "step": window.step,
        "span": window.span,
        "until": window.until,
        "tracks": [
            {"label": track.label, "colour": track.colour, "rows": [row(bucket) for bucket in track.buckets]}
            for track in window.tracks
        ],
    }


def row(bucket: Bucket) -> list[float | int | None]:
    """A bucket as a short list: at, requests, errors, p95, up, down, p50, p99, tokens."""
    p50, p95, p99 = (None if one is None else round(one, 1) for one in (bucket.p50, bucket.p95, bucket.p99))
    return [bucket.at, bucket.requests, bucket.errors, p95, bucket.up, bucket.down, p50, p99, bucket.tokens]


@dataclass(frozen=True)
class Figures:
    """One version in one arm over a whole window; latencies in ms, exact to one percent."""

    version: str
    arm: str
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None
    prompt_tokens: int
    completion_tokens: int
    up: int
    down: int
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """What one scorer thought over time, by version: (label, colour, points)."""

    scorer: str
    lines: tuple[tuple[str, int, tuple[tuple[float, float | None], ...]], ...]


@dataclass(frozen=True)
class LivePage:
    """How a model does, version by version, in one stretch of time."""

    model: str
    span: str
    window: Window
    rows: tuple[Figures, ...] = ()
    quality: tuple[Quality, ...] = ()
