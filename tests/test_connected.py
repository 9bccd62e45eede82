"""Sources behind foreign libraries and servers: a bucket of SeaweedFS, a source of dlt, our own record of interactions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import seaweed
from ciranda.data import sources
from ciranda.data.sources import Inputs
from ciranda.errors import Failed, Invalid, Refused
from ciranda.govern.outgoing import Door
from ciranda.interactions.filters import Filters
from ciranda.store import clock
from feeding import World, finance, line, paged, since, source, world

__all__ = ["world"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[seaweed.Server]:
    with seaweed.server() as found:
        yield found


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY", seaweed.KEY)
    monkeypatch.setenv("S3_SECRET", seaweed.SECRET)
    monkeypatch.setenv("DESK_KEY", "desk-word")


# --- a bucket ---------------------------------------------------------------------------------------------------------


def in_bucket(server: seaweed.Server, url: str, **more: Any) -> Any:
    chosen = {"url": url, "endpoint": server.url, "key": "env:S3_KEY", "secret": "env:S3_SECRET"}
    return source(s3=chosen, **more)


def test_real_questions_come_out_of_a_bucket_and_then_only_new_and_changed_objects(
    world: World, bucket: seaweed.Server
) -> None:
    import obstore

    store = bucket.make("tickets")
    for number, part in enumerate(paged(finance(), 300)):
        lines = [json.dumps({"prompt": one["question"], "completion": one["answer"]}) for one in part]
        obstore.put(store, f"in/part-{number}.jsonl", "\n".join(lines).encode())
    obstore.put(store, "in/deeper/no.jsonl", line("no", "x").encode())
    obstore.put(store, "in/readme.txt", b"no rows")
    wanted = in_bucket(bucket, "s3://tickets/in/*.jsonl")
    version = world.ingest(wanted)
    assert (world.last()["rows_in"], world.last()["detail"]["files"]) == (648, 3)
    origins = {row.origin for row in world.rows()}
    assert "s3://tickets/in/part-2.jsonl:1" in origins
    assert world.ingest(wanted, lazy=True).ref == version.ref
    assert world.last()["rows_in"] == 0
    obstore.put(store, "in/part-2.jsonl", line("only this", "now").encode())
    obstore.put(store, "in/part-3.jsonl", line("and this", "too").encode())
    world.ingest(wanted)
    assert world.last()["rows_in"] == 2
    said = world.said()
    assert (said["only this"], said["and this"]) == ("now", "too")
    assert {row.origin for row in world.rows() if "part-2" in row.origin} == {"s3://tickets/in/part-2.jsonl:1"}
    world.ingest(wanted, window=since("beginning"))
    assert world.last()["rows_in"] == 602
    assert list(world.home.run.glob("tmp*")) == []


def test_a_bucket_that_refuses_us_says_so_and_a_private_one_is_not_called(world: World, bucket: seaweed.Server) -> None:
    bucket.make("closed")
    wanted = source(s3={"url": "s3://closed/*.jsonl", "endpoint": bucket.url})
    with pytest.raises(Failed, match="the store says"):
        world.ingest(wanted)
    with pytest.raises(Refused, match="private address"):
        world.ingest(wanted, inputs=Inputs(root=world.root, scratch=world.home.run))


# --- dlt --------------------------------------------------------------------------------------------------------------


def test_the_state_of_a_dlt_source_is_our_cursor_and_holds_only_with_its_rows(world: World) -> None:
    pytest.importorskip("dlt", reason="pip install 'ciranda[sources]'")
    import ticketsdlt

    ticketsdlt.TICKETS[:] = [{"id": n, "q": f"q{n}", "a": "x", "changed": n} for n in range(1, 6)]
    wanted = source(
        dlt={"source": "ticketsdlt:desk", "secrets": {"key": "env:DESK_KEY"}}, id="id",
        map={"prompt": "q", "completion": "a"},
    )  # fmt: skip
    inputs = Inputs(root=world.root, connectors=frozenset({"ticketsdlt"}))
    named: dict[str, Any] = {"dataset": "d", "model": "d", "inputs": inputs, "actor": "t"}
    with sources.ingest(world.db, world.home, sources=[wanted], **named) as batch:
        assert len(list(batch.rows)) == 5  # and nobody commits them
    assert world.last()["state"] == "failed"
    assert world.ingest(wanted, inputs=inputs).rows == 5
    ticketsdlt.TICKETS += [
        {"id": 2, "q": "q2", "a": "other", "changed": 6},
        {"id": 6, "q": "q6", "a": "x", "changed": 7},
    ]
    assert world.ingest(wanted, inputs=inputs).rows == 6
    run = world.last()
    assert run["rows_in"] == 2
    assert '"last_value": 5' in run["cursor_before"]
    assert '"last_value": 7' in run["cursor"]
    assert (world.said()["q1"], world.said()["q2"]) == ("x", "other")
    assert {row.origin for row in world.rows()} == {f"ticketsdlt:desk/tickets/{n}" for n in range(1, 7)}
    assert set(ticketsdlt.KEYS) == {"desk-word"}
    assert "desk-word" not in json.dumps(sources.history(world.db, "d"))
    world.ingest(wanted, inputs=inputs, window=since("beginning"))
    assert world.last()["rows_in"] == 6


def test_a_module_that_the_operator_did_not_name_is_not_even_imported(world: World) -> None:
    with pytest.raises(Refused, match="not among the connectors"):
        world.ingest(source(dlt={"source": "ticketsdlt:tickets"}))
    pytest.importorskip("dlt", reason="pip install 'ciranda[sources]'")
    inputs = Inputs(root=world.root, connectors=frozenset({"ticketsdlt"}))
    with pytest.raises(Invalid, match="is no source of dlt"):
        world.ingest(source(dlt={"source": "ticketsdlt:no_source"}), inputs=inputs)


# --- our own traffic --------------------------------------------------------------------------------------------------


class Record:
    """Interactions as the store gives them; the real store is behind `test_feedback` and `test_query`."""

    def __init__(self, *found: SimpleNamespace) -> None:
        self.found, self.asked = list(found), list[Filters]()

    def everything(self, **chosen: Any) -> Iterator[Any]:
        self.asked.append(Filters(**chosen))  # type: ignore[typeddict-item]
        return iter(self.found)


def interaction(name: str, *, thumb: int = 0, correction: str = "", score: float = 1.0) -> SimpleNamespace:
    body = {"messages": [{"role": "user", "content": f"ask {name}"}]}
    said = [SimpleNamespace(correction=correction, ts_ms=1)] if correction else []
    scores = [SimpleNamespace(scorer="valid_json", value=score)]
    return SimpleNamespace(
        id=name, ts_ms=1, user="ana", request=json.dumps(body), status=200, output_text=f"answer {name}", thumb=thumb,
        feedback=said, scores=scores,
    )  # fmt: skip


def test_bad_answers_with_corrections_become_rows(world: World) -> None:
    record = Record(
        interaction("liked", thumb=1), interaction("disliked", thumb=-1), interaction("put-right", thumb=-1, correction="so"),
        interaction("scored-low", correction="better", score=0.0),
    )  # fmt: skip
    wanted = source(interactions={"thumb": "down", "score": "valid_json < 1", "any": True, "last": "7d"}, name="bad")
    inputs = Inputs(root=world.root, traffic=record)  # type: ignore[arg-type]
    world.ingest(wanted, inputs=inputs)
    assert world.said() == {"ask put-right": "so", "ask scored-low": "better"}
    assert {(row.origin, row.subject, row.source) for row in world.rows()} == {
        ("put-right", "ana", "bad"), ("scored-low", "ana", "bad"),
    }  # fmt: skip
    began = record.asked[0]["since"]
    assert began is not None
    assert timedelta(days=6, hours=23) < clock.now() - began < timedelta(days=7, minutes=1)
    record.found = [interaction("put-right", thumb=-1, correction="no, so")]
    world.ingest(wanted, inputs=inputs)
    assert world.said() == {"ask put-right": "no, so", "ask scored-low": "better"}
    record.found = [interaction("liked", thumb=1), interaction("neutral")]
    world.ingest(source(interactions={"thumb": "up", "corrected": False}, name="good"), inputs=inputs)
    assert world.said() == {"ask liked": "answer liked"}


def test_the_door_opens_for_named_hosts_alone() -> None:
    door = Door.of(False, " db.internal , 10.0.0.5:5432")
    assert door.opens("DB.internal", 1)
    assert door.opens("10.0.0.5", 5432)
    assert not door.opens("10.0.0.5", 22)
    assert not Door.of(False, "").opens("127.0.0.1", 80)
    assert Door.of(True, "").opens("127.0.0.1", 80)
