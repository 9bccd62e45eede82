"""What is too old goes: by model, else by the setting; the audit log says so first; a clock that jumped removes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciranda.config import model as files
from ciranda.govern import audit
from ciranda.interactions import retention
from ciranda.interactions.ingestion import Ingestion
from ciranda.interactions.retention import Policy
from ciranda.interactions.sink import Sink
from ciranda.interactions.spool import SCORE, STARTED
from ciranda.registry import models
from ciranda.store import clock
from recorded import Recorded, opinion, record, until

DAY_MS = 86_400_000
NOW = clock.now_ms()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Recorded]:
    made = Recorded(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    store = Sink.embedded(tmp_path / "chdb")
    yield store
    store.close()


def spool_a_past(world: Recorded, sink: Sink) -> None:
    """Of two models: an answer for each of ten days, each with a vote, a score and a start."""
    writer = world.writer()
    for model in ("short", "o'ther\\"):
        for days in range(10):
            ts_ms = NOW - days * DAY_MS
            identifier = record(writer, model=model, ts_ms=ts_ms, id=f"{model}-{days}")
            opinion(writer, identifier, ts_ms=ts_ms)
            writer.append(
                SCORE, {"id": f"{identifier}:s", "ts_ms": ts_ms, "interaction": identifier, "scorer": "s", "value": 1}
            )
            writer.append(STARTED, {"id": identifier, "ts_ms": ts_ms, "model": model})
    writer.seal()
    ingestion = Ingestion(world.home.spool, world.home.interactions, store=sink, database=world.database)
    while ingestion.step().frames:
        pass


def left(sink: Sink, table: str = "interactions") -> dict[str, int]:
    rows = sink.rows(f"SELECT model, count() AS n FROM {table} GROUP BY model ORDER BY model", {})
    return {row["model"]: row["n"] for row in rows}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Policy(0, {"short": 3}), {"short": 4, "o'ther\\": 10}),
        (Policy(5, {"short": 3}), {"short": 4, "o'ther\\": 6}),
        (Policy(5, {"short": 0}), {"short": 10, "o'ther\\": 6}),
        (Policy(3), {"short": 4, "o'ther\\": 4}),
        (Policy(), {"short": 10, "o'ther\\": 10}),
    ],
)
def test_each_model_keeps_what_its_policy_says(
    world: Recorded, sink: Sink, chosen: Policy, expected: dict[str, int]
) -> None:
    spool_a_past(world, sink)
    retention.expire(sink, world.database, chosen, now_ms=NOW)
    for table in ("interactions", "feedback", "scores", "started"):
        assert left(sink, table) == expected, table
    (rolled,) = sink.rows("SELECT sum(requests) AS n, sum(thumbs_up) AS up FROM minutes", {})
    assert rolled == {"n": 20, "up": 20}  # figures stay
    events = audit.page(world.database, action="interactions.expired")
    gone = 20 - sum(expected.values())
    assert sum(json.loads(event.detail)["rows"]["interactions"] for event in events) == gone
    assert retention.expire(sink, world.database, chosen, now_ms=NOW) == []


def test_a_clock_that_jumped_removes_nothing_of_what_is_young(world: Recorded, sink: Sink) -> None:
    spool_a_past(world, sink)
    retention.expire(sink, world.database, Policy(30), now_ms=NOW + 3650 * DAY_MS)
    assert left(sink) == {"short": 10, "o'ther\\": 10}


def test_killed_between_the_log_and_the_removal_the_rest_goes_next_time(world: Recorded, sink: Sink) -> None:
    spool_a_past(world, sink)

    class Killed(BaseException):
        pass

    class Dying:
        def __init__(self, after: int) -> None:
            self.rows, self.after = sink.rows, after

        def run(self, sql: str, parameters: object = None) -> None:
            self.after -= 1
            if self.after < 0:
                raise Killed
            sink.run(sql, parameters)  # type: ignore[arg-type]

    for after in (0, 1, 3):
        with pytest.raises(Killed):
            retention.expire(Dying(after), world.database, Policy(3), now_ms=NOW)
    retention.expire(sink, world.database, Policy(3), now_ms=NOW)
    assert left(sink) == {"short": 4, "o'ther\\": 4}
    assert audit.verify(world.database).ok


def test_the_collector_applies_the_model_files_and_the_setting(
    world: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = world.writer()
    for model in ("short", "other"):
        for days in range(10):
            record(writer, model=model, ts_ms=NOW - days * DAY_MS + 3_600_000)
    world.start()
    until(lambda: world.interactions.count() == 20)
    world.kill()  # it looks at each start, and every hour
    monkeypatch.setenv("CIRANDA_RETENTION_DAYS", "5")
    models.models.create(world.database.engine, checkfirst=True)
    spec = files.read("model: short\nbase: tiny\nretention: {interactions: 3d}\n", file="short.yaml")
    with world.database.writing() as conn:
        models.put(conn, spec, actor="test")
    assert retention.policy(world.database, 5) == Policy(5, {"short": 3.0})
    world.start()
    until(lambda: world.interactions.count() == 4 + 6)
    assert world.interactions.count(model="short") == 4
