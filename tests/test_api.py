"""The REST API through its front door: rights, errors, pages, verbs, on real stores and a real collector."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ciranda import loop
from ciranda.config import Settings
from ciranda.data import contamination
from ciranda.data import versions as datasets
from ciranda.data.contamination import Overlap
from ciranda.data.rows import Row
from ciranda.deploy import rollout
from ciranda.govern import access, audit
from ciranda.govern import public as publics
from ciranda.interactions import seals
from ciranda.interactions.spool import FEEDBACK, INTERACTION, SpoolWriter
from ciranda.monitor import alerts
from ciranda.store import clock, ids
from ciranda.train import bases
from ciranda.web import api, mlflow, openai
from registry_world import MODEL, World

API = api.PREFIX
TABLES = {API: api.ROUTES, openai.DIALECT.prefix: openai.ROUTES, mlflow.DIALECT.prefix: mlflow.ROUTES}
EVERY = [
    pytest.param(prefix, rest, id=f"{rest.method} {prefix}{rest.path}")
    for prefix, table in TABLES.items()
    for rest in table
]
SPEC = "model: smart-home\nbase: tiny\nserve: {engine: fake}\n"


class Door:
    """The API of one home, and keys of every role for it."""

    def __init__(self, path: Path) -> None:
        self.world = World(path, base="tiny", serve={"engine": "fake"})
        seals.segments.create(self.world.db.engine, checkfirst=True)
        self.platform = loop.Platform(self.world.home, Settings(), self.world.db)
        app = Starlette(
            routes=[*api.routes(self.platform), *openai.routes(self.platform), *mlflow.routes(self.platform)]
        )
        self.client = TestClient(app, raise_server_exceptions=False)
        self.keys = {role: self.key(role) for role in access.ROLES}

    def key(self, role: str, *, models: tuple[str, ...] = ("*",), name: str = "") -> str:
        with self.world.db.writing() as conn:
            if role == publics.ROLE:
                bounds = publics.public(["*"])
                return access.create(conn, name or role, role=role, models=["m"], actor="test", public=bounds)[1]
            return access.create(conn, name or role, role=role, models=models, actor="test")[1]

    def call(
        self, method: str, path: str, *, role: str = "admin", key: str = "", prefix: str = API, **more: Any
    ) -> Any:
        headers = {"authorization": f"Bearer {key or self.keys[role]}", **more.pop("headers", {})}
        return self.client.request(method, prefix + path, headers=headers, **more)

    def get(self, path: str, **more: Any) -> Any:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.call("POST", path, json=body or {}, **more)


def prepared(door: Door, name: str) -> None:
    """A base that counts as prepared, so that no job is started for it."""
    folder = door.world.home.bases / bases.slug(name)
    folder.mkdir(parents=True)
    (folder / "base.json").write_text(json.dumps({"digest": "sha256:base", "format": bases.FORMAT}))


@pytest.fixture
def door(tmp_path: Path) -> Door:
    made = Door(tmp_path)
    prepared(made, "tiny")
    return made


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """One door for all the calls of the matrices, which ask for names that do not exist."""
    made = Door(tmp_path_factory.mktemp("matrix"))
    prepared(made, "tiny")
    return made


def concrete(path: str) -> str:
    """A route's path with names in it."""
    given = {
        "model": MODEL,
        "number:int": "0",
        "other:int": "1",
        "dataset": MODEL,
        "run:path": "s.0",
        "search": "search:nothing",
        "evaluation": "e",
        "ingestion": "ing_1-000",
        "turn:path": "t",
    }
    for name, value in {
        **given,
        "policy": "p",
        "erasure": "erasure_0",
        "term": "customer",
        "interaction": "i",
        "alert": "a",
        "key": "k",
        "name": "newest",
    }.items():
        path = path.replace("{" + name + "}", value)
    return path


@pytest.mark.parametrize("role", access.ROLES)
@pytest.mark.parametrize(("prefix", "rest"), EVERY)
def test_every_route_admits_exactly_the_roles_with_its_right(
    matrix: Door, prefix: str, rest: api.Rest, role: str
) -> None:
    body = {} if rest.method == "POST" else None
    answer = matrix.call(rest.method, concrete(rest.path), role=role, prefix=prefix, json=body)
    if rest.right in access.ROLES[role]:
        assert answer.status_code not in (401, 403)
    else:
        assert answer.status_code == 403
        assert f"may not {rest.right}" in answer.text


