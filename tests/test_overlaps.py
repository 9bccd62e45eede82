"""A suite that changes after training marks dataset and model versions; one that changes back or is dropped clears them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ciranda.config import Settings
from ciranda.config.model import ModelSpec
from ciranda.data import catalog, contamination
from ciranda.data import versions as datasets
from ciranda.data.checks import Blocked
from ciranda.data.rows import Row
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.loop import sieve
from ciranda.loop.overlaps import Overlaps
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import models
from registry_world import MODEL, World

ROWS = [Row.of(f"turn on lamp number {n}", "{}", origin=f"file:{n}", split="train") for n in range(20)]


class Place:
    """A platform with a dataset version, a model version that learned it, and a suite that its gate names."""

    def __init__(self, path: Path) -> None:
        self.suite = path / "evals.yaml"
        self.ask("what time is it")
        self.world = World(path, gates=[{"suite": str(self.suite), "metric": "exact_match", "rule": ">= 0.5"}])
        self.platform = Platform(self.world.home, Settings(), self.world.db)
        self.commit(ROWS)
        self.learned = self.world.register(1)
        self.overlaps = Overlaps(self.platform)

    def ask(self, *prompts: str) -> None:
        cases = "".join(f"  - {{prompt: {prompt}, reference: x}}\n" for prompt in prompts)
        self.suite.write_text(f"suite: evals\ncases:\n{cases}")

    def commit(self, rows: list[Row]) -> str:
        made = datasets.commit(
            self.world.db, self.world.home, MODEL, rows, transformation={"kind": "test"}, actor="test"
        )
        return made.ref

    def looked(self) -> list[tuple[str, int, dict[str, int]]]:
        """What is contaminated after some looks."""
        for _ in range(3):
            self.overlaps.look()
        with self.world.db.reading() as conn:
            return [(one.version, one.found, dict(one.ways)) for one in contamination.page(conn)]

    def alerts(self, state: str) -> list[str]:
        with self.world.db.reading() as conn:
            return [one.title for one in alerts.page(conn, kind="contamination", state=state)]


def left(place: Place, spec: ModelSpec) -> int:
    """How many rows the checks of a model's file leave."""
    with sieve.judged(place.platform, spec, ROWS) as judged:
        return len(judged.stage)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_suite_that_changes_later_marks_what_was_trained(place: Place) -> None:
    assert place.looked() == []
    place.ask("what time is it", "Turn on LAMP number 7!")
    assert place.looked() == [(f"{MODEL}@1", 1, {"exact": 1})]
    told = f"{MODEL}@1 holds 1 training rows that the suite {place.suite} asks; trained on it: {MODEL}@1"
    assert place.alerts("open") == [told]
    found = catalog.contaminated(place.world.db, place.learned.dataset)
    assert [dict(one) for one in found[0].examples] == [{"key": ROWS[7].key, "origin": "file:7", "how": "exact"}]
    assert place.looked() == [(f"{MODEL}@1", 1, {"exact": 1})]
    assert len(place.alerts("open")) == 1
    place.ask("what time is it")
    assert place.looked() == []
    assert place.alerts("open") == []
    assert audit.verify(place.world.db).ok


def test_a_new_version_is_looked_at_and_a_suite_that_nobody_names_is_forgotten(place: Place) -> None:
    place.looked()
    place.commit([*ROWS, Row.of("what time is it", "{}", split="train"), Row.of("what time is it", "x", split="test")])
    assert place.looked() == [(f"{MODEL}@2", 1, {"exact": 1})]
    place.world.apply()
    assert place.looked() == []
    assert place.alerts("closed")


def test_what_is_compared_stays_compared(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.looked()

    def compare(*_: Any) -> Any:
        raise AssertionError("compared again")

    monkeypatch.setattr(contamination, "compare", compare)
    place.looked()
    Overlaps(place.platform).look()  # nor after a start


def test_the_check_at_commit_sees_the_suites_of_every_model(place: Place, tmp_path: Path) -> None:
    with place.world.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    alien = tmp_path / "other.yaml"
    alien.write_text("suite: other\ncases:\n  - {prompt: turn on lamp number 3, reference: x}\n")
    gates = [{"suite": str(alien), "metric": "exact_match", "rule": ">= 0.5"}]
    with place.world.db.writing() as conn:
        models.put(conn, type(spec).model_validate({"model": "other", "gates": gates}), actor="test")
    with pytest.raises(Blocked, match="train row asks what suite"):
        left(place, spec)
    alien.unlink()  # another model's suite that is away stops nobody
    assert left(place, spec) == len(ROWS)
    place.suite.unlink()
    with pytest.raises(NotFound):
        left(place, spec)


def test_pages_of_what_is_contaminated_go_on_where_they_ended(place: Place) -> None:
    place.ask("turn on lamp number 7")
    place.commit(ROWS[:10])
    place.looked()
    with place.world.db.reading() as conn:
        first = contamination.page(conn, limit=1)
        rest = contamination.page(conn, after=(first[0].version, first[0].suite))
        assert [one.version for one in (*first, *rest)] == [f"{MODEL}@1", f"{MODEL}@2"]
        assert contamination.page(conn, datasets=["other"]) == []
        assert len(contamination.page(conn, datasets=[MODEL])) == 2


def test_a_version_whose_rows_are_gone_keeps_nobody_waiting(place: Place) -> None:
    shutil.rmtree(place.world.home.datasets / f"{MODEL}.lance")
    assert place.looked() == []
    with place.world.db.reading() as conn:
        assert contamination.compared(conn) == {str(place.suite)}
