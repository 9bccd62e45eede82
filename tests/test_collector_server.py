"""The same collector and the same questions on a ClickHouse server, here the embedded engine behind a door that allows all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ciranda.errors import Unauthenticated
from ciranda.interactions.client import status_of
from ciranda.interactions.query import Interactions, Score
from ciranda.store import clock
from clickhouse import standing
from recorded import Recorded, opinion, record, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with standing(tmp_path / "clickhouse") as url:
        yield url


def test_the_setting_sends_everything_to_the_server(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIRANDA_CLICKHOUSE_URL", server)
    world = Recorded(tmp_path / "home")
    world.start()
    try:
        writer = world.writer()
        identifier = record(writer, "hello there")
        opinion(writer, identifier, thumb=-1, correction="better")
        (given,) = until(lambda: (one := world.interactions.get(identifier)) and one.feedback)
        assert (given.thumb, given.version) == (-1, "m@1")
        assert world.interactions.insert_scores([Score(identifier, "exact", 1.0, "m", "m@1", "live")]) == 1
        (total,) = world.interactions.totals(model="m")
        assert (total.requests, total.thumbs_down, total.scores) == (1, 1, {"exact": 1.0})
        world.kill()
        late = [record(writer, f"while away {number}") for number in range(20)]
        world.start()
        until(lambda: world.interactions.count(model="m") == 21)
        assert {one.id for one in world.interactions.page(search="AWAY", since=clock.parse("2026-01-01"))} == set(late)
        assert not (world.home.interactions / "chdb").exists()
        assert status_of(world.home)["blocked"] == ""
        with pytest.raises(Unauthenticated):
            Interactions(server.replace("secret", "guess")).count()
    finally:
        world.close()


def test_a_server_that_is_away_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRANDA_CLICKHOUSE_URL", "http://default:secret@127.0.0.1:9")
    world = Recorded(tmp_path / "home")
    world.launch()
    assert world.process is not None
    assert world.process.wait(60) == 8
    assert "ClickHouse does not answer" in world.log()
    assert "http://127.0.0.1:9" in world.log()
    assert "secret" not in world.log()
    world.close()