@pytest.mark.parametrize(("prefix", "rest"), EVERY)
def test_no_route_opens_without_a_key(matrix: Door, prefix: str, rest: api.Rest) -> None:
    for headers in ({}, {"authorization": "Bearer cir_guess"}, {"authorization": "Basic eDp5"}):
        answer = matrix.client.request(rest.method, prefix + concrete(rest.path), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        if prefix == API:
            assert set(answer.json()) == {"error", "request_id"}


def test_that_it_lives_is_told_to_anybody_and_nothing_else(matrix: Door) -> None:
    answer = matrix.client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("rest", [one for one in api.ROUTES if "{model}" in one.path], ids=lambda rest: rest.path)
def test_a_key_for_another_model_opens_nothing_of_this_one(matrix: Door, rest: api.Rest) -> None:
    other = matrix.key("admin", models=("other",), name="other admin")
    answer = matrix.call(rest.method, concrete(rest.path), key=other, json={} if rest.method == "POST" else None)
    assert answer.status_code == 403


def test_a_limited_key_sees_only_its_models_in_lists(door: Door) -> None:
    other = door.key("admin", models=("other",), name="other admin")
    with door.world.db.writing() as conn:
        alerts.raise_(conn, "drift:1", model=MODEL, kind="drift", severity="warning", title="input moved")
    for path in ("/models", "/alerts", "/turns", "/runs", "/datasets"):
        assert door.get(path, key=other).json()["items"] == []
    assert door.get("/status", key=other).json()["models"] == []
    assert door.get("/alerts", key=other, params={"model": MODEL}).status_code == 403
    subjects = {event["subject"] for event in door.get("/audit", key=other).json()["items"]}
    assert not any(subject.startswith(MODEL) for subject in subjects)


def test_nobody_gives_more_access_than_they_have(door: Door) -> None:
    other = door.key("admin", models=("other",), name="other admin")
    assert door.post("/keys", {"name": "x", "role": "admin"}, key=other).status_code == 403
    made = door.post("/keys", {"name": "x", "role": "client", "models": ["other"]}, key=other)
    assert made.status_code == 201


def test_a_public_key_is_made_with_its_bounds_and_never_without(door: Door) -> None:
    asked = {"name": "site", "role": "feedback", "models": [MODEL], "public": {"origins": ["https://App.example.com"]}}
    made = door.post("/keys", asked)
    assert (made.status_code, made.json()["secret"][:5]) == (201, "cirp_")
    assert made.json()["public"]["origins"] == ["https://app.example.com"]
    assert [one["public"]["per_minute"] for one in door.get("/keys").json()["items"] if one["name"] == "site"] == [30]
    for wrong in ({"models": ["*"]}, {"public": None}, {"public": {"origins": ["nowhere"]}}, {"role": "client"}):
        refused = door.post("/keys", {**asked, **wrong})
        assert (refused.status_code, bool(refused.json()["error"]["remedy"])) == (400, True)


def test_a_key_works_until_it_is_revoked_and_its_secret_is_shown_once(door: Door) -> None:
    made = door.post("/keys", {"name": "app", "role": "viewer"}).json()
    assert door.get("/status", key=made["secret"]).status_code == 200
    listed = door.get("/keys").text
    assert made["id"] in listed
    assert made["secret"] not in listed
    assert access.digest_of(made["secret"]) not in listed
    assert door.post(f"/keys/{made['id']}/revoke").json() == {"id": made["id"], "revoked": True}
    assert door.get("/status", key=made["secret"]).status_code == 401


def test_status_tells_what_each_model_does_also_when_the_collector_is_away(door: Door) -> None:
    (door.world.home.run / "gateway-1.json").write_text(
        json.dumps({"url": "http://127.0.0.1:1", "pid": 5, "token": "secret"})
    )
    told = door.get("/status").json()
    (model,) = told["models"]
    assert model["model"] == MODEL
    assert model["traffic"] is None
    assert "collector" in told["interactions"]
    assert told["gateway"]["url"] == "http://127.0.0.1:1"
    assert "secret" not in json.dumps(told)


def test_a_model_from_its_file_to_live_and_back(door: Door) -> None:
    first, second = door.world.passed(1), door.world.passed(2)
    with door.world.db.writing() as conn:
        rollout.promote(conn, f"{MODEL}@0", actor="test")
    assert door.post(f"/models/{MODEL}/promote", {"version": first.ref}).json()["after"] == first.ref
    assert door.post(f"/models/{MODEL}/promote", {"version": second.ref}).json()["before"] == first.ref
    told = door.get(f"/models/{MODEL}").json()
    assert told["live"] == second.ref
    assert [one["ref"] for one in told["versions"]] == [f"{MODEL}@{number}" for number in (2, 1, 0)]
    back = door.post(f"/models/{MODEL}/rollback").json()
    assert (back["before"], back["after"]) == (second.ref, first.ref)
    version = door.get(f"/versions/{second.ref}").json()
    assert [change["stage"] for change in version["history"]] == ["candidate", "approved", "live", "retired"]
    assert version["verdicts"][0]["outcome"] == "pass"
    actors = {event["actor"] for event in door.get("/audit", params={"subject": second.ref}).json()["items"]}
    assert "admin" in actors


def test_a_version_of_another_model_cannot_be_promoted_through_this_one(door: Door) -> None:
    answer = door.post(f"/models/{MODEL}/promote", {"version": "other@1"})
    assert answer.status_code == 400
    assert "other@1" in answer.json()["error"]["message"]


def test_plan_changes_nothing_and_apply_does_what_plan_said(door: Door) -> None:
    files = {
        "models/new.yaml": "model: new\nserve: {engine: fake}\n",
        "models/smart-home.yaml": SPEC + "purpose: lights\n",
    }
    prepared_plan = door.post("/plan", {"files": files}, role="engineer").json()
    assert [(step["kind"], step["subject"]) for step in prepared_plan["steps"]] == [
        ("model.create", "new"),
        ("model.change", MODEL),
    ]
    assert door.get("/models/new").status_code == 404
    applied = door.post("/apply", {"files": files}, role="engineer").json()
    assert applied["steps"] == prepared_plan["steps"]
    assert door.get("/models/new").json()["spec"]["serve"]["engine"] == "fake"
    assert door.post("/plan", {"files": files}).json()["steps"] == []


def test_a_wrong_file_is_named_by_line_and_remedy_and_nothing_is_applied(door: Door) -> None:
    files = {"a.yaml": "model: a\n", "b.yaml": "model: b\ntrian: {}\n"}
    answer = door.post("/apply", {"files": files})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["where"] == "b.yaml:2"
    assert "did you mean 'train'" in error["remedy"]
    assert door.get("/models/a").status_code == 404


def test_a_limited_engineer_applies_only_its_own_models(door: Door) -> None:
    limited = door.key("engineer", models=("mine",), name="limited")
    assert door.post("/apply", {"files": {"x.yaml": "model: theirs\n"}}, key=limited).status_code == 403
    assert (
        door.post("/plan", {"files": {"x.yaml": "model: mine\nserve: {engine: fake}\n"}}, key=limited).status_code
        == 200
    )


def test_a_turn_is_one_for_one_event(door: Door) -> None:
    one = door.post(f"/models/{MODEL}/turns", {"event": "nightly"})
    two = door.post(f"/models/{MODEL}/turns", {"event": "nightly"})
    assert one.status_code == two.status_code == 202
    assert one.json() == two.json()
    told = door.get(f"/turns/{one.json()['turn']}").json()
    assert (told["state"], told["asked_by"]) == ("queued", "admin")
    busy = door.post(f"/models/{MODEL}/turns", headers={"idempotency-key": "another"})
    assert busy.status_code == 409
    assert "under way" in busy.json()["error"]["message"]
    assert door.get("/turns").json()["items"][0]["id"] == one.json()["turn"]


def test_lists_go_on_where_they_ended(door: Door) -> None:
    for number in range(7):
        with door.world.db.writing() as conn:
            alerts.raise_(conn, f"e:{number}", model=MODEL, kind="drift", severity="info", title=f"number {number}")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = door.get("/alerts", params={"limit": 3, "cursor": cursor}).json()
        seen += [one["title"] for one in page["items"]]
        cursor = page["next"]
    assert sorted(seen) == [f"number {number}" for number in range(7)]
    assert len(seen) == 7
    events = door.get("/audit", params={"limit": 2}).json()
    older = door.get("/audit", params={"limit": 2, "cursor": events["next"]}).json()
    assert events["items"][-1]["number"] == older["items"][0]["number"] + 1
    assert door.get("/alerts", params={"cursor": "nonsense"}).status_code == 400


def test_an_alert_is_acknowledged_by_whoever_asks(door: Door) -> None:
    with door.world.db.writing() as conn:
        made = alerts.raise_(conn, "drift:1", model=MODEL, kind="drift", severity="warning", title="input moved")
    told = door.post(f"/alerts/{made.id}/acknowledge", role="engineer").json()
    assert (told["state"], told["acknowledged_by"]) == ("acknowledged", "engineer")
    assert door.get("/alerts", params={"state": "open"}).json()["items"] == []


def test_the_chain_is_verified_and_a_cut_end_shows(door: Door) -> None:
    head = door.get("/audit/verify").json()
    assert head["ok"]
    assert door.get("/audit/verify", params={"head": head["head"]}).json()["ok"]
    told = door.get("/audit/verify", params={"head": "0" * 64}).json()
    assert not told["ok"]
    assert "cut off" in told["problem"]


def test_a_dataset_version_shows_its_rows_and_origin(door: Door) -> None:
    rows = [
        Row.of(f"turn on light {number}", "{}", language="en", split="train", group=str(number)) for number in range(5)
    ]
    made = datasets.commit(door.world.db, door.world.home, MODEL, rows, transformation={"cause": "test"}, actor="test")
    (listed,) = door.get("/datasets").json()["items"]
    assert listed["newest"]["ref"] == made.ref
    told = door.get(f"/datasets/{made.ref}").json()
    assert told["version"]["rows"] == 5
    assert len(told["samples"]["train"]) == 5
    assert door.get(f"/datasets/{MODEL}@9").status_code == 404


@pytest.mark.parametrize(
    ("send", "status", "said"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no valid JSON"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "no valid JSON"),
        ({"content": b"[]", "headers": {"content-type": "application/json"}}, 400, "a list"),
        ({"content": b"a=b", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400, "says it is"),
        ({"content": b'{"files": {}}', "headers": {"content-type": "application/json"}}, 400, "files"),
        ({"content": b'{"file": {}}', "headers": {"content-type": "application/json"}}, 400, "file"),
        ({"content": b" " * 1_100_000, "headers": {"content-type": "application/json"}}, 413, "bytes"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_what_where_and_remedy(
    door: Door, send: dict[str, Any], status: int, said: str
) -> None:
    answer = door.call("POST", "/plan", **send)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert said in error["message"]
    assert error["where"]
    assert error["remedy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models?limit=0", 400), ("/models?limit=many", 400), ("/models?colour=red", 400), ("/alerts?state=sleepy", 400),
        ("/interactions?since=yesterday", 400), ("/models/nobody", 404), ("/versions/smart-home@99", 404),
        ("/turns/none", 404), ("/runs/none", 404), ("/evaluations/none", 404), ("/nothing", 404), ("/audit/verify?head=xyz", 400),
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered_with_a_remedy(door: Door, path: str, status: int) -> None:
    answer = door.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["remedy"]
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_wrong_method_says_which_there_are(door: Door) -> None:
    answer = door.call("DELETE", f"/models/{MODEL}")
    assert answer.status_code == 404
    assert "GET" in answer.json()["error"]["remedy"]


def test_a_bug_inside_is_a_500_with_an_id_and_no_traceback(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(loop, "approve", broken)
    answer = door.post(f"/models/{MODEL}/approve")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert answer.json()["request_id"] in answer.json()["error"]["remedy"]


def test_a_session_of_the_pages_opens_the_api_but_not_from_another_site(door: Door) -> None:
    principal = access.check(door.world.db, door.keys["admin"])

    class Signed:
        """What the pages' door does for a browser that signed in."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "principal": principal}, receive, send)

    client = TestClient(Signed(door.client.app))
    assert client.get(f"{API}/status").status_code == 200
    assert client.post(f"{API}/plan", json={"files": {"a.yaml": SPEC}}).status_code == 200
    foreign = client.post(f"{API}/plan", json={"files": {"a.yaml": SPEC}}, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A door with a real collector behind it, and some interactions brought in through the spool."""
    made = Door(tmp_path_factory.mktemp("talking"))
    ready = made.world.home.run / "ready.json"
    argv = [
        sys.executable,
        "-m",
        "ciranda.interactions.collector",
        "--home",
        str(made.world.home.path),
        "--ready-file",
        str(ready),
    ]
    child = subprocess.Popen(argv, env=dict(os.environ))
    try:
        spoken = [speak(made, number) for number in range(5)]
        deadline = time.monotonic() + 60
        while not (ready.exists() and made.platform.interactions.count() == 6):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield made, spoken
    finally:
        made.platform.interactions.close()
        child.terminate()
        child.wait(20)


def speak(door: Door, number: int) -> str:
    """One answered request, the way the gateway records it; the third was voted down, the fourth is another model's."""
    identifier = str(ids.uuid7())
    question, answer = f"turn on light {number}", '{"intent": "HassTurnOn"}'
    writer = SpoolWriter(door.world.home.spool / f"gateway-{number}")
    meta = {
        "id": identifier, "ts_ms": clock.now_ms() - 60_000 + number, "version": f"{MODEL}@1", "arm": "live",
        "model": "other" if number == 3 else MODEL, "status": 200, "latency_ms": 12.5, "engine": "fake",
    }  # fmt: skip
    request = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
    response = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
    writer.append(INTERACTION, meta, request, response)
    if number == 2:
        writer.append(
            FEEDBACK, {"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "interaction": identifier, "thumb": -1}
        )
        writer.append(
            INTERACTION, {**meta, "id": str(ids.uuid7()), "arm": "shadow", "shadow_of": identifier}, request, response
        )
    writer.seal()
    return identifier


def test_interactions_are_listed_filtered_and_shown_whole(talking: Any) -> None:
    door, spoken = talking
    everything = door.get("/interactions").json()["items"]
    assert {one["id"] for one in everything} >= set(spoken)
    assert "request" not in everything[0]
    deadline = time.monotonic() + 20
    while not (down := door.get("/interactions", params={"thumb": "down"}).json()["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [one["id"] for one in down] == [spoken[2]]
    (shadow,) = door.get("/interactions", params={"arm": "shadow"}).json()["items"]
    assert shadow["shadow_of"] == spoken[2]
    (found,) = door.get("/interactions", params={"search": "light 4", "since": "1h", "status": "ok"}).json()["items"]
    whole = door.get(f"/interactions/{found['id']}").json()
    assert json.loads(whole["request"])["messages"][0]["content"] == "turn on light 4"
    assert whole["output_text"] == '{"intent": "HassTurnOn"}'
    assert door.get("/interactions/nothing").status_code == 404


def test_interactions_page_and_stay_within_the_reach_of_a_key(talking: Any) -> None:
    door, spoken = talking
    first = door.get("/interactions", params={"limit": 4, "model": MODEL}).json()
    second = door.get("/interactions", params={"limit": 4, "model": MODEL, "cursor": first["next"]}).json()
    assert len({one["id"] for one in first["items"] + second["items"]}) == 5
    both = door.key("viewer", models=(MODEL, "other"), name="both")
    merged = door.get("/interactions", key=both, params={"limit": 3}).json()["items"]
    assert merged == sorted(merged, key=lambda one: (one["ts_ms"], one["id"]), reverse=True)
    only = door.key("viewer", models=("other",), name="only")
    assert [one["id"] for one in door.get("/interactions", key=only).json()["items"]] == [spoken[3]]
    assert door.get(f"/interactions/{spoken[0]}", key=only).status_code == 403


def test_interactions_come_in_the_order_of_arrival_and_none_is_missed(talking: Any) -> None:
    door, spoken = talking
    assert door.get("/interactions/arrivals").json()["items"] == []
    cursor, seen = "0", []
    while found := (page := door.get("/interactions/arrivals", params={"cursor": cursor, "limit": 2}).json())["items"]:
        seen += [one["sequence"] for one in found]
        cursor = page["next"]
    assert seen == sorted(seen)
    assert len(set(seen)) == 6
    assert page["next"] == cursor
    only = door.key("viewer", models=("other",), name="arrivals")
    (one,) = door.get("/interactions/arrivals", key=only, params={"cursor": "0"}).json()["items"]
    assert one["id"] == spoken[3]
    assert door.get("/interactions/arrivals", params={"cursor": "then"}).status_code == 400


def test_interactions_leave_as_a_file_and_the_audit_log_says_who_took_them(talking: Any) -> None:
    door, spoken = talking
    answer = door.get("/interactions/export", params={"search": "light", "status": "ok"})
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [one["id"] for one in found if one["arm"] == "live"] == spoken
    assert json.loads(found[0]["request"])["messages"][0]["content"] == "turn on light 0"
    table = pyarrow.parquet.read_table(
        io.BytesIO(door.get("/interactions/export", params={"model": MODEL, "format": "parquet"}).content)
    )
    assert set(table["id"].to_pylist()) == {one["id"] for one in found if one["model"] == MODEL}
    assert [row["thumb"] for row in table.to_pylist() if row["id"] == spoken[2]] == [-1]
    events = door.get("/audit", params={"action": "interactions.exported"}).json()["items"]
    assert [event["subject"] for event in events] == [MODEL, "*"]
    other = door.key("engineer", models=("other",), name="taker")
    lines = door.get("/interactions/export", key=other).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [spoken[3]]
    assert door.get("/interactions/export", role="viewer").status_code == 403


def test_interactions_become_a_dataset_version_with_their_lineage(talking: Any) -> None:
    door, spoken = talking
    asked = {"dataset": "asked", "model": MODEL, "arm": "live", "search": "turn on"}
    made = door.post("/interactions/gather", asked)
    assert made.status_code == 201, made.text
    assert made.json()["interactions"] == 4
    assert datasets.get(door.world.db, "asked@1").transformation["filters"]["model"] == MODEL
    origins = {row.origin for row in datasets.read(door.world.home, "asked@1")}
    assert origins == {spoken[number] for number in (0, 1, 2, 4)}
    assert door.post("/interactions/gather", asked).json()["dataset"] == "asked@1"
    assert door.post("/interactions/gather", {"dataset": "asked"}).status_code == 400
    assert door.post("/interactions/gather", {"dataset": "../x", "model": MODEL}).status_code == 400
    assert door.post("/interactions/gather", {**asked, "search": "nobody said this"}).status_code == 422
    other = door.key("engineer", models=("other",), name="gatherer")
    assert door.post("/interactions/gather", asked, key=other).status_code == 403


def test_status_counts_the_last_hour_without_shadows(talking: Any) -> None:
    door, _ = talking
    told = door.get("/status").json()
    traffic = {one["model"]: one["traffic"] for one in told["models"]}[MODEL]
    assert told["interactions"] == "ok"
    assert traffic["requests"] == sum(traffic["series"]) == 4
    assert audit.verify(door.world.db).ok


def test_contaminated_versions_are_listed_page_by_page_and_stand_with_what_learned_from_them(door: Door) -> None:
    rows = [Row.of(f"turn on lamp {n}", "{}") for n in range(3)]
    datasets.commit(door.world.db, door.world.home, MODEL, rows, transformation={"kind": "test"}, actor="test")
    learned = door.world.register(1)
    with door.world.db.writing() as conn:
        for suite in ("a.yaml", "b.yaml"):
            found = Overlap(learned.dataset, suite, "sha256:x", 3, 2, {"exact": 2}, [])
            contamination.keep(conn, found, actor="test")
    first = door.get("/contaminations", params={"limit": 1}).json()
    rest = door.get("/contaminations", params={"limit": 1, "cursor": first["next"]}).json()
    assert [(one["suite"], one["trained"]) for one in (*first["items"], *rest["items"])] == [
        ("a.yaml", [learned.ref]),
        ("b.yaml", [learned.ref]),
    ]
    assert rest["next"] is None
    for address in (f"/versions/{learned.ref}", f"/datasets/{learned.dataset}"):
        assert [one["found"] for one in door.get(address).json()["contamination"]] == [2, 2]
