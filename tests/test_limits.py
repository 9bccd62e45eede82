"""Limits and budgets through the front door: what a client is told, what is counted, by one worker and by several."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gatewayrig import Process, Rig, arm, metric, model, wait_for

BODY = {"model": "smart-home", "messages": [{"role": "user", "content": "turn on the light"}], "max_tokens": 16}
USED = 11  # tokens that the fake engine counts for this question and its answer


class Door:
    """A home with one engine and as many workers as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.engine = self.rig.engine("smart-home@1")
        self.workers: list[Process] = []

    def work(self, count: int = 1) -> None:
        while len(self.workers) < count:
            self.workers.append(self.rig.gateway(len(self.workers)))
        for worker in self.workers:
            wait_for(lambda url=worker.url: httpx.get(f"{url}/readyz").status_code == 200)

    def set(self, *, tenants: dict[str, Any] | None = None, key: dict[str, Any] | None = None, **more: Any) -> None:
        for entry in self.rig.keys.values():
            entry["bounds"] = key
        self.rig.tenants = tenants or {}
        self.rig.route({"smart-home": model(arm("live", "smart-home@1", self.engine.url), **more)})
        for worker in self.workers:
            wait_for(lambda url=worker.url: metric(url, "ciranda_gateway_snapshot_generation") == self.rig.generation)

    def ask(self, worker: int = 0, secret: str = "sk-app", **more: Any) -> httpx.Response:
        url = self.workers[worker].url
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.post(f"{url}/v1/chat/completions", json={**BODY, **more}, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("limits"))
    door.set()
    door.work()
    yield door
    door.rig.stop()


@pytest.fixture
def door(shared: Door) -> Door:
    """A key of its own for each test: what the others used does not count."""
    secret = f"sk-{shared.rig.generation}"
    shared.rig.keys.clear()
    shared.rig.add_key(secret)
    shared.secret = secret
    return shared


def ask(door: Door, **more: Any) -> httpx.Response:
    return door.ask(secret=door.secret, **more)


def test_without_limits_there_is_no_ledger_and_no_header(door: Door) -> None:
    door.set()
    answer = ask(door)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert not (door.rig.home / "run/limits").exists()


def test_requests_per_minute_as_openai_tells_it(door: Door) -> None:
    door.set(key={"requests_per_minute": 2})
    first, second, third = (ask(door) for _ in range(3))
    assert [one.status_code for one in (first, second, third)] == [200, 200, 429]
    left = [one.headers["x-ratelimit-remaining-requests"] for one in (first, second, third)]
    assert left == ["1", "0", "0"]
    assert {one.headers["x-ratelimit-limit-requests"] for one in (first, second, third)} == {"2"}
    assert 55_000 < int(third.headers["retry-after-ms"]) <= 61_000
    assert 55 < int(third.headers["retry-after"]) <= 61
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "requests per minute" in error["message"]
    assert "limit 2, used 2, requested 1" in error["message"]
    assert "x-should-retry" not in third.headers


def test_what_no_model_answers_counts_and_is_noted_too(door: Door) -> None:
    door.set(key={"requests_per_minute": 3})
    url, headers = door.workers[0].url, {"authorization": f"Bearer {door.secret}", "x-ciranda-user": "ana"}

    def judge() -> httpx.Response:
        return httpx.post(f"{url}/v1/moderations", json={"input": ["a lamp", "ana@example.com"]}, headers=headers)

    asked = {"model": "smart-home", "messages": [{"role": "user", "content": "turn on the light"}]}
    counted = httpx.post(f"{url}/v1/messages/count_tokens", json=asked, headers=headers)
    judged, answered, over = judge(), ask(door), judge()
    assert [one.status_code for one in (counted, judged, answered, over)] == [200, 200, 200, 429]
    left = [one.headers["x-ratelimit-remaining-requests"] for one in (counted, judged, answered, over)]
    assert left == ["2", "1", "0", "0"]
    assert 55 < int(over.headers["retry-after"]) <= 61
    notes = [one for one in door.rig.records("event") if one["key"] == f"key_{door.secret}"]
    told = [(one["event"], one["model"], one["status"], one["found"], one["error"]) for one in notes]
    assert told == [
        ("tokens_counted", "smart-home", 200, counted.json()["input_tokens"], ""),
        ("texts_judged", "ciranda-guard", 200, 1, ""),
        ("texts_judged", "ciranda-guard", 429, 0, "Throttled"),
    ]
    assert {(one["user"], one["tenant"]) for one in notes} == {("ana", "default")}
    assert "ana@example.com" not in str(notes)
    assert metric(url, "ciranda_gateway_texts_judged_total") == 1


