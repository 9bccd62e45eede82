"""Cheap scorers on live answers: each answer scored once, whatever dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from ciranda.evals import scorers
from ciranda.evals.scorers import Scorer
from ciranda.monitor.quality import quality_of, score, scores_of
from ciranda.store.database import Database, metadata
from monitored import Store

SCORERS = scorers.scorers(["valid_json", "refusal"])


@pytest.fixture
def db(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    return database


def test_each_answer_of_every_arm_is_scored_once(db: Database) -> None:
    store = Store()
    good, shadow = store.ask("on", '{"a":1}'), store.ask("on", "I cannot help.", arm="shadow")
    assert score(db, store, "home", SCORERS) == 2
    assert score(db, store, "home", SCORERS) == 0
    later = store.ask("off", "hm")
    assert score(db, store, "home", SCORERS) == 1
    told = {name: one.value for name, one in store.scores.items()}
    assert told == {
        f"{good}:valid_json": 1.0, f"{good}:refusal": 0.0, f"{shadow}:valid_json": 0.0, f"{shadow}:refusal": 1.0,
        f"{later}:valid_json": 0.0, f"{later}:refusal": 0.0,
    }  # fmt: skip
    assert store.scores[f"{shadow}:refusal"].arm == "shadow"


def test_dying_between_storing_and_remembering_scores_again_and_keeps_once(db: Database) -> None:
    class Dies(Store):
        def insert_scores(self, scores: list) -> int:  # type: ignore[type-arg, override]
            super().insert_scores(scores)
            raise KeyboardInterrupt

    dying = Dies()
    for n in range(700):
        dying.ask(f"text {n}", "{}")
    with pytest.raises(KeyboardInterrupt):
        score(db, dying, "home", SCORERS)
    living = Store(asked=dying.asked, scores=dying.scores)
    assert score(db, living, "home", SCORERS) == 700
    assert len(living.scores) == 1400


def test_answers_that_nobody_got_are_not_scored_and_failures_are_bad(db: Database) -> None:
    store = Store()
    store.ask("on", "", status=500, error="api_error")
    store.ask("on", "", status=429)
    store.ask("on", '{"a"', status=499)
    failed, limited, left = store.asked
    assert [scores_of(one, SCORERS) for one in store.asked] == [{}, {}, {}]
    assert (quality_of(failed, SCORERS), quality_of(limited, SCORERS), quality_of(left, SCORERS)) == (0.0, None, None)
    assert score(db, store, "home", SCORERS) == 3
    assert store.scores == {}


def test_quality_turns_bad_scores_round(db: Database) -> None:
    store = Store()
    store.ask("on", "{}")
    store.ask("on", "I cannot help.")
    assert [quality_of(one, SCORERS) for one in store.asked] == [1.0, 0.0]
    assert quality_of(store.asked[0], ()) is None
    odd = (
        Scorer("odd", lambda said: float("nan")),
        Scorer("large", lambda said: 7.0),
        Scorer("dumb", lambda said: None),
    )
    assert scores_of(store.asked[0], odd) == {"large": 1.0}
