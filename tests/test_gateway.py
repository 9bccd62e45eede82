"""The gateway through its front door: the official client, its errors, routing, streams, bounds, and what is recorded."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gatewayrig import Process, Rig, arm, metric, model, wait_for

ASK = [{"role": "user", "content": "turn on the light"}]
ANSWER = '{"intent":"echo","text":"turn on the light"}'


class Door:
    """One gateway with two engine replicas of version 1 and one of version 2, shared by the tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.clients: dict[str, openai.OpenAI] = {}
        self.rig = Rig(folder)
        self.rig.add_key("sk-narrow", models=("other",))
        self.rig.add_key("sk-viewer", role="viewer")
        (folder / "run/engine.key").write_text("engine-secret\n")
        secret = ("--key-file", str(folder / "run/engine.key"))
        self.one = self.rig.engine("smart-home@1", *secret)
        self.two = self.rig.engine("smart-home@2", *secret)
        self.worker = self.rig.gateway()
        self.calm()
        self.url = self.worker.url
        wait_for(lambda: httpx.get(f"{self.url}/readyz").status_code == 200)

    def models(self, **more: Any) -> dict[str, Any]:
        live = arm("live", "smart-home@1", self.one.url)
        return {"smart-home": model(live, engine_key_file="run/engine.key", **more), "other": model(live)}

    def calm(self) -> None:
        """Only version 1, all traffic."""
        self.set(self.models())

    def set(self, models: dict[str, Any]) -> None:
        self.rig.route(models)
        if (self.rig.home / "run/ciranda.gateway-2.json").exists():
            wait_for(lambda: metric(self.worker.url, "ciranda_gateway_snapshot_generation") == self.rig.generation)

    def client(self, key: str = "sk-app") -> openai.OpenAI:
        if key not in self.clients:
            self.clients[key] = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)
        return self.clients[key]

    def ask(self, text: str, **options: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        options.setdefault("model", "smart-home")
        return self.client().chat.completions.create(messages=messages, **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("door"))
    yield door
    door.rig.stop()


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    yield shared
    shared.calm()


# --- answers


def test_the_official_client_asks_and_every_field_of_the_record_is_there(door: Door) -> None:
    raw = door.client().chat.completions.with_raw_response.create(
        model="smart-home",
        messages=ASK,
        user="ana",
        extra_headers={"x-ciranda-conversation": "c1", "x-request-id": "r-1"},
    )
    assert raw.parse().choices[0].message.content == ANSWER
    assert raw.headers["x-request-id"] == "r-1"
    assert raw.headers["x-ciranda-version"] == "smart-home@1"
    record = door.rig.record(raw.headers["x-ciranda-interaction"])
    times = {name: record.pop(name) for name in ("latency_ms", "first_byte_ms", "overhead_ms", "ts_ms")}
    assert times["latency_ms"] >= times["first_byte_ms"] > 0
    assert times["latency_ms"] > times["overhead_ms"] > 0
    assert abs(times["ts_ms"] - time.time() * 1000) < 10_000
    assert record.pop("replica").startswith("rep_smart-home@1")
    assert record == {
        "id": raw.headers["x-ciranda-interaction"], "tenant": "default", "key": "key_sk-app", "user": "ana",
        "conversation": "c1", "model": "smart-home", "version": "smart-home@1", "digest": "sha256:smart-home@1",
        "arm": "live", "shadow_of": "", "rollout": "roll_1", "deployment": "dep_smart-home@1", "engine": "fake",
        "endpoint": "/v1/chat/completions", "stream": 0, "status": 200, "error": "", "finish_reason": "stop",
        "prompt_tokens": 7, "completion_tokens": 4, "request_id": "r-1", "retry_count": 0, "language": "", "guard": "",
    }  # fmt: skip


def test_request_and_answer_are_recorded_byte_by_byte(door: Door) -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"oi \xc3\xa1"}],  "model" : "smart-home", "unknown":{"kept":[1.50]} }'
    )
    headers = {"authorization": "Bearer sk-app"}
    answer = httpx.post(f"{door.url}/v1/chat/completions", content=body, headers=headers)
    frame = next(one for one in door.rig.frames() if one.fields()["id"] == answer.headers["x-ciranda-interaction"])
    assert frame.request == body
    assert frame.response == answer.content


