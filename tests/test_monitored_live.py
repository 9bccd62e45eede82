"""The monitors on what the spool and the collector really bring: seen once, told in words, shown in figures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ciranda.evals import scorers
from ciranda.monitor import metrics, quality
from ciranda.monitor.drift import Watch
from ciranda.store.database import Database, metadata
from monitored import sentences
from recorded import Recorded, opinion, record, until


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    world = Recorded(tmp_path)
    world.start()
    yield world
    world.close()


def test_from_the_spool_to_a_wish_for_a_turn(recorded: Recorded, tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/monitors.db")
    metadata.create_all(db.engine)
    store, writer = recorded.interactions, recorded.writer()
    record(writer, "before anything was watched")
    until(lambda: store.count(model="m") == 1)
    watch = Watch(db, store)
    watch.freeze("m", "m@1", sentences("en", 600, 1))
    judge = scorers.scorers(["valid_json", "refusal"])
    for n, text in enumerate((*sentences("en", 90, 2), *sentences("pt-BR", 70, 3))):
        opinion(writer, record(writer, text, '{"intent":"TurnOn"}'), thumb=-1 if n >= 90 or n % 9 == 0 else 1)
    until(lambda: sum(one.thumbs_up + one.thumbs_down for one in store.totals(model="m")) == 160)
    assert quality.score(db, store, "m", judge) == 161
    assert quality.score(db, store, "m", judge) == 0
    told = watch.tick("m", quality=partial(quality.quality_of, scorers=judge))
    assert {one.kind for one in told} == {"drift", "feedback", "retrain"}
    assert {one["name"]: one["seen"] for one in watch.status("m")}["feedback"] == 160
    assert watch.tick("m") == []
    whole = metrics.live(store, "m", window_s=600)[0]
    assert (whole.requests, whole.votes, whole.error_rate) == (161, 160, 0.0)
    assert whole.quality == pytest.approx(1 - 0.5 / 161)  # only the very first answer was no JSON
    assert whole.thumbs_up == pytest.approx(80 / 160)
