"""Live figures: sums that agree with the rows, gaps that are gaps, lines that fit a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from ciranda.interactions.query import Point, Total
from ciranda.monitor import metrics
from ciranda.store import clock


@dataclass
class Rows:
    """Roll-ups as the store of interactions gives them."""

    points: list[Point] = field(default_factory=list)
    sums: list[Total] = field(default_factory=list)

    def series(self, model: str, *, version: str | None = None, arm: str | None = None, since: datetime | None = None,
               step_s: int = 60) -> list[Point]:  # fmt: skip
        return self.points

    def totals(
        self, since: datetime | None = None, *, model: str | None = None, rollout: str | None = None
    ) -> list[Total]:
        return self.sums


def total(version: str, arm: str, requests: int, errors: int, up: int, down: int, p95: float) -> Total:
    return Total("home", version, arm, requests, errors, 0, p95 / 2, p95, 1.0, 0.5, 1, 1, 0.0, up, down,
                 {"valid_json": 0.9, "refusal": 0.1})  # fmt: skip


def point(version: str, minutes_ago: int, requests: int) -> Point:
    t = clock.parse(clock.iso()).replace(second=0, microsecond=0)
    return Point(
        datetime.fromtimestamp(t.timestamp() - 60 * minutes_ago, t.tzinfo), version, requests, 1, 10, 20, 5, 1, 1, 3, 1
    )


def test_a_model_and_its_versions_in_figures() -> None:
    rows = Rows([point("home@1", 2, 60), point("home@2", 2, 60), point("home@1", 0, 30)],
                [total("home@1", "live", 300, 3, 8, 2, 100.0), total("home@2", "canary", 100, 1, 0, 0, 200.0),
                 total("home@2", "shadow", 900, 900, 0, 0, 900.0)])  # fmt: skip
    whole, one, two = metrics.live(rows, "home", window_s=600)
    assert (whole.version, one.version, two.version) == ("", "home@1", "home@2")
    assert (whole.requests, whole.error_rate, whole.votes, whole.thumbs_up) == (400, 0.01, 10, 0.8)
    assert whole.per_second == pytest.approx(400 / 600)
    assert whole.latency_p95_ms == pytest.approx(125.0)
    assert (two.latency_p95_ms, two.thumbs_up) == (200.0, None)
    assert whole.quality == pytest.approx(0.9)
    requests = whole.lines["requests"].values
    assert requests[-3:] == (2.0, 0.0, 0.5)
    assert whole.lines["latency_p95"].values[-3:] == (20.0, None, 20.0)
    assert whole.lines["latency_p95"].now == 20.0


def test_no_traffic_is_no_figure() -> None:
    (whole,) = metrics.live(Rows(), "home", window_s=300)
    assert (whole.requests, whole.error_rate, whole.latency_p50_ms, whole.quality) == (0, None, None, None)
    assert whole.lines["latency_p50"].now is None


@pytest.mark.parametrize(
    ("values", "line"), [((0, 1, 2, 7), "▁▂▃█"), ((3, 3), "▁▁"), ((None, 1, None), " ▁ "), ((), "")]
)
def test_sparks(values: tuple[float | None, ...], line: str) -> None:
    assert metrics.spark(values) == line
