"""Door by door: what policy hides of interactions comes out of none of them. Canaries lie in what a person asked, was answered and
said of it; the raw bytes of pages, API, exports, queues of review, replays, spans and datasets are searched for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import house
from ciranda import loop
from ciranda.config import Home
from ciranda.data import exports, reading
from ciranda.data.hearing import Hearing
from ciranda.errors import Forbidden
from ciranda.govern import access, policies
from ciranda.govern.access import Principal
from ciranda.govern.policy import Reader
from ciranda.interactions.spool import EVENT, FEEDBACK, INTERACTION
from ciranda.loop import gather, reviews
from ciranda.loop.control import Control
from ciranda.loop.quoting import Quotes
from ciranda.monitor import alerts
from ciranda.store import clock, ids
from ciranda.web import app
from recorded import Recorded, answered, asked, until
from test_one_door import token_of

CANARIES = (
    "canary-question",
    "canary-answer",
    "canary-person",
    "canary-talk",
    "canary-comment",
    "canary-right",
    "canary-gone",
)
POLICIES: tuple[dict[str, Any], ...] = (
    {
        "policy": "secrets", "effect": "mask", "fields": {"names": ["messages", "completion", "group"]},
        "rows": [{"field": "subject", "equals": "canary-person"}],
    },
    {
        "policy": "gone", "effect": "deny", "datasets": {"names": ["interactions:house"]},
        "rows": [{"field": "subject", "equals": "nobody-s"}],
    },
    {"policy": "people-are-hashed", "effect": "hash", "fields": {"names": ["subject"]}},
)  # fmt: skip


class World:
    """A home where three people talked to a model, under policies."""

    def __init__(self, folder: Path) -> None:
        self.platform = loop.open(Home(folder / ".ciranda"))
        file = house.project(folder)
        loop.apply(self.platform, loop.plan(self.platform, {str(file): file.read_text()}), "test")
        self.recorded = Recorded(self.platform.home.path)
        self.recorded.start()
        self._talk()
        with self.platform.db.writing() as conn:
            for one in POLICIES:
                policies.put(conn, policies.read(one), actor="test")
            self.key = access.create(conn, "vera", role="engineer", actor="test")[1]
        self.client = TestClient(app.create(self.platform), base_url="http://127.0.0.1")

    def _talk(self) -> None:
        writer = self.recorded.writer()
        said = (("canary-person", "canary-question of mine", "canary-answer"), ("bo", "hello", "hi there"),
                ("nobody-s", "canary-gone", "canary-gone too"))  # fmt: skip
        self.ids = [ids.text7() for _ in said]
        for place, (user, question, answer) in enumerate(said):
            meta = {"id": self.ids[place], "ts_ms": clock.now_ms(), "model": house.MODEL, "version": f"{house.MODEL}@1",
                    "status": 200, "tenant": "default", "arm": "live", "user": user, "conversation": f"canary-talk {place}"
                    if not place else f"talk {place}", "language": "en"}  # fmt: skip
            writer.append(INTERACTION, meta, asked(question), answered(answer))
        writer.append(FEEDBACK, {
            "id": ids.new("fb"), "ts_ms": clock.now_ms(), "interaction": self.ids[0], "user": "canary-person", "thumb": -1,
            "correction": "canary-right", "comment": "canary-comment", "tenant": "default",
        })  # fmt: skip
        writer.append(EVENT, {"id": ids.text7(), "ts_ms": clock.now_ms() - 5, "event": "tokens_counted", "model": house.MODEL,
                              "user": "canary-person", "key": "key_1", "status": 200, "found": 7})  # fmt: skip
        writer.append(EVENT, {"id": ids.text7(), "ts_ms": clock.now_ms(), "event": "try_failed", "model": house.MODEL,
                              "interaction": self.ids[0], "version": f"{house.MODEL}@2", "reason": "cannot connect"})  # fmt: skip
        writer.seal()
        until(lambda: len(self.platform.interactions.events()) == 2)
        until(lambda: len(self.platform.interactions.page(limit=10)) == 3)
        until(lambda: self.platform.interactions.feedback_since(None))

    def get(self, path: str, status: int = 200) -> bytes:
        answer = self.client.get(f"/api/v1{path}", headers={"authorization": f"Bearer {self.key}"})
        assert answer.status_code == status, answer.text
        return answer.content

    def page(self, path: str, status: int = 200) -> bytes:
        if "sign-in" in str((asked := self.client.get("/sign-in")).url):
            self.client.post("/sign-in", data={"key": self.key, "token": token_of(asked.text)})
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text[:500]
        return answer.content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("hearing"))
    yield made
    made.recorded.close()
    made.platform.close()


def clean(content: bytes, place: str) -> None:
    found = [canary for canary in CANARIES if canary.encode() in content]
    assert not found, f"{place} shows {found}"


def vera(world: World) -> Principal:
    return access.check(world.platform.db, world.key)


def test_the_record_has_them(world: World) -> None:
    assert {one.user for one in world.platform.interactions.page(limit=10)} == {"canary-person", "bo", "nobody-s"}


def test_the_api(world: World) -> None:
    listed = world.get("/interactions")
    clean(listed, "the list")
    told = json.loads(listed)["items"]
    assert {one["id"] for one in told} == set(world.ids[:2])
    one = json.loads(world.get(f"/interactions/{world.ids[0]}"))
    clean(json.dumps(one).encode(), "one interaction")
    assert (one["input_text"], one["output_text"], one["feedback"][0]["correction"]) == ("[masked]",) * 3
    other = json.loads(world.get(f"/interactions/{world.ids[1]}"))
    assert (other["input_text"], other["output_text"]) == ("hello", "hi there")
    assert other["user"] not in ("", "bo")
    world.get(f"/interactions/{world.ids[2]}", status=404)


def test_what_happened_beside_answers(world: World) -> None:
    listed = world.get("/interactions/events")
    clean(listed, "the events")
    tried, counted = json.loads(listed)["items"]
    assert (tried["kind"], tried["interaction"], tried["reason"]) == ("try_failed", world.ids[0], "cannot connect")
    assert (counted["kind"], counted["user"], counted["found"]) == ("tokens_counted", "[masked]", 7)
    first = json.loads(world.get("/interactions/events?limit=1"))
    rest = json.loads(world.get(f"/interactions/events?limit=1&cursor={first['next']}"))
    assert [one["kind"] for one in first["items"] + rest["items"]] == ["try_failed", "tokens_counted"]
    assert json.loads(world.get("/interactions/events?kind=texts_judged"))["items"] == []
    assert [one["reason"] for one in json.loads(world.get(f"/interactions/{world.ids[0]}"))["events"]] == [
        "cannot connect"
    ]
    content = world.page("/interactions/events")
    clean(content, "the page of events")
    assert b"cannot connect" in content
    assert b"cannot connect" in world.page(f"/interactions/{world.ids[0]}")


def test_sentences_in_what_the_platform_says_of_itself(world: World) -> None:
    examples = [[world.ids[0], "canary-question of mine"], [world.ids[1], "hello"], [world.ids[2], "canary-gone"]]
    body = {"groups": [{"label": "lamps", "before": 0.1, "after": 0.4, "examples": examples}], "examples": examples}
    with world.platform.db.writing() as conn:
        fired = alerts.raise_(
            conn, "a change", model=house.MODEL, kind="drift", severity="warning", title="it changed", body=body
        )
    told = world.get("/alerts")
    clean(told, "the alerts")
    (one,) = json.loads(told)["items"]
    assert one["body"]["examples"] == [[world.ids[0], "[masked]"], [world.ids[1], "hello"]]
    assert one["body"]["groups"][0]["examples"] == one["body"]["examples"]
    clean(world.get(f"/models/{house.MODEL}/drift"), "drift")
    shown = world.page(f"/alerts/{fired.id}")
    clean(shown, "the page of an alert")
    assert b"hello" in shown
    clean(world.page(f"/models/{house.MODEL}/drift"), "the page of drift")
    answers = [
        {"interaction": name, "prompt": text, "before": text, "after": "new", "gain": 0.0} for name, text in examples
    ]
    replayed = Quotes(world.platform, house.MODEL, vera(world)).answers(answers)
    assert [(one["interaction"], one["prompt"], one["after"]) for one in replayed] == [
        (world.ids[0], "[masked]", "[masked]"), (world.ids[1], "hello", "new"),
    ]  # fmt: skip


def test_exports_and_their_register(world: World) -> None:
    content = world.get("/interactions/export?format=jsonl")
    assert content.count(b"\n") == 2
    clean(content, "the export")
    newest = exports.listing(world.platform.db)[0]
    assert set(newest["policies"]) >= {"secrets", "people-are-hashed"}


def test_the_pages(world: World) -> None:
    for path in ("/interactions", f"/interactions/{world.ids[0]}"):
        content = world.page(path)
        clean(content, path)
        assert b"[masked]" in content
    world.page(f"/interactions/{world.ids[2]}", status=404)


@pytest.mark.parametrize("chosen", ["user=canary-person", "q=canary-question", "conversation=canary-talk 0"])
def test_nobody_chooses_by_what_they_do_not_see(world: World, chosen: str) -> None:
    world.page(f"/interactions?{chosen}", status=403)
    world.get(f"/interactions?{chosen.replace('q=', 'search=')}", status=403)


def test_replays_and_spans(world: World) -> None:
    for purpose in ("evaluation", "export", "labelling"):
        hearing = Hearing(world.platform.db, world.platform.home, Reader("loop", "platform", purpose))  # type: ignore[arg-type]
        heard = hearing.these(world.platform.interactions.page(limit=10))
        clean(repr(heard).encode(), purpose)
        assert len(heard) == 2
    control = Control(world.platform, {})
    clean(repr(control._hear(world.platform.interactions.page(limit=10))).encode(), "spans")


def test_what_a_queue_of_review_shows(world: World) -> None:
    item = type("I", (), {"kind": "interaction", "ref": world.ids[0], "id": "i"})()
    shown = reviews.look(world.platform, item, vera(world))
    clean(repr(shown).encode(), "the queue")
    clean(repr(reviews.look_at_all(world.platform, [item], vera(world))).encode(), "the queue at once")


def test_a_dataset_made_of_them_inherits(world: World) -> None:
    with world.platform.db.writing() as conn:
        policies.put(conn, policies.read(
            {"policy": "record", "effect": "mask", "datasets": {"names": ["interactions"]}, "fields": {"names": ["completion"]}}
        ), actor="test")  # fmt: skip
    made = gather.gather(world.platform, "taken", {"model": house.MODEL}, "vera")
    rows = list(
        reading.read(world.platform.db, world.platform.home, made["dataset"], reading.asking(vera(world), "training"))
    )
    clean(repr(rows).encode(), "the dataset")
    assert [row.completion for row in rows] == ["[masked]"] * 2
    with world.platform.db.writing() as conn:
        policies.remove(conn, "record", actor="test")


def test_a_closed_record_says_which_policy_closed_it(world: World) -> None:
    with world.platform.db.writing() as conn:
        policies.put(conn, policies.read(
            {"policy": "shut", "effect": "deny", "datasets": {"names": ["interactions"]}, "purposes": ["export"]}
        ), actor="test")  # fmt: skip
    reader = reading.asking(vera(world), "export")
    with pytest.raises(Forbidden, match="closed to 'vera'"):
        Hearing(world.platform.db, world.platform.home, reader).demand("")
    world.get("/interactions/export?format=jsonl", status=403)
    with world.platform.db.writing() as conn:
        policies.remove(conn, "shut", actor="test")