def test_the_official_client_raises_its_own_type(door: Door) -> None:
    door.set(key={"requests_per_minute": 0})
    client = openai.OpenAI(base_url=f"{door.workers[0].url}/v1", api_key=door.secret, max_retries=5)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**BODY)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"  # a closed door does not open by waiting


def test_tokens_are_promised_then_settled_with_what_was_really_used(door: Door) -> None:
    door.set(key={"tokens_per_minute": 200})
    first = ask(door)
    guessed = 200 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert guessed > USED
    second = ask(door)
    assert int(second.headers["x-ratelimit-remaining-tokens"]) == 200 - USED - guessed
    refused = ask(door, max_tokens=500)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "tokens"
    assert refused.headers["x-should-retry"] == "false"  # it is larger than the whole limit


def test_a_stream_is_settled_too(door: Door) -> None:
    door.set(key={"tokens_per_minute": 200})
    assert b"[DONE]" in ask(door, stream=True).content
    left = int(ask(door).headers["x-ratelimit-remaining-tokens"])
    assert left == 200 - USED - (200 - left - USED)
    record = door.rig.records()[-1]
    assert record["prompt_tokens"] + record["completion_tokens"] == USED


def test_money_by_the_price_of_the_model(door: Door) -> None:
    """Seven tokens of prompt at 1 per million, four of answer at 10: 47 millionths a request."""
    door.set(key={"cost_per_day": 0.0003}, price={"prompt": 1.0, "completion": 10.0})
    answers = [ask(door) for _ in range(6)]
    statuses = [one.status_code for one in answers]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    error = answers[-1].json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "cost per day" in error["message"]
    assert answers[-1].headers["x-should-retry"] == "false"
    record = door.rig.record(answers[0].headers["x-ciranda-interaction"])
    assert record["cost"] == pytest.approx(47e-6)


def test_a_tenant_and_a_model_bind_all_keys_together(door: Door) -> None:
    door.rig.add_key("sk-other")
    door.set(tenants={"default": {"requests_per_minute": 1}})
    assert ask(door).status_code == 200
    refused = door.ask(secret="sk-other")
    assert refused.status_code == 429
    assert "tenant 'default'" in refused.json()["error"]["message"]
    door.set(bounds={"tokens_per_day": 0})
    assert "model 'smart-home'" in ask(door).json()["error"]["message"]


def test_what_runs_at_the_same_time_is_bounded(door: Door) -> None:
    door.set(key={"concurrent": 1})
    slow = {"messages": [{"role": "user", "content": "fake:long"}], "stream": True}
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(door, **slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(one.status_code for one in answers) == {200: 1, 429: 3}
    assert ask(door).status_code == 200


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/messages", {"messages": BODY["messages"], "max_tokens": 16}),
        ("/v1/responses", {"input": "hello", "max_output_tokens": 16}),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 16}),
        ("/v1/embeddings", {"input": "hello"}),
    ],
)
def test_every_door_is_under_the_same_limits(door: Door, path: str, more: dict[str, Any]) -> None:
    door.set(key={"requests_per_minute": 1, "tokens_per_day": 100_000})
    url, headers = f"{door.workers[0].url}{path}", {"authorization": f"Bearer {door.secret}"}
    first, second = (httpx.post(url, json={"model": "smart-home", **more}, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["retry-after"]) > 50
    error = second.json()["error"]
    assert error["type"] == ("rate_limit_error" if path == "/v1/messages" else "requests")
    record = door.rig.record(first.headers["x-ciranda-interaction"])
    counted = record["prompt_tokens"] + record["completion_tokens"]
    assert usage(door)[f"key:key_{door.secret}/tokens_per_day"] == counted > 0


def test_a_ledger_that_cannot_be_had_refuses_those_with_limits_alone(tmp_path: Path) -> None:
    door = Door(tmp_path)
    (tmp_path / "run/limits").write_text("no folder")
    door.rig.add_key("sk-free")
    door.set(key={"requests_per_minute": 5})
    *_, free = door.rig.keys.values()
    free["bounds"] = None
    door.rig.route({"smart-home": model(arm("live", "smart-home@1", door.engine.url))})
    door.work()
    try:
        refused = door.ask()
        assert refused.status_code == 503
        assert "limits cannot be checked" in refused.json()["error"]["message"]
        assert door.ask(secret="sk-free").status_code == 200
    finally:
        door.rig.stop()


def test_a_client_that_leaves_early_pays_what_was_promised(door: Door) -> None:
    door.set(key={"tokens_per_day": 100_000})
    url = f"{door.workers[0].url}/v1/chat/completions"
    body = {**BODY, "stream": True, "messages": [{"role": "user", "content": "fake:long"}]}
    with httpx.stream("POST", url, json=body, headers={"authorization": f"Bearer {door.secret}"}) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: door.rig.records()[-1]["status"] == 499)
    used = usage(door)[f"key:key_{door.secret}/tokens_per_day"]
    assert used > 20


