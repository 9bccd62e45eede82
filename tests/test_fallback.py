"""Who answers when a model's own versions cannot: fallback chains, times of tries, circuits; routing that changes under load."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ciranda.gateway.upstream import Replica
from gatewayrig import Process, Rig, arm, metric, model, wait_for

KEY_VARIABLE = "CIRANDA_TEST_PROVIDER_KEY"


class Door:
    """One worker; two engines of ours, and a provider elsewhere that wants a key."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        (folder / "provider.key").write_text("provider-secret\n")
        self.one = self.rig.engine("smart-home@1")
        self.other = self.rig.engine("other@3")
        self.remote = self.rig.engine("gpt-remote", "--key-file", str(folder / "provider.key"))
        os.environ[KEY_VARIABLE] = "provider-secret"
        self.worker = self.rig.gateway()
        self.rig.route({"smart-home": model(arm("live", "smart-home@1", self.one.url))})
        self.url = self.worker.url
        wait_for(lambda: httpx.get(f"{self.url}/readyz").status_code == 200)

    def provider(self, key: str = f"env:{KEY_VARIABLE}", **more: Any) -> dict[str, Any]:
        replica = {"id": "remote:1", "url": f"{self.remote.url}/v1", "wire_model": "gpt-remote"}
        return {
            "arm": "fallback", "version": "gpt-remote at provider", "engine": "openai", "key": key, "replicas": [replica],
            **more,
        }  # fmt: skip

    def set(self, *urls: str, fallbacks: tuple[Any, ...] = (), **more: Any) -> None:
        self.rig.route(
            {
                "smart-home": model(arm("live", "smart-home@1", *urls), fallbacks=list(fallbacks), **more),
                "other": model(arm("live", "other@3", self.other.url)),
            }
        )
        wait_for(lambda: metric(self.url, "ciranda_gateway_snapshot_generation") == self.rig.generation)

    def ask(self, text: str = "hello", **more: Any) -> httpx.Response:
        body = {"model": "smart-home", "messages": [{"role": "user", "content": text}], **more}
        headers = {"authorization": "Bearer sk-app"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=20)

    def record(self, answer: httpx.Response) -> dict[str, Any]:
        return self.rig.record(answer.headers["x-ciranda-interaction"])


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("fallback"))
    yield door
    del os.environ[KEY_VARIABLE]
    door.rig.stop()


