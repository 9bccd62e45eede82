"""Exact answers kept: what is a hit, what never is, and what is recorded of one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.gateway import cache
from gatewayrig import Rig, arm, metric, model, wait_for

CHAT = "/v1/chat/completions"


class Door:
    """One worker before an engine; the model keeps answers for an hour."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.rig.add_key("sk-other")
        *_, other = self.rig.keys.values()
        other["tenant"] = "other"
        self.engine = self.rig.engine("smart-home@1")
        self.set()
        self.worker = self.rig.gateway()
        self.url = self.worker.url
        wait_for(lambda: httpx.get(f"{self.url}/readyz").status_code == 200)

    def set(
        self,
        version: str = "smart-home@1",
        age_s: float = 3600.0,
        size: int = 1 << 20,
        *,
        ready: bool = True,
        **more: Any,
    ) -> None:
        urls = (self.engine.url,) if ready else ()
        kept = {"age_s": age_s, "bytes": size}
        self.rig.route({"smart-home": model(arm("live", version, *urls), cache=kept, **more)})
        if len(self.rig.processes) > 1:
            wait_for(lambda: metric(self.url, "ciranda_gateway_snapshot_generation") == self.rig.generation)

    def ask(self, text: str, *, secret: str = "sk-app", **more: Any) -> httpx.Response:
        body = {"model": "smart-home", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
        return httpx.post(self.url + CHAT, json=body, headers={"authorization": f"Bearer {secret}"}, timeout=10)

    def asked(self) -> float:
        return metric(self.engine.url, "fake_requests_total")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("cache"))
    yield door
    door.rig.stop()


def state(answer: httpx.Response) -> str:
    return answer.headers.get("x-ciranda-cache", "none")


def test_the_same_question_is_answered_from_memory_and_recorded_so(door: Door) -> None:
    first, second = door.ask("turn on"), door.ask("turn on", user="ana")
    assert (state(first), state(second)) == ("miss", "hit")
    assert first.content == second.content
    record = door.rig.record(second.headers["x-ciranda-interaction"])
    assert (record["cached"], record["status"], record["version"]) == (1, 200, "smart-home@1")
    assert (record["rollout"], record["replica"], "cost" in record) == ("", "", False)
    assert record["completion_tokens"] > 0
    assert record["user"] == "ana"
    frame = next(one for one in door.rig.frames() if one.fields()["id"] == record["id"])
    assert frame.response == second.content
    assert b"turn on" in frame.request


def test_a_stream_is_replayed_as_a_stream(door: Door) -> None:
    client = openai.OpenAI(base_url=f"{door.url}/v1", api_key="sk-app")

    def said() -> tuple[str, list[Any]]:
        stream: Any = client.chat.completions.create(
            model="smart-home", messages=[{"role": "user", "content": "stream this"}], stream=True, temperature=0
        )
        return stream.response.headers["x-ciranda-cache"], list(stream)

    (first, chunks), (second, again) = said(), said()
    assert (first, second) == ("miss", "hit")
    assert chunks == again
    assert all(chunk.usage is None for chunk in again)
    assert state(door.ask("stream this")) == "miss"  # the whole answer is another one


@pytest.mark.parametrize("more", [{"temperature": 0.5}, {"temperature": None}, {"n": 2}])
def test_what_may_differ_each_time_is_never_kept(door: Door, more: dict[str, Any]) -> None:
    for _ in range(2):
        assert state(door.ask("may differ", **more)) == "none"


def test_errors_are_not_kept(door: Door) -> None:
    assert [door.ask("fake:500").status_code for _ in range(2)] == [500, 500]
    assert state(door.ask("fake:500")) == "miss"


def test_tenants_and_versions_do_not_share(door: Door) -> None:
    assert [state(door.ask("mine")) for _ in range(2)] == ["miss", "hit"]
    assert state(door.ask("mine", secret="sk-other")) == "miss"
    door.set("smart-home@2")
    assert state(door.ask("mine")) == "miss"
    door.set()


def test_age_and_bytes_are_bounded(door: Door) -> None:
    door.set(age_s=0.0)
    assert [state(door.ask("old")) for _ in range(2)] == ["miss", "miss"]
    door.set(size=20_000)
    for number in range(40):
        door.ask(f"question {number}")
    assert metric(door.url, "ciranda_gateway_cache_bytes") <= 20_000
    assert state(door.ask("question 39")) == "hit"
    assert state(door.ask("question 0")) == "miss"
    door.set()


JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(
    fields=st.dictionaries(st.text(min_size=1, max_size=5), JSON, max_size=6), order=st.randoms(use_true_random=False)
)
def test_the_order_of_fields_changes_nothing_and_values_do(fields: dict[str, Any], order: Any) -> None:
    fields = {**fields, "temperature": 0, "n": 1, "best_of": 1}
    names = list(fields)
    order.shuffle(names)
    mixed = msgspec.json.encode({name: fields[name] for name in names} | {"user": "ana"})
    key = cache.key_of(msgspec.json.encode(fields), CHAT, "default", "sha256:a")
    assert key == cache.key_of(mixed, CHAT, "default", "sha256:a")
    assert key != cache.key_of(msgspec.json.encode({**fields, "messages": "new"}), CHAT, "default", "sha256:a")
    assert key != cache.key_of(mixed, CHAT, "other", "sha256:a")
    assert key != cache.key_of(mixed, CHAT, "default", "sha256:b")


def test_a_new_rule_of_the_guard_begins_with_nothing(door: Door) -> None:
    text = "write to ana@example.com please"
    assert state(door.ask(text)) == "miss"
    assert state(door.ask(text)) == "hit"
    door.set(guard={"input": [], "output": ["pii: mask"]})
    masked = door.ask(text)
    door.set()
    assert state(masked) == "miss"
    assert "ana@example.com" not in masked.text


def test_an_answer_is_never_kept_under_the_version_that_could_not_answer(door: Door) -> None:
    text = "who answers when nobody is there?"
    door.set("smart-home@7", ready=False)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(door.ask, text)
        wait_for(lambda: metric(door.url, "ciranda_gateway_in_flight") == 1)
        door.set("smart-home@8")
        assert asked.result().headers["x-ciranda-version"] == "smart-home@8"
    door.set("smart-home@7")
    again = door.ask(text)
    door.set()
    assert (state(again), again.headers["x-ciranda-version"]) == ("miss", "smart-home@7")