def usage(door: Door) -> dict[str, int]:
    from ciranda.gateway import quotas
    from ciranda.gateway.ledger import Ledger
    from ciranda.gateway.snapshot import Bounds

    bounds = json.loads((door.rig.home / "run/routing.json").read_text())["keys"]
    ledger = Ledger(door.rig.home / "run/limits", joins=False)
    found = {
        use.bucket.name: use.used
        for key in bounds.values()
        for use in ledger.look(quotas.of_bounds(f"key:{key['id']}", Bounds(**(key["bounds"] or {}))))
    }
    ledger.close()
    return found


def test_three_workers_keep_one_limit_and_a_killed_one_gives_back(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.set(key={"requests_per_minute": 30, "concurrent": 4, "tokens_per_day": 100_000})
    door.work(3)
    try:
        answers: list[httpx.Response] = []

        def hammer(worker: int) -> None:
            for _ in range(8):
                answers.append(door.ask(worker))

        threads = [threading.Thread(target=hammer, args=(place % 3,)) for place in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        good = [one for one in answers if one.status_code == 200]
        assert len(good) <= 30
        assert {one.status_code for one in answers} <= {200, 429}
        assert usage(door)["key:key_sk-app/tokens_per_day"] == USED * len(good)

        door.set(key={"concurrent": 1})
        slow = {"messages": [{"role": "user", "content": "fake:hang"}]}

        def hang() -> None:
            with pytest.raises(httpx.HTTPError):
                door.ask(1, **slow)

        thread = threading.Thread(target=hang)
        thread.start()
        wait_for(lambda: usage(door)["key:key_sk-app/concurrent"] == 1)
        assert door.ask(0).status_code == 429
        door.workers[1].kill(signal.SIGKILL)
        thread.join()
        assert wait_for(lambda: door.ask(2).status_code == 200)
    finally:
        door.rig.stop()


def test_limits_are_set_over_rest_and_shown_with_their_use(tmp_path: Path) -> None:
    """Through control's API on a real database: made with a key, changed, refused when wrong, each in the audit log."""
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from ciranda import config, loop
    from ciranda.govern import audit
    from ciranda.web import api

    platform = loop.open(config.home(tmp_path / "home"))
    secret = loop.first_key(platform)
    client = TestClient(Starlette(routes=api.routes(platform)), headers={"authorization": f"Bearer {secret}"})
    made = client.post(
        "/api/v1/keys", json={"name": "app", "role": "client", "tenant": "acme", "limits": {"requests_per_minute": 60}}
    ).json()
    assert made["limits"] == {"requests_per_minute": 60}
    changed = client.post(f"/api/v1/keys/{made['id']}/limits", json={"limits": {"cost_per_month": 12.5}})
    assert changed.json()["limits"] == {"cost_per_month": 12.5}
    assert client.post("/api/v1/tenants/acme/limits", json={"limits": {"concurrent": 4}}).status_code == 200
    wrong = client.post(f"/api/v1/keys/{made['id']}/limits", json={"limits": {"requests_per_hour": 1}})
    assert (wrong.status_code, "requests_per_minute" in wrong.text) == (400, True)

    (key, _) = client.get("/api/v1/keys").json()["items"]
    assert key["use"] == {"cost_per_month": {"limit": 12.5, "used": 0.0, "resets_s": 0.0}}
    tenants = {one["name"]: one for one in client.get("/api/v1/tenants").json()["items"]}
    assert {*tenants} == {"acme", "default"}
    assert tenants["acme"]["use"]["concurrent"]["limit"] == 4
    routing = json.loads(platform.home.routing.read_text())
    assert routing["tenants"] == {"acme": {"concurrent": 4}}
    assert [one.get("bounds") for one in routing["keys"].values() if one["name"] == "app"] == [{"cost_per_month": 12.5}]
    actions = [one.action for one in audit.page(platform.db, before=None, limit=10, subject="", action="", actor="")]
    assert actions[:3] == ["tenant.limited", "key.limited", "key.created"]
    platform.close()