def test_the_async_client_streams(door: Door) -> None:
    async def read() -> str:
        client = openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="sk-app")
        stream = await client.chat.completions.create(model="smart-home", messages=ASK, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(read()) == ANSWER


def test_a_stream_is_metered_without_the_client_seeing_how(door: Door) -> None:
    stream = door.ask("turn on the light", stream=True)
    ident = stream.response.headers["x-ciranda-interaction"]
    chunks = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    record = door.rig.record(ident)
    assert (record["prompt_tokens"], record["completion_tokens"], record["finish_reason"]) == (7, 4, "stop")
    assert record["stream"] == 1
    assert [one["status"] for one in door.rig.records("started") if one["id"] == ident] == [0]


def test_a_client_that_asks_for_usage_gets_its_chunk(door: Door) -> None:
    *_, last = door.ask("turn on the light", stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 11


def test_text_completions_and_embeddings_pass_the_same_way(door: Door) -> None:
    client = door.client()
    assert "hello" in client.completions.create(model="smart-home", prompt="hello").choices[0].text
    vectors = client.embeddings.create(model="smart-home", input=["a", "bc"], encoding_format="float")
    assert [one.embedding[0] for one in vectors.data] == [1.0, 2.0]


def test_a_connection_that_speaks_http_1_0_gets_a_stream_it_can_read(door: Door) -> None:
    body = json.dumps({"model": "smart-home", "messages": ASK, "stream": True}).encode()
    answer = talk(door.url, b"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer sk-app\r\n"
                  b"content-length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
    head, _, events = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events.endswith(b"data: [DONE]\n\n")


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    def request(text: str, last: bool = False) -> bytes:
        body = json.dumps({"model": "smart-home", "messages": [{"role": "user", "content": text}]}).encode()
        close = b"connection: close\r\n" if last else b""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-app\r\n"
        return head + close + b"content-length: %d\r\n\r\n" % len(body) + body

    answer = talk(door.url, request("first") + request("second") + request("third", last=True))
    places = [answer.index(word) for word in (b"first", b"second", b"third")]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_an_offer_to_upgrade_is_served_as_plain_http(door: Door) -> None:
    headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    assert httpx.get(f"{door.url}/healthz", headers=headers).status_code == 200
    headers["authorization"] = "Bearer sk-app"
    answer = httpx.post(
        f"{door.url}/v1/chat/completions", json={"model": "smart-home", "messages": ASK}, headers=headers
    )
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER


def test_models_are_listed_for_the_key_that_asks(door: Door) -> None:
    assert [one.id for one in door.client().models.list()] == ["other", "smart-home"]
    assert [one.id for one in door.client("sk-narrow").models.list()] == ["other"]
    assert door.client().models.retrieve("smart-home@1").id == "smart-home@1"
    with pytest.raises(openai.NotFoundError):
        door.client().models.retrieve("nothing")


# --- errors, as the official client raises them


@pytest.mark.parametrize(
    ("key", "name", "error", "code"),
    [
        ("sk-wrong", "smart-home", openai.AuthenticationError, "invalid_api_key"),
        ("sk-narrow", "smart-home", openai.PermissionDeniedError, "insufficient_permissions"),
        ("sk-viewer", "smart-home", openai.PermissionDeniedError, "insufficient_permissions"),
        ("sk-app", "unknown", openai.NotFoundError, "model_not_found"),
        ("sk-app", "smart-home@9", openai.NotFoundError, "model_not_found"),
    ],
)
def test_refusals_have_their_type_and_code(
    door: Door, key: str, name: str, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as raised:
        door.client(key).chat.completions.create(model=name, messages=ASK)
    assert raised.value.code == code
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id


def test_a_request_without_a_key_or_with_a_broken_body_is_told_so(door: Door) -> None:
    url, key = f"{door.url}/v1/chat/completions", {"authorization": "Bearer sk-app"}
    assert "did not provide an API key" in httpx.post(url, json={}).json()["error"]["message"]
    assert "must provide a model" in httpx.post(url, json={"messages": []}, headers=key).json()["error"]["message"]
    broken = httpx.post(url, content=b'{"model": ', headers=key)
    assert (broken.status_code, broken.headers["x-should-retry"]) == (400, "false")
    deep = b'{"model":"smart-home","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert httpx.post(url, content=deep, headers=key).status_code == 400
    assert httpx.get(url, headers=key).status_code == 405
    assert httpx.get(f"{door.url}/v1/nothing").json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("fake:429", openai.RateLimitError),
        ("fake:500", openai.InternalServerError),
        ("fake:503", openai.InternalServerError),
    ],
)
def test_an_engines_error_arrives_as_itself_and_is_recorded(
    door: Door, word: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as raised:
        door.ask(word)
    headers = raised.value.response.headers
    assert headers.get("retry-after") == ("7" if word == "fake:429" else None)
    record = door.rig.record(headers["x-ciranda-interaction"])
    assert (record["status"], record["retry_count"]) == (raised.value.status_code, 0)


def test_an_engine_that_refuses_the_gateways_own_key_does_not_blame_the_client(door: Door) -> None:
    with pytest.raises(openai.InternalServerError, match="refused the gateway"):
        door.ask("hello", model="other")


@pytest.mark.parametrize("word", ["fake:drop", "fake:garbage", "fake:cut"])
def test_a_broken_engine_means_502_while_nothing_was_shown(door: Door, word: str) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        door.ask(word)
    assert raised.value.status_code == 502
    assert door.rig.record(raised.value.response.headers["x-ciranda-interaction"])["error"] == "UpstreamFailed"


def test_a_cut_stream_is_never_taken_for_complete(door: Door) -> None:
    stream = door.ask("one two three four five fake:cut", stream=True)
    seen: list[str] = []
    with pytest.raises(openai.APIError, match="broke off"):
        seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    record = door.rig.record(stream.response.headers["x-ciranda-interaction"])
    assert (record["status"], record["error"]) == (502, "UpstreamFailed")
    body = {"model": "smart-home", "messages": [{"role": "user", "content": "a b c d e fake:cut"}], "stream": True}
    with pytest.raises(httpx.RemoteProtocolError):  # also who ignores the event sees an unclean end
        httpx.post(f"{door.url}/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-app"})


def test_over_its_queue_bound_a_model_answers_429(door: Door) -> None:
    door.set(door.models(limits={"max_in_flight": 1, "timeout_s": 60}))
    with door.client().chat.completions.with_streaming_response.create(
        model="smart-home", messages=[{"role": "user", "content": "fake:long"}], stream=True
    ):
        with pytest.raises(openai.RateLimitError) as raised:
            door.ask("hello")
        assert raised.value.response.headers["retry-after"] == "1"


def test_a_model_without_a_replica_answers_503(door: Door) -> None:
    door.set({"smart-home": model(arm("live", "smart-home@1"))})
    with pytest.raises(openai.InternalServerError) as raised:
        door.ask("hello")
    assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("gone", ["dead", "none"])
def test_a_request_that_nobody_can_answer_waits_for_the_next_routing(door: Door, gone: str, stream: bool) -> None:
    with socket.socket() as taken:  # bound and not listening: refuses connections, as a dead engine's port does
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        door.set(
            {"smart-home": model(arm("live", "smart-home@1", *([dead] if gone == "dead" else [])), rollout="roll_held")}
        )
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(door.ask, "turn on the light", stream=stream)
            wait_for(lambda: metric(door.url, "ciranda_gateway_in_flight") == 1)
            door.calm()
            answer = asked.result(timeout=4)
            said = (
                [one.choices[0].delta.content or "" for one in answer]
                if stream
                else [answer.choices[0].message.content]
            )
    assert "".join(said) == ANSWER


def test_an_engine_that_never_answers_is_given_up(door: Door) -> None:
    door.set(door.models(limits={"max_in_flight": 64, "timeout_s": 0.4}))
    with pytest.raises(openai.InternalServerError) as raised:
        door.ask("fake:hang")
    assert raised.value.status_code == 504
    assert metric(door.one.url, "fake_running_total") == 0


# --- routing


def canaries(door: Door, weight: float) -> dict[str, Any]:
    live = arm("live", "smart-home@1", door.one.url, weight=100 - weight)
    return {"smart-home": model(live, arm("canary", "smart-home@2", door.two.url, weight=weight),
                                engine_key_file="run/engine.key")}  # fmt: skip


def test_weights_are_kept_and_users_stay_where_they_are_while_the_canary_grows(door: Door) -> None:
    def versions(weight: float) -> dict[str, str]:
        door.set(canaries(door, weight))
        return {f"user{n}": door.ask("hi", user=f"user{n}").model for n in range(60)}

    few, again, many = versions(25), versions(25), versions(75)
    assert few == again
    assert 3 < Counter(few.values())["smart-home@2"] < 30
    assert all(many[user] == "smart-home@2" for user, version in few.items() if version == "smart-home@2")
    assert {door.ask("hi", extra_headers={"x-ciranda-conversation": "c"}).model for _ in range(8)} != 2


def test_a_pinned_version_is_served_whatever_the_weights(door: Door) -> None:
    door.set(canaries(door, 0.0001))
    assert {door.ask("hi", model="smart-home@2", user=f"u{n}").model for n in range(5)} == {"smart-home@2"}


def test_shadow_copies_are_recorded_beside_the_answer_and_never_shown(door: Door) -> None:
    shadow = arm("shadow", "smart-home@2", door.two.url, share=1.0)
    door.set(door.models(shadow=shadow))
    idents = [door.ask(f"copy {n}").model for n in range(3)]
    stream = door.ask("copy of a stream", stream=True)
    live = stream.response.headers["x-ciranda-interaction"]
    list(stream)
    assert set(idents) == {"smart-home@1"}
    copies = wait_for(lambda: [one for one in door.rig.records() if one["shadow_of"] == live], what="the copy")
    assert (copies[0]["arm"], copies[0]["version"], copies[0]["status"]) == ("shadow", "smart-home@2", 200)
    assert copies[0]["completion_tokens"] > 0
    assert sum(one["arm"] == "shadow" for one in door.rig.records()) == 4


def test_a_shadow_that_hangs_costs_its_copies_and_no_answer(door: Door) -> None:
    shadow = arm("shadow", "smart-home@2", "http://127.0.0.1:9", share=1.0)
    door.set(door.models(shadow=shadow))
    times = []
    for _ in range(20):
        begun = time.monotonic()
        door.ask("hello")
        times.append(time.monotonic() - begun)
    assert sorted(times)[10] < 0.2


def test_a_dead_replica_is_left_for_another_one_and_noted(door: Door) -> None:
    door.set({"smart-home": model(arm("live", "smart-home@1", "http://127.0.0.1:9", door.one.url),
                                  engine_key_file="run/engine.key")})  # fmt: skip
    raw = [door.client().chat.completions.with_raw_response.create(model="smart-home", messages=ASK) for _ in range(12)]
    records = [door.rig.record(one.headers["x-ciranda-interaction"]) for one in raw]
    assert {one["status"] for one in records} == {200}
    retried = [one for one in records if one["retry_count"]]
    notes = [one for one in door.rig.records("event") if one["interaction"] in {r["id"] for r in retried}]
    assert len(notes) == len(retried) >= 1
    assert notes[0]["event"] == "try_failed"
    assert len(retried) < 12  # a dead one is left out for a moment, not asked each time


def test_broken_routing_changes_nothing_and_is_counted(door: Door) -> None:
    before = metric(door.url, "ciranda_gateway_snapshot_errors")
    (door.rig.home / "run/routing.json").write_text('{"generation": 99, "keys": {}, "mod')
    wait_for(lambda: metric(door.url, "ciranda_gateway_snapshot_errors") > before)
    assert door.ask("turn on the light").choices[0].message.content == ANSWER
    bad = {"smart-home": model(arm("live", "smart-home@1", "ftp://nowhere"))}
    door.rig.route(bad)
    wait_for(lambda: metric(door.url, "ciranda_gateway_snapshot_errors") > before + 1)
    assert door.ask("turn on the light").choices[0].message.content == ANSWER


def test_a_guard_masks_personal_data_before_engine_and_disk_see_it(door: Door) -> None:
    door.set(door.models(guard={"input": ["pii: mask"], "output": []}))
    answer = door.client().chat.completions.with_raw_response.create(
        model="smart-home", messages=[{"role": "user", "content": "write to ana@example.com"}]
    )
    assert "ana@example.com" not in answer.text
    assert "[email]" in answer.text
    frame = next(one for one in door.rig.frames() if one.fields()["id"] == answer.headers["x-ciranda-interaction"])
    assert b"ana@example.com" not in frame.request + frame.response
    assert json.loads(frame.fields()["guard"]) == {"pii": {"input.email": 1}}


def test_an_output_guard_holds_also_for_streams(door: Door) -> None:
    door.set(door.models(guard={"input": [], "output": ["pii: mask"]}))
    stream = door.ask("write to ana@example.com", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert "[email]" in text
    assert "ana@" not in text
    assert chunks[-1].usage is not None


def test_a_guard_that_nobody_knows_fails_closed(door: Door) -> None:
    door.set(door.models(guard={"input": ["injection"], "output": []}))
    with pytest.raises(openai.InternalServerError, match="unknown to this gateway"):
        door.ask("hello")


# --- feedback


def test_feedback_is_recorded_and_a_repeated_one_has_the_same_id(door: Door) -> None:
    ident = (
        door.client()
        .chat.completions.with_raw_response.create(model="smart-home", messages=ASK)
        .headers["x-ciranda-interaction"]
    )
    headers = {"authorization": "Bearer sk-app", "idempotency-key": "k1"}
    body = {"interaction": ident, "thumb": "down", "correction": '{"intent":"on"}', "reasons": ["wrong"], "user": "ana"}
    first, second = (httpx.post(f"{door.url}/v1/feedback", json=body, headers=headers) for _ in range(2))
    assert first.status_code == 202
    assert first.json() == second.json()
    record = next(one for one in door.rig.records("feedback") if one["interaction"] == ident)
    assert (record["thumb"], record["correction"], record["user"]) == (-1, '{"intent":"on"}', "ana")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"interaction": "nonsense", "thumb": "up"},
        {"interaction": "01a20752-dbf6-7e3f-8096-2d6697bc8551"},
        {"interaction": "01a20752-dbf6-7e3f-8096-2d6697bc8551", "thumb": "sideways"},
        {"interaction": "01a20752-dbf6-7e3f-8096-2d6697bc8551", "rating": 9},
    ],
)
def test_feedback_that_says_nothing_usable_is_refused(door: Door, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{door.url}/v1/feedback", json=body, headers={"authorization": "Bearer sk-app"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


# --- bounds and clients that misbehave


def talk(url: str, sent: bytes, seconds: float = 5.0) -> bytes:
    """Send raw bytes and read until the gateway closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        line.sendall(sent)
        pieces = []
        while piece := line.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_declared_body_over_the_bound_is_refused_before_it_is_sent(door: Door) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 33554433\r\n\r\n"
    answer = talk(door.url, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in answer
    assert b"x-request-id: " in answer


def test_a_client_in_the_middle_of_a_huge_upload_still_reads_413(door: Door) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 20)

    answer = httpx.post(f"{door.url}/v1/chat/completions", content=pieces(), headers={"authorization": "Bearer sk-app"})
    assert answer.status_code == 413


def test_headers_over_the_bound_are_refused(door: Door) -> None:
    lines = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 1000) for n in range(80))
    assert talk(door.url, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n").startswith(b"HTTP/1.1 431 ")


def test_what_is_no_http_is_refused_and_the_line_closed(door: Door) -> None:
    answer = talk(door.url, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer


def test_a_tunnel_is_not_opened(door: Door) -> None:
    assert talk(door.url, b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_continue_is_said_to_a_client_that_waits_for_it(door: Door) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.sendall(b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"{}")
        assert line.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("text", "stream"), [("fake:hang", False), ("fake:hang", True), ("fake:long", True)])
def test_a_client_that_leaves_cancels_its_engine_at_once(door: Door, text: str, stream: bool) -> None:
    before = metric(door.one.url, "fake_cancelled_total")
    body = json.dumps(
        {"model": "smart-home", "messages": [{"role": "user", "content": text}], "stream": stream}
    ).encode()
    host, port = door.url.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)))
    line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-app\r\n"
                 b"content-length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
    wait_for(lambda: metric(door.one.url, "fake_running_total") == 1)
    line.close()
    left = time.monotonic()
    wait_for(lambda: metric(door.one.url, "fake_cancelled_total") == before + 1, what="the cancellation")
    assert time.monotonic() - left < 0.2
    assert wait_for(lambda: door.rig.records()[-1]["status"] == 499)


def test_a_client_that_reads_late_loses_nothing(door: Door) -> None:
    text = " ".join(f"w{n}" for n in range(6_000))
    sent = json.dumps({"model": "smart-home", "messages": [{"role": "user", "content": text}], "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-app\r\nconnection: close\r\n"
    host, port = door.url.removeprefix("http://").split(":")
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        line.connect((host, int(port)))
        line.sendall(head + b"content-length: %d\r\n\r\n%b" % (len(sent), sent))
        wait_for(lambda: metric(door.url, "ciranda_gateway_in_flight") == 1)
        pieces = []
        while piece := line.recv(1 << 20):
            pieces.append(piece)
    answer = b"".join(pieces)
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert all(f' w{n}"'.encode() in answer for n in range(1, 5_999, 499))


# --- what an operator looks at


def test_metrics_count_by_model_version_arm_and_status(door: Door) -> None:
    labels = '{model="smart-home",version="smart-home@1",arm="live",status="200"}'
    name = f"ciranda_gateway_requests_total{labels}"
    before = metric(door.url, name)
    door.ask("hello")
    assert metric(door.url, name) == before + 1
    assert metric(door.url, "ciranda_gateway_spool_bytes") > 0
    assert metric(door.url, "ciranda_gateway_overhead_seconds_count") > 0
    assert httpx.get(f"{door.url}/metrics", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401


def test_without_routing_the_worker_is_alive_but_not_ready(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        worker = rig.gateway()
        assert httpx.get(f"{worker.url}/healthz").status_code == 200
        assert httpx.get(f"{worker.url}/readyz").status_code == 503
        rig.route({})
        wait_for(lambda: httpx.get(f"{worker.url}/readyz").status_code == 200)
    finally:
        rig.stop()


def test_a_port_in_use_is_said_with_its_remedy(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker = rig.gateway(0, "--port", str(taken.getsockname()[1]))
        assert worker.ended() == 5
    assert "cannot listen" in (tmp_path / "ciranda.gateway-0.log").read_text()


def test_sigterm_finishes_what_runs_and_then_leaves(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        engine = rig.engine()
        rig.route({"smart-home": model(arm("live", "smart-home@1", engine.url))})
        worker = rig.gateway()
        url = worker.url
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-app", max_retries=0)
        stream = client.chat.completions.create(
            model="smart-home", messages=[{"role": "user", "content": "fake:long"}], stream=True
        )
        next(iter(stream))
        worker.kill(signal.SIGTERM)
        wait_for(lambda: refuses(url))
        assert len([chunk for chunk in stream if chunk.choices]) > 150
        assert worker.ended() == 0
        (sealed,) = (tmp_path / "spool").glob("*/*")
        assert sealed.suffix == ".ready"
        assert rig.records()[-1]["status"] == 200
    finally:
        rig.stop()


def test_what_outlasts_the_drain_is_told_and_cut(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        engine = rig.engine()
        rig.route({"smart-home": model(arm("live", "smart-home@1", engine.url))})
        worker = rig.gateway(0, "--drain", "0.2")
        client = openai.OpenAI(base_url=f"{worker.url}/v1", api_key="sk-app", max_retries=0)
        stream = client.chat.completions.create(
            model="smart-home", messages=[{"role": "user", "content": "fake:long"}], stream=True
        )
        next(iter(stream))
        worker.kill(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="stopping"):
            list(stream)
        assert worker.ended() == 0
        assert rig.records()[-1]["status"] == 503
    finally:
        rig.stop()


def refuses(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 503
    except httpx.TransportError:
        return True


def test_a_replica_that_dies_under_load_fails_no_request(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        engines = [rig.engine("smart-home@1", "--delay-ms", "5") for _ in range(2)]
        rig.route({"smart-home": model(arm("live", "smart-home@1", *(one.url for one in engines)))})
        worker = rig.gateway()
        statuses = load(worker, requests=300, threads=6, at=lambda: engines[0].kill(), after=100)
        assert Counter(statuses) == {200: 300}
        assert sum(one["status"] == 200 for one in rig.records()) == 300
    finally:
        rig.stop()


def load(worker: Process, *, requests: int, threads: int, at: Any, after: int) -> list[int]:
    """Ask from several threads; call `at` once when `after` answers are in."""
    statuses: list[int] = []
    lock = threading.Lock()

    def ask() -> None:
        with httpx.Client(headers={"authorization": "Bearer sk-app"}) as client:
            while True:
                with lock:
                    if len(statuses) + running[0] >= requests:
                        return
                    running[0] += 1
                answer = client.post(f"{url}/v1/chat/completions", json={"model": "smart-home", "messages": ASK})
                with lock:
                    running[0] -= 1
                    statuses.append(answer.status_code)
                    fire = len(statuses) == after
                if fire:
                    at()

    running, url = [0], worker.url
    crew = [threading.Thread(target=ask) for _ in range(threads)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    return statuses
