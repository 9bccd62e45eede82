"""A collector may die anywhere: nothing is lost, nothing is stored twice, in the tables, in the roll-ups and in the audit chain."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ciranda.govern import audit
from ciranda.interactions import progress, seals
from ciranda.interactions.ingestion import Ingestion
from ciranda.interactions.seals import segments
from ciranda.interactions.sink import Sink
from ciranda.interactions.spool import SCORE, STARTED
from ciranda.store import clock, ids
from recorded import Recorded, opinion, record, until

DAY_MS = 86_400_000


class Crash(BaseException):
    """What kill -9 is to a test in one process: nothing below may catch it."""


class Fuse:
    """Lets `left` effects pass and crashes at the next, before or after it is done."""

    def __init__(self) -> None:
        self.left = 1 << 30
        self.passed = 0

    def around(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*arguments: Any, **named: Any) -> Any:
            self.burn()
            result = effect(*arguments, **named)
            self.burn()
            return result

        return fused

    def burn(self) -> None:
        self.passed += 1
        self.left -= 1
        if self.left == 0:
            raise Crash


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    store = Sink.embedded(tmp_path_factory.mktemp("chdb"))
    yield store
    store.close()


class FusedSink:
    def __init__(self, sink: Sink, fuse: Fuse) -> None:
        self.rows = sink.rows
        self.insert = fuse.around(sink.insert)


def spool_a_bit_of_everything(world: Recorded, model: str) -> None:
    """Two days, feedback before, after, twice and changed, a trace sent twice, scores: 11 interactions, 5 votes."""
    now = clock.now_ms()
    one, two, three = world.writer("one"), world.writer("two"), world.writer("three")
    later = str(ids.uuid7())
    opinion(one, later)
    made = [record(one, model=model, ts_ms=now - number % 2 * DAY_MS) for number in range(5)]
    made += [record(two, model=model, ts_ms=now) for _ in range(4)]
    for interaction in made[::3]:
        opinion(two, interaction, idempotency_key=f"{model}-{interaction}")
        opinion(one, interaction, idempotency_key=f"{model}-{interaction}")
    one.append(SCORE, {"id": f"{made[0]}:s", "ts_ms": now, "interaction": made[0], "scorer": "s", "value": 1.0})
    one.append(STARTED, {"id": made[0], "ts_ms": now, "model": model})
    record(three, id=later, model=model)
    opinion(three, later, thumb=-1, ts_ms=now + 60_000)  # not any more
    for writer in (two, three):
        record(writer, id=f"trace-{model}", model=model, ts_ms=now)
    for writer in (one, two, three):
        writer.seal()


def run_to_the_end(world: Recorded, store: Any) -> None:
    """Step as the process would, and as its successor would after a crash, until the spool is empty."""
    ingestion = Ingestion(world.home.spool, world.home.interactions, store=store, database=world.database)
    for _ in range(20):
        ingestion.step()
        if not (world.segments() or ingestion.progress.batch or ingestion.progress.waiting):
            return
    raise AssertionError(f"still there: {world.segments()}, {ingestion.progress}")


def facts(sink: Sink, model: str) -> dict[str, Any]:
    values = {"model": model}
    (rows,) = sink.rows("SELECT count() AS n, uniqExact(id) AS ids, uniqExact(sequence) AS numbers FROM interactions"
                        " WHERE model = {model:String}", values)  # fmt: skip
    (votes,) = sink.rows("SELECT count() AS n FROM feedback WHERE model = {model:String}", values)
    (rolled,) = sink.rows("SELECT sum(requests) AS requests, sum(thumbs_up) AS up, sum(thumbs_down) AS down,"
                          " sum(prompt_tokens) AS tokens FROM minutes WHERE model = {model:String}", values)  # fmt: skip
    (scored,) = sink.rows("SELECT (SELECT count() FROM scores WHERE model = {model:String}) AS n,"
                          " (SELECT sum(score_minutes.n) FROM score_minutes WHERE model = {model:String}) AS rolled",
                          values)  # fmt: skip
    (begun,) = sink.rows("SELECT count() AS n FROM started WHERE model = {model:String}", values)
    (hourly,) = sink.rows("SELECT sum(requests) AS requests, sum(thumbs_up) AS up, sum(thumbs_down) AS down,"
                          " sum(prompt_tokens) AS tokens FROM hours WHERE model = {model:String}", values)  # fmt: skip
    assert hourly == rolled
    return {"rows": rows, "votes": votes, "rolled": rolled, "scored": scored, "begun": begun}


EXPECTED = {
    "rows": {"n": 11, "ids": 11, "numbers": 11},
    "votes": {"n": 5},
    "rolled": {"requests": 11, "up": 3, "down": 1, "tokens": 77},
    "scored": {"n": 1, "rolled": 1},
    "begun": {"n": 1},
}


def test_a_crash_at_any_effect_changes_nothing_in_the_end(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = Fuse()
    monkeypatch.setattr(progress, "write_atomic", fuse.around(progress.write_atomic))
    monkeypatch.setattr(audit, "record", fuse.around(audit.record))
    monkeypatch.setattr(seals, "sync_folder", fuse.around(seals.sync_folder))
    store = FusedSink(sink, fuse)
    effects = 1 << 30
    crash_at = 0  # the first run has no crash and counts the effects
    while crash_at <= effects:
        world = Recorded(tmp_path / str(crash_at))
        model = f"m{crash_at}"
        spool_a_bit_of_everything(world, model)
        fuse.left, fuse.passed = crash_at or 1 << 30, 0
        try:
            run_to_the_end(world, store)
        except Crash:
            fuse.left = 1 << 30
            run_to_the_end(world, store)
        effects = fuse.passed if crash_at == 0 else effects
        assert facts(sink, model) == EXPECTED, f"crash at effect {crash_at} of {effects}"
        with world.database.reading() as conn:
            names = conn.execute(sa.select(segments.c.name)).scalars().all()
        events = audit.page(world.database, action="segment.sealed")
        assert sorted(names) == sorted(event.subject for event in events)
        assert len(names) == 3
        assert audit.verify(world.database).ok
        world.database.close()
        crash_at += 1
    assert effects > 20


def test_kill_9_again_and_again_while_records_come(tmp_path: Path) -> None:
    world = Recorded(tmp_path / "home")
    done = threading.Event()
    given: dict[str, int] = {}
    votes = []

    def gateway(name: str) -> None:
        writer = world.writer(name)
        writer.segment_bytes = 64 << 10
        while not done.wait(0.005):
            identifier = record(writer, "x" * 200, model="killed")
            given[identifier] = 1
            if len(given) % 5 == 0:
                votes.append(opinion(writer, identifier))
        writer.seal()

    threads = [threading.Thread(target=gateway, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    dice = random.Random(17)
    for round_ in range(8):
        if round_ % 4 == 3:
            world.launch()  # die while starting, perhaps while repeating a batch
            time.sleep(dice.uniform(0.5, 1.5))
        else:
            world.start()
            time.sleep(dice.uniform(0.0, 0.7))
        world.kill()
    done.set()
    for thread in threads:
        thread.join()
    world.start()
    until(lambda: not world.segments(), seconds=60)
    try:
        ask = world.interactions
        until(lambda: ask.count(model="killed") >= len(given))
        stored = [one.id for one in ask.page(model="killed", limit=10_000)]
        (total,) = ask.totals(model="killed")
        assert sorted(stored) == sorted(given)
        assert (total.requests, total.thumbs_up) == (len(given), len(votes))
        assert {one.id for one in ask.feedback_since(None, model="killed", limit=10_000)} == set(votes)
        with world.database.reading() as conn:
            counted = conn.execute(sa.select(sa.func.sum(segments.c.records))).scalar_one()
        assert counted == len(given) + len(votes)
        assert audit.verify(world.database).ok
    finally:
        world.close()