@pytest.fixture
def dead() -> Iterator[str]:
    """An address that refuses connections for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(64)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("stream", [False, True])
def test_another_model_stands_in_and_is_recorded_as_what_it_is(door: Door, dead: str, stream: bool) -> None:
    door.set(dead, fallbacks=("other",))
    answer = door.ask(stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-ciranda-version"] == "other@3"
    record = door.record(answer)
    assert (record["model"], record["version"], record["arm"], record["rollout"]) == (
        "smart-home",
        "other@3",
        "fallback",
        "",
    )
    if not stream:  # the first one found out; the circuit spares those after it the try
        assert record["retry_count"] == 1
        notes = [one for one in door.rig.records("event") if one["interaction"] == record["id"]]
        assert [(one["version"], one["arm"]) for one in notes] == [("smart-home@1", "live")]


def test_a_provider_elsewhere_gets_its_own_name_and_key(door: Door) -> None:
    door.set(fallbacks=(door.provider(price={"prompt": 1.0, "completion": 2.0}),))
    answer = door.ask("who are you")
    assert answer.status_code == 200
    record = door.record(answer)
    assert (record["version"], record["engine"]) == ("gpt-remote at provider", "openai")
    assert record["cost"] == pytest.approx((record["prompt_tokens"] + 2 * record["completion_tokens"]) / 1e6)
    assert "provider-secret" not in (door.rig.home / "run/routing.json").read_text()


def test_the_key_may_be_in_a_file_and_a_missing_one_leaves_the_provider_out(door: Door, dead: str) -> None:
    door.set(fallbacks=(door.provider(key=f"file:{door.rig.home}/provider.key"),))
    assert door.ask().status_code == 200
    door.set(dead, fallbacks=(door.provider(key="env:CIRANDA_NO_SUCH_KEY"), "other"))
    assert door.ask().headers["x-ciranda-version"] == "other@3"


def test_a_chain_goes_on_when_its_first_link_refuses_us(door: Door, dead: str) -> None:
    (door.rig.home / "wrong.key").write_text("wrong")
    door.set(dead, fallbacks=(door.provider(key=f"file:{door.rig.home}/wrong.key"), "other"), limits={"tries": 4})
    assert door.ask().headers["x-ciranda-version"] == "other@3"


@pytest.mark.parametrize("fault", ["fake:500", "fake:503", "fake:429", "fake:drop"])
def test_an_engine_that_fails_is_stood_in_for(door: Door, fault: str) -> None:
    """Both engines fail on this word: what counts is that the second one was asked, and who it was."""
    door.set(door.one.url, fallbacks=("other",))
    record = door.record(door.ask(fault))
    assert record["version"] == "other@3"
    assert record["retry_count"] >= 1  # one more when the connection was an old one
    door.set(door.one.url)
    assert door.ask().status_code == 200  # with nobody else an open circuit is tried, and closes


def test_nothing_is_tried_twice_after_the_first_byte(door: Door) -> None:
    door.set(door.one.url, fallbacks=("other",))
    with pytest.raises(httpx.RemoteProtocolError):
        door.ask("fake:cut", stream=True)
    last = door.rig.records()[-1]
    assert (last["version"], last["retry_count"]) == ("smart-home@1", 0)


def test_a_pinned_version_has_no_stand_in(door: Door, dead: str) -> None:
    door.set(dead, fallbacks=("other",), limits={"tries": 1})
    assert door.ask(model="smart-home@1").status_code == 502


def test_a_silent_try_ends_in_time_and_the_next_one_answers(door: Door, silent: str) -> None:
    door.set(silent, fallbacks=("other",), limits={"try_timeout_s": 0.3, "timeout_s": 10})
    answer = door.ask()
    record = door.record(answer)
    assert (answer.status_code, record["version"], record["retry_count"]) == (200, "other@3", 1)
    assert 300 <= record["latency_ms"] < 3000
    door.set(silent, limits={"try_timeout_s": 0.3, "timeout_s": 10})
    assert door.ask().status_code == 504


def test_an_open_circuit_is_not_asked_and_a_probe_closes_it(door: Door) -> None:
    engine = door.rig.engine("smart-home@1", "--port", "0")
    url = engine.url
    door.set(url, fallbacks=("other",))
    assert door.ask().headers["x-ciranda-version"] == "smart-home@1"
    engine.kill()
    engine.ended()
    before = metric(door.url, "ciranda_gateway_retries_total")
    answers = [door.ask() for _ in range(20)]
    assert {one.headers["x-ciranda-version"] for one in answers} == {"other@3"}
    assert metric(door.url, "ciranda_gateway_retries_total") - before < 20
    assert circuit(door, url) in ("open", "half_open")
    again = door.rig.engine("smart-home@1", "--port", url.rpartition(":")[2])
    assert again.url == url
    wait_for(lambda: door.ask().headers["x-ciranda-version"] == "smart-home@1", what="the probe")
    assert circuit(door, url) == "closed"


def circuit(door: Door, url: str) -> str:
    states = {"closed": 0, "half_open": 1, "open": 2}
    port = url.rpartition(":")[2]
    for line in httpx.get(f"{door.url}/metrics").text.splitlines():
        if line.startswith("ciranda_gateway_circuit{") and port in line:
            return next(name for name, value in states.items() if value == float(line.rpartition(" ")[2]))
    raise AssertionError("no such replica")


def test_one_request_at_a_time_probes_a_half_open_circuit() -> None:
    replica = Replica("rep_1", "http://127.0.0.1:1", "m")
    for _ in range(3):
        replica.failed(decisive=False)
    later = replica.ejected_until + 0.001
    assert (replica.circuit(0.0), replica.ready(0.0)) == ("open", False)
    assert (replica.circuit(later), replica.ready(later)) == ("half_open", True)
    replica.failed(decisive=False)
    assert replica.ejected_until > later  # a failed probe opens it at once, for longer
    replica.succeeded()
    assert (replica.circuit(later), replica.ready(later)) == ("closed", True)


def test_routing_changes_under_load_and_no_request_is_dropped(door: Door) -> None:
    two = door.rig.engine("smart-home@2")
    over, statuses, versions = threading.Event(), Counter[int](), Counter[str]()
    lock = threading.Lock()

    def load() -> None:
        with httpx.Client(base_url=door.url, headers={"authorization": "Bearer sk-app"}, timeout=20) as client:
            while not over.is_set():
                body = {"model": "smart-home", "messages": [{"role": "user", "content": "hello"}]}
                answer = client.post("/v1/chat/completions", json=body)
                with lock:
                    statuses[answer.status_code] += 1
                    versions[answer.headers["x-ciranda-version"]] += 1

    def shown(process: Process, version: str) -> dict[str, Any]:
        return arm("live", version, process.url)

    door.set(door.one.url)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        process, version = ((door.one, "smart-home@1"), (two, "smart-home@2"))[number % 2]
        seen = versions[version]
        door.rig.route({"smart-home": model(shown(process, version))})
        wait_for(lambda version=version, seen=seen: versions[version] > seen)
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert json.loads((door.rig.home / "run/routing.json").read_text())["generation"] == door.rig.generation


SPEC = """
model: toy
serve:
  engine: fake
  tries: 4
  try_timeout: 10s
  price: {prompt: 1, completion: 2}
  limits: {tokens_per_minute: 1000}
  cache: {age: 10m, megabytes: 2}
  fallback:
    - {version: previous}
    - {model: other}
    - {url: "https://api.example.com/v1", name: big, key_env: PROVIDER_KEY, price: {prompt: 3, completion: 4}}
