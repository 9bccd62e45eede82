"""A short window of traffic in equal buckets, by version: what the live charts start from and are kept up with.

Raw counts travel, not rates: page, stream and chart derive each metric by the same few rules (`metric` here, its twin in
`static/js/charts.js`), so that a point means the same wherever it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STEP_S = 5
WINDOW_S = 900
METRICS = ("requests", "errors", "latency", "quality")


@dataclass(frozen=True)
class Bucket:
    """What happened in one step. Latencies in ms; None where nothing was asked."""

    at: int  # seconds since the epoch, start of the step
    requests: int = 0
    errors: int = 0
    p95: float | None = None
    up: int = 0
    down: int = 0


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
    if name == "latency":
        return bucket.p95
    votes = bucket.up + bucket.down
    return bucket.up / votes if votes else None


def recent(name: str, track: Track, step: int, seconds: int = 60) -> float | None:
    """The value of the last minute: sums of counts, and for latency the mean of p95 weighted by requests."""
    last = track.buckets[-max(1, seconds // step) :]
    if not last:
        return None
    asked = sum(bucket.requests for bucket in last)
    if name == "latency":
        weights = [(bucket.p95, bucket.requests) for bucket in last if bucket.p95 is not None]
        total = sum(weight for _, weight in weights)
        return sum(value * weight for value, weight in weights) / total if total else None
    whole = Bucket(
        at=last[0].at,
        requests=asked,
        errors=sum(bucket.errors for bucket in last),
        up=sum(bucket.up for bucket in last),
        down=sum(bucket.down for bucket in last),
    )
    return metric(name, whole, step * len(last))


def total(tracks: Sequence[Track]) -> Track:
    """All tracks as one: counts add up, p95 is weighted by requests (exact while one version answers)."""
    if len(tracks) == 1:
        return tracks[0]
    merged = [_sum(buckets) for buckets in zip(*(track.buckets for track in tracks), strict=True)]
    return Track("", 1, tuple(merged))


def _sum(buckets: Sequence[Bucket]) -> Bucket:
    timed = [(bucket.p95, bucket.requests) for bucket in buckets if bucket.p95 is not None and bucket.requests]
    weight = sum(count for _, count in timed)
    return Bucket(
        at=buckets[0].at,
        requests=sum(bucket.requests for bucket in buckets),
        errors=sum(bucket.errors for bucket in buckets),
        p95=sum(value * count for value, count in timed) / weight if weight else None,
        up=sum(bucket.up for bucket in buckets),
        down=sum(bucket.down for bucket in buckets),
    )


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
        "until": window.until,
        "tracks": [
            {"label": track.label, "colour": track.colour, "rows": [row(bucket) for bucket in track.buckets]}
            for track in window.tracks
        ],
    }


def row(bucket: Bucket) -> list[float | int | None]:
    """A bucket as a short list: at, requests, errors, p95, up, down."""
    p95 = None if bucket.p95 is None else round(bucket.p95, 1)
    return [bucket.at, bucket.requests, bucket.errors, p95, bucket.up, bucket.down]
