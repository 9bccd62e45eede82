"""No path leads around a gate: every route, every form and every verb, with versions that may not go out.

Routes and forms are taken from their tables, so one that is added later is walked too. Whatever each of them answers, afterwards
the same version is live, gateways are sent to it alone, and no version has become approved or live.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import ciranda
from ciranda import loop
from ciranda.config import Settings
from ciranda.deploy import rollout, routing
from ciranda.errors import Forbidden, Refused
from ciranda.govern import access, audit
from ciranda.loop import gatekeeping
from ciranda.monitor import alerts
from ciranda.registry import admission, aliases, history, verdicts, versions
from ciranda.registry.gates import Verdict
from ciranda.web import api, mlflow, openai, pages
from ciranda.web.app import create
from registry_world import MODEL, PASSED, World
from test_api import Door, prepared

ROOT = Path(ciranda.__file__).parent
FILE = "model: smart-home\nbase: tiny\nserve: {engine: fake}\n"
ASKED = {"release": {"approve": {"people": 2}}}
NEVER, FAILED, UNAPPROVED, REFUTED, DECLINED = (f"{MODEL}@{number}" for number in range(1, 6))
KEPT_IN = (NEVER, FAILED, UNAPPROVED, REFUTED, DECLINED)
EMERGENCY = "/models/{model}/override"  # the one that says what it does, and is tested by itself
JOB = "/models/{model}/evaluate"  # begins a job, whose end is a verdict


def furnish(world: World) -> None:
    """Number 0 is live; of the others none may go out, each for another reason."""
    world.apply(base="tiny", serve={"engine": "fake"}, **ASKED)
    with world.db.writing() as conn:
        rollout.promote(conn, f"{MODEL}@0", actor="loop")
    for seed in range(1, 6):
        world.register(seed)
    with world.db.writing() as conn:
        verdicts.record(conn, FAILED, Verdict("cannot tell", ()), champion="", actor="loop")
        for ref in (UNAPPROVED, REFUTED, DECLINED):
            verdicts.record(conn, ref, PASSED, champion="", actor="loop")
        verdicts.refute(conn, REFUTED, champion="", note="errors", actor="rollout")
        rollout.decline(conn, DECLINED, actor="eva", note="no")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("gate"))
    prepared(door, "tiny")
    furnish(door.world)
    yield door
    door.world.db.close()


def nothing_went_out(world: World) -> None:
    with world.db.reading() as conn:
        live = versions.live(conn, MODEL)
        assert live is not None
        assert live.ref == f"{MODEL}@0"
        moved = {(one.number, one.stage) for one in history.of(conn, MODEL) if one.stage in ("approved", "live")}
        assert moved == {(0, "approved"), (0, "live")}
    routing.refresh(world.db, world.home)
    route = routing.current(world.home.routing)["models"][MODEL]
    assert {arm["version"] for arm in route["arms"]} <= {f"{MODEL}@0"}
    assert route["shadow"] is None


def filled(shape: type[Any], ref: str) -> dict[str, Any]:
    """A body that names the version wherever it can."""
    known = {
        "version": ref, "to": ref, "note": "please", "reason": "please", "name": "champion", "cause": "person",
        "event": ref, "files": {"m.yaml": FILE + "release: {approve: auto}\n"}, "of": ref, "ref": ref,
    }  # fmt: skip
    return {name: known[name] for name in shape.model_fields if name in known}


POSTS = [
    rest
    for rest in api.ROUTES
    if rest.method == "POST" and "{model}" in rest.path and rest.path not in (EMERGENCY, JOB)
]
DOORS = [
    (dialect.prefix, rest)
    for dialect, table in ((openai.DIALECT, openai.ROUTES), (mlflow.DIALECT, mlflow.ROUTES))
    for rest in table
    if rest.method != "GET"
]


@pytest.mark.parametrize("ref", KEPT_IN)
@pytest.mark.parametrize("rest", POSTS, ids=lambda rest: rest.path)
@pytest.mark.parametrize("role", ["engineer", "approver"])
def test_no_route_puts_such_a_version_out(door: Door, rest: api.Rest, ref: str, role: str) -> None:
    path = rest.path.replace("{model}", MODEL).replace("{number:int}", ref.rpartition("@")[2])
    body = filled(rest.asks, ref)
    answer = door.post(path, body, role=role)
    assert answer.status_code < 500, answer.text
    nothing_went_out(door.world)


@pytest.mark.parametrize("ref", KEPT_IN)
@pytest.mark.parametrize("role", ["engineer", "admin"])
def test_no_other_door_puts_such_a_version_out(door: Door, ref: str, role: str) -> None:
    """OpenAI's and MLflow's tables, each route with all that could name the version and say that it is live."""
    app = create(door.platform)
    client = TestClient(app, base_url="http://testserver", follow_redirects=False, raise_server_exceptions=False)
    number = ref.rpartition("@")[2]
    said = {
        "model": ref, "name": MODEL, "version": number, "stage": "Production", "alias": "live", "key": "ciranda.stage",
        "value": "live", "training_file": "file-none", "source": f"ciranda:/{ref}", "run_id": "0" * 32, "new_name": "mine",
        "filename": "x.jsonl", "purpose": "fine-tune", "bytes": 1, "mime_type": "text/plain", "part_ids": ["part_none"],
        "experiment_id": "0", "status": "LOGGED_MODEL_READY", "models": [{"model_id": "m-none"}], "tags": [], "params": [],
    }  # fmt: skip
    walked = 0
    for prefix, rest in DOORS:
        path = prefix + re.sub(r"\{[^}]+\}", ref if "job" not in rest.path else "ftjob-none", rest.path)
        for stage in ("Production", "Staging") if "transition" in path else ("",):
            body = {**said, "stage": stage} if stage else said
            known = {name: body[name] for name in rest.asks.model_fields if name in body}
            carrying = {"authorization": f"Bearer {door.keys[role]}"}
            answer = client.request(rest.method, path, json=known, headers=carrying)
            assert answer.status_code < 500 or answer.status_code == 501, f"{path}: {answer.text}"
            walked += 1
    nothing_went_out(door.world)
    assert walked >= 40


def test_fewer_approvals_are_an_admins_to_apply(door: Door) -> None:
    for wanted in ("auto", "human", "{people: 1}", "{people: 2, not_author: false}"):
        answer = door.post("/apply", {"files": {"m.yaml": f"{FILE}release: {{approve: {wanted}}}\n"}}, role="engineer")
        assert answer.status_code == 403, answer.text
        assert "settings" in answer.json()["error"]["message"]
    more = door.post("/apply", {"files": {"m.yaml": f"{FILE}release: {{approve: {{people: 3}}}}\n"}}, role="engineer")
    assert more.status_code == 200
    back = door.post("/apply", {"files": {"m.yaml": f"{FILE}release: {{approve: {{people: 2}}}}\n"}}, role="admin")
    assert back.status_code == 200
    nothing_went_out(door.world)


def test_no_form_puts_such_a_version_out(door: Door) -> None:
    app = create(loop.Platform(door.world.home, Settings(), door.world.db))
    client = TestClient(app, base_url="http://testserver", follow_redirects=False, raise_server_exceptions=False)
    token = client.get("/sign-in").text.partition('name="token" value="')[2].partition('"')[0]
    assert client.post("/sign-in", data={"key": door.keys["approver"], "token": token}).status_code == 303
    walked = 0
    for entry in pages.ENTRIES:
        if not entry.write or entry.open or not ("{model}" in entry.path or "{version}" in entry.path):
            continue
        for ref in KEPT_IN:
            path = entry.path.replace("{model}", MODEL).replace("{version}", ref)
            said = client.get("/").text.partition('name="token" value="')[2].partition('"')[0]
            form = {"token": said, "to": ref, "version": ref, "note": "please", "reason": "please", "name": "champion"}
            assert client.post(path, data=form).status_code < 500
            walked += 1
            nothing_went_out(door.world)
    assert walked >= 15


@pytest.mark.parametrize("ref", KEPT_IN)
def test_no_verb_puts_such_a_version_out(door: Door, ref: str) -> None:
    platform = door.platform
    with door.world.db.writing() as conn:
        aliases.put(conn, ref, "champion", actor="ana")
    for verb in (loop.promote, loop.release, lambda p, r, a: loop.rollback(p, MODEL, a, to=r)):
        for name in (ref, f"{MODEL}@champion"):
            if verb is loop.release and ref == UNAPPROVED and not _declined(door):
                begun = verb(platform, name, "root")  # may begin, and waits for people before any traffic
                assert begun["state"] == "awaiting_approval"
                nothing_went_out(door.world)
                loop.rollback(platform, MODEL, "root")
                continue
            with pytest.raises(Refused):
                verb(platform, name, "root")
            nothing_went_out(door.world)


def _declined(door: Door) -> bool:
    with door.world.db.reading() as conn:
        return bool(admission.standing(conn, UNAPPROVED).quorum.against)


def test_the_emergency_is_an_admins_and_everybody_hears_of_it(tmp_path: Path) -> None:
    door = Door(tmp_path)
    prepared(door, "tiny")
    furnish(door.world)
    body = {"version": FAILED, "note": "the live one leaks"}
    for role in access.ROLES:
        if role != "admin":
            assert door.post(f"/models/{MODEL}/override", body, role=role).status_code == 403
    assert door.post(f"/models/{MODEL}/override", {**body, "note": " "}).status_code == 400
    with door.world.db.writing() as conn, pytest.raises(Forbidden):
        verdicts.override(conn, FAILED, actor="ana", role="approver", note="please")
    told = door.post(f"/models/{MODEL}/override", body).json()
    assert (told["stage"], told["overrode"]) == ("approved", "its gates said: cannot tell. no gates")
    with door.world.db.reading() as conn:
        (alert,) = [one for one in alerts.page(conn, model=MODEL, state="open", limit=10) if one.kind == "override"]
    assert (alert.severity, "the live one leaks" in alert.title) == ("critical", True)
    (event,) = audit.page(door.world.db, action="verdict.override")
    assert (event.actor, event.subject) == ("admin", FAILED)
    assert door.post(f"/models/{MODEL}/promote", {"version": FAILED}).json()["after"] == FAILED
    assert door.post(f"/models/{MODEL}/rollback").json()["after"] == f"{MODEL}@0"  # the way back is open at once
    door.world.db.close()


def test_the_forms_of_an_admin_do_what_they_say_and_no_more(tmp_path: Path) -> None:
    door = Door(tmp_path)
    prepared(door, "tiny")
    furnish(door.world)
    app = create(loop.Platform(door.world.home, Settings(), door.world.db))
    client = TestClient(app, base_url="http://testserver", follow_redirects=False, raise_server_exceptions=False)
    token = client.get("/sign-in").text.partition('name="token" value="')[2].partition('"')[0]
    client.post("/sign-in", data={"key": door.keys["admin"], "token": token})

    def send(ref: str, verb: str, **fields: str) -> int:
        said = client.get("/").text.partition('name="token" value="')[2].partition('"')[0]
        return client.post(f"/versions/{ref}/{verb}", data={"token": said, **fields}).status_code

    assert (send(FAILED, "override"), send(NEVER, "remove")) == (400, 400)
    nothing_went_out(door.world)
    assert send(FAILED, "name", name="champion") == 303
    assert send(NEVER, "unname", name="champion") == 404
    assert send(FAILED, "name", name="live") == 400
    nothing_went_out(door.world)
    assert send(f"{MODEL}@0", "remove", reason="it is old") in (400, 409)
    assert send(NEVER, "remove", reason="nobody needs it") == 303
    assert send(FAILED, "override", reason="the live one leaks") == 303
    assert (door.world.version(FAILED).stage, bool(door.world.version(NEVER).removed_at)) == ("approved", True)
    with door.world.db.reading() as conn:
        assert aliases.resolve(conn, f"{MODEL}@champion") == FAILED
        assert versions.live(conn, MODEL) == versions.get(conn, f"{MODEL}@0")
        assert [one.kind for one in alerts.page(conn, model=MODEL, state="open", limit=10) if one.kind == "override"]
    assert send(FAILED, "unname", name="champion") == 303
    door.world.db.close()


def test_the_inbox_says_what_waits_and_whose_word_does_not_count(tmp_path: Path) -> None:
    door = Door(tmp_path)
    prepared(door, "tiny")
    furnish(door.world)
    (one,) = door.get("/approvals").json()["items"]
    assert (one["version"], one["kind"], one["needed"], one["authors"]) == (UNAPPROVED, "approval", 2, ["test"])
    assert door.get("/approvals", key=door.key("admin", models=("other",), name="other")).json()["items"] == []
    door.world.db.close()


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_stages_are_written_in_one_place_and_overridden_in_one() -> None:
    """Who moves a version asks its gates; nobody else writes its row, its history or an override."""
    allowed = {
        "versions.update": {"registry/versions.py"},
        "history.note": {"registry/versions.py"},
        "verdicts.override": {"loop/gatekeeping.py"},
        "verdicts.admit_base": {"registry/versions.py"},
        "versions.move": {"deploy/rollout.py", "loop/exam.py"},
        "_go_live": {"deploy/rollout.py"},
    }
    found: dict[str, set[str]] = {name: set() for name in allowed}
    words = [name.rpartition(".")[2] + "(" for name in allowed]
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for call in calls(path) if any(word in text for word in words) and "ciranda.registry" in text else ():
            for name in allowed:
                if call == name or call.endswith(f".{name}"):
                    found[name].add(path.relative_to(ROOT).as_posix())
    assert found == allowed
    assert gatekeeping.override.__module__ == "ciranda.loop.gatekeeping"