"""


def test_what_a_models_file_says_reaches_the_gateway(tmp_path: Path) -> None:
    from ciranda import config, loop

    platform = loop.open(config.home(tmp_path / "home"))
    loop.apply(platform, loop.plan(platform, {"toy.yaml": SPEC}), "me")
    loop.publish(platform)
    toy = json.loads(platform.home.routing.read_text())["models"]["toy"]
    assert toy["limits"] == {"max_in_flight": 64, "timeout_s": 120.0, "try_timeout_s": 10.0, "tries": 4}
    assert (toy["bounds"], toy["price"]) == ({"tokens_per_minute": 1000}, {"prompt": 1.0, "completion": 2.0})
    assert toy["cache"] == {"age_s": 600.0, "bytes": 2 << 20}
    other, remote = toy["fallbacks"]  # there is no version before the first one yet
    assert other == "other"
    assert (remote["version"], remote["engine"], remote["key"]) == (
        "big at api.example.com",
        "openai",
        "env:PROVIDER_KEY",
    )
    assert remote["replicas"] == [
        {"id": "remote:https://api.example.com/v1", "url": "https://api.example.com/v1", "wire_model": "big"}
    ]
    platform.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{model: other, url: 'https://x.example'}", "exactly one of"),
        ("{model: other, key_env: KEY}", "belong to a fallback with"),
        ("{url: 'https://x.example', key_env: KEY, key_file: /k}", "not in both"),
    ],
)
def test_a_fallback_that_cannot_be_meant_is_refused(wrong: str, told: str) -> None:
    from ciranda.config import model as files
    from ciranda.errors import Invalid

    with pytest.raises(Invalid, match=told):
        files.read(f"model: toy\nserve:\n  fallback: [{wrong}]\n", file="toy.yaml")
