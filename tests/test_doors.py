"""The doors beside chat, each through the client that people use for it: Responses, Messages, and what all of them share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from gatewayrig import Rig, arm, model, wait_for, whole

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
LAMP = {"name": "lamp", "description": "Switches a lamp", "input_schema": SCHEMA}
CALL: Any = {"type": "function", "name": "lamp", "description": "Switches a lamp", "parameters": SCHEMA}


class Door:
    """A gateway with one engine, shared by the tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.rig.add_key("sk-viewer", role="viewer")
        self.engine = self.rig.engine("smart-home@1")
        self.worker = self.rig.gateway()
        live = arm("live", "smart-home@1", self.engine.url)
        dead = arm("live", "gone@1")
        guarded = model(live, guard={"input": ["pii: mask"], "output": ["pii: mask"]})
        plain = model(arm("live", "plain@1", f"{self.engine.url}/elsewhere"))  # an engine that cannot count
        self.rig.route({"smart-home": model(live), "gone": model(dead), "guarded": guarded, "plain": plain})
        self.url = self.worker.url
        wait_for(lambda: httpx.get(f"{self.url}/readyz").status_code == 200)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key="sk-app", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=self.url, api_key="sk-app", max_retries=0)

    def respond(self, said: Any, **more: Any) -> Any:
        more.setdefault("model", "smart-home")
        return self.openai.responses.create(input=said, **more)

    def message(self, text: Any, **more: Any) -> Any:
        more.setdefault("model", "smart-home")
        said = text if isinstance(text, list) else [{"role": "user", "content": text}]
        return self.anthropic.messages.create(messages=said, max_tokens=100, **more)

    def frame(self, ident: str) -> Any:
        return next(one for one in self.rig.frames() if one.kind == 1 and one.fields()["id"] == ident)

    def last(self) -> dict[str, Any]:
        return self.rig.records()[-1]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    found = Door(tmp_path_factory.mktemp("doors"))
    yield found
    found.rig.stop()


def seen(answer: str) -> dict[str, Any]:
    """What the engine got: `fake:echo` answers with it."""
    return dict(json.loads(answer))


def cut_short(door: Door, text: str) -> bytes:
    """The bytes of a streamed response that does not end."""
    pieces: list[bytes] = []
    sent = {"model": "smart-home", "input": text, "stream": True}
    headers = {"authorization": "Bearer sk-app"}
    with httpx.stream("POST", f"{door.url}/v1/responses", headers=headers, json=sent) as answer:  # noqa: SIM117  (raised while reading)
        with pytest.raises(httpx.RemoteProtocolError):
            pieces.extend(answer.iter_bytes())
    return b"".join(pieces)


# --- Responses


def test_a_response_is_answered_and_recorded_in_chat_form(door: Door) -> None:
    raw = door.openai.responses.with_raw_response.create(model="smart-home", input="turn on the light", user="ana")
    response = raw.parse()
    assert json.loads(response.output_text)["text"] == "turn on the light"
    assert (response.status, response.object, response.store) == ("completed", "response", False)
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 4, 11)
    assert raw.headers["x-ciranda-version"] == "smart-home@1"
    frame = door.frame(raw.headers["x-ciranda-interaction"])
    assert json.loads(frame.request)["messages"] == [{"role": "user", "content": "turn on the light"}]
    assert json.loads(frame.response)["object"] == "chat.completion"
    meta = whole(frame)
    assert (meta["endpoint"], meta["user"], meta["status"], meta.get("counted", "")) == (
        "/v1/responses",
        "ana",
        200,
        "",
    )
    assert (meta["prompt_tokens"], meta["completion_tokens"], meta["finish_reason"]) == (7, 4, "stop")


def test_every_part_of_a_response_request_reaches_the_engine(door: Door) -> None:
    items: Any = [
        {"role": "developer", "content": "be short"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "http://i/1"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]},
        {"type": "function_call", "call_id": "c1", "name": "lamp", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "lamp", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "on"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "off"}]},
        {"role": "user", "content": "fake:echo"},
    ]
    response = door.respond(
        items, instructions="be kind", max_output_tokens=50, temperature=0.5, reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "out", "schema": SCHEMA, "strict": True}},
        extra_body={"top_k": 7},
    )  # fmt: skip
    got = seen(response.output_text)
    assert [one["role"] for one in got["messages"]] == ["system", "system", "user", "assistant", "tool", "tool", "user"]
    assert got["messages"][2]["content"][1] == {"type": "image_url", "image_url": {"url": "http://i/1"}}
    assert [one["id"] for one in got["messages"][3]["tool_calls"]] == ["c1", "c2"]
    assert got["messages"][5] == {"role": "tool", "tool_call_id": "c2", "content": "off"}
    assert (got["max_tokens"], got["temperature"], got["reasoning_effort"], got["top_k"]) == (50, 0.5, "low", 7)
    assert got["response_format"]["json_schema"] == {"name": "out", "schema": SCHEMA, "strict": True}
    assert response.instructions == "be kind"
    assert response.text.format.name == "out"


def test_a_response_streams_its_typed_events_in_order(door: Door) -> None:
    events = list(door.respond("turn on the light", stream=True))
    kinds = [one.type for one in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * deltas, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [one.sequence_number for one in events] == list(range(len(events)))
    text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert json.loads(text)["text"] == "turn on the light"
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.total_tokens == 11
    assert door.last()["stream"] == 1
    assert b"chat.completion.chunk" in door.frame(door.last()["id"]).response


def test_the_helper_of_the_client_accumulates_a_streamed_response(door: Door) -> None:
    with door.openai.responses.stream(model="smart-home", input="fake:think hello") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [one.type for one in final.output] == ["reasoning", "message"]
    assert final.output[0].content[0].text == "let me see"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered_by_responses(door: Door, stream: bool) -> None:
    first = door.respond("fake:tools2 please", tools=[CALL], stream=stream)
    response = list(first)[-1].response if stream else first
    calls = [one for one in response.output if one.type == "function_call"]
    assert [(one.name, json.loads(one.arguments)) for one in calls] == [("lamp", {"text": "fake:tools2 please"})] * 2
    results = [{"type": "function_call_output", "call_id": one.call_id, "output": "done"} for one in calls]
    asked = [{"role": "user", "content": "please"}, *[one.to_dict() for one in response.output], *results]
    assert door.respond(asked, tools=[CALL]).output_text == "it said done"
    assert door.last()["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": 5}, "input"),
    ],
)
def test_what_responses_cannot_do_is_refused_by_name(door: Door, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        door.openai.responses.create(model="smart-home", **{"input": "x", **more})
    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")


# --- Messages


def test_a_message_is_answered_and_recorded_in_chat_form(door: Door) -> None:
    raw = door.anthropic.messages.with_raw_response.create(
        model="smart-home", max_tokens=9, messages=[{"role": "user", "content": "hello"}], metadata={"user_id": "ana"}
    )
    message = raw.parse()
    assert json.loads(message.content[0].text)["text"] == "hello"
    assert (message.role, message.type, message.stop_reason, message.stop_sequence) == (
        "assistant",
        "message",
        "end_turn",
        None,
    )
    assert (message.usage.input_tokens, message.usage.output_tokens) == (4, 1)
    assert message._request_id == raw.headers["x-request-id"]
    frame = door.frame(raw.headers["x-ciranda-interaction"])
    sent, meta = json.loads(frame.request), whole(frame)
    assert sent["messages"] == [{"role": "user", "content": "hello"}]
    assert sent["max_tokens"] == 9
    assert (meta["endpoint"], meta["user"], meta["finish_reason"]) == ("/v1/messages", "ana", "stop")


def test_every_part_of_a_message_request_reaches_the_engine(door: Door) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    turns: Any = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, picture]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "well"},
            {"type": "tool_use", "id": "t1", "name": "lamp", "input": {"text": "on"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "done"}]},
            {"type": "text", "text": "fake:echo"},
        ]},
    ]  # fmt: skip
    message = door.message(
        turns, system=[{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["END"], tools=[LAMP], tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}}, extra_body={"seed": 3, "temperature": 0.5, "top_k": 7},
    )  # fmt: skip
    got = seen(message.content[0].text)
    assert [one["role"] for one in got["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert got["messages"][0]["content"] == "be kind"
    assert got["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    assert got["messages"][2]["tool_calls"][0]["function"] == {"name": "lamp", "arguments": '{"text":"on"}'}
    assert got["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "done"}
    assert got["tools"][0]["function"]["parameters"] == SCHEMA
    assert (got["tool_choice"], got["parallel_tool_calls"], got["stop"]) == ("required", False, ["END"])
    assert (got["temperature"], got["top_k"], got["seed"]) == (0.5, 7, 3)
    assert got["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_message_streams_its_events_in_order(door: Door) -> None:
    events = list(door.message("turn on the light", stream=True))
    kinds = [one.type for one in events]
    deltas = kinds.count("content_block_delta")
    assert kinds == [
        "message_start", "content_block_start", *["content_block_delta"] * deltas, "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert events[-2].delta.stop_reason == "end_turn"
    assert (events[-2].usage.input_tokens, events[-2].usage.output_tokens) == (7, 4)
    raw = httpx.post(
        f"{door.url}/v1/messages", headers={"x-api-key": "sk-app"},
        json={"model": "smart-home", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "x"}]},
    )  # fmt: skip
    assert "event: ping" in raw.text
    assert raw.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered_by_messages(door: Door, stream: bool) -> None:
    if stream:
        with door.anthropic.messages.stream(
            model="smart-home", max_tokens=99, tools=[LAMP], messages=[{"role": "user", "content": "fake:tools2 now"}]
        ) as live:
            message = live.get_final_message()
    else:
        message = door.message("fake:tools2 now", tools=[LAMP])
    assert message.stop_reason == "tool_use"
    assert [(one.name, one.input) for one in message.content] == [("lamp", {"text": "fake:tools2 now"})] * 2
    results = [{"type": "tool_result", "tool_use_id": one.id, "content": "done"} for one in message.content]
    turns = [
        {"role": "user", "content": "now"},
        {"role": "assistant", "content": [one.to_dict() for one in message.content]},
        {"role": "user", "content": results},
    ]
    answer = door.message(turns, tools=[LAMP])
    assert answer.content[0].text == "it said done"


def test_thoughts_are_blocks_of_their_own(door: Door) -> None:
    assert [one.type for one in door.message("fake:think x").content] == ["thinking", "text"]
    kinds = [
        one.content_block.type for one in door.message("fake:think x", stream=True) if one.type == "content_block_start"
    ]
    assert kinds == ["thinking", "text"]


# --- errors, as each client raises them


@pytest.mark.parametrize(
    ("key", "name", "status", "kind"),
    [
        ("sk-wrong", "smart-home", 401, "authentication_error"),
        ("sk-viewer", "smart-home", 403, "permission_error"),
        ("sk-app", "unknown", 404, "not_found_error"),
        ("sk-app", "gone", 503, "overloaded_error"),
    ],
)
def test_anthropics_client_raises_its_own_types(door: Door, key: str, name: str, status: int, kind: str) -> None:
    client = anthropic.Anthropic(base_url=door.url, api_key=key, max_retries=0)
    with pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model=name, max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert (raised.value.status_code, raised.value.type) == (status, kind)
    assert raised.value.request_id
    assert raised.value.body["type"] == "error"  # type: ignore[index]


@pytest.mark.parametrize(
    ("word", "status", "kind"),
    [
        ("fake:429", 429, "rate_limit_error"),
        ("fake:500", 500, "api_error"),
        ("fake:503", 503, "overloaded_error"),
        ("fake:drop", 502, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_engines_error_has_the_shape_of_the_door(
    door: Door, word: str, status: int, kind: str, stream: bool
) -> None:
    with pytest.raises(anthropic.APIStatusError) as raised:
        door.message(word, stream=stream)
    assert (raised.value.status_code, raised.value.type) == (status, kind)
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.APIStatusError) as refused:
        door.respond(word, stream=stream)
    assert refused.value.status_code == status


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model":"smart-home"}', b'{"model":"smart-home","max_tokens":5,"messages":[5]}']
)
def test_a_broken_body_is_told_in_the_shape_of_the_door(door: Door, body: bytes) -> None:
    answer = httpx.post(f"{door.url}/v1/messages", content=body, headers={"x-api-key": "sk-app"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["request-id"] == answer.json()["request_id"]
    other = httpx.post(f"{door.url}/v1/responses", content=body, headers={"authorization": "Bearer sk-app"})
    assert (other.status_code, other.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("word", ["fake:cut", "fake:error"])
def test_a_stream_that_breaks_ends_with_the_doors_error_and_never_cleanly(door: Door, word: str) -> None:
    with pytest.raises(anthropic.APIError):
        list(door.message(f"{word} one two three four", stream=True))
    assert door.last()["status"] == 502
    assert door.last()["completion_tokens"] > 0 or word == "fake:error"  # nothing was shown yet: an error, no stream
    events: list[Any] = []
    with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
        events.extend(one for one in door.respond(f"{word} one two three four", stream=True))
    raw = cut_short(door, f"{word.replace('error', 'cut')} one two three")
    assert b"event: error\n" in raw
    assert b"event: response.failed\n" in raw
    assert b"response.completed" not in raw


def test_clients_try_again_by_themselves(door: Door) -> None:
    client = anthropic.Anthropic(base_url=door.url, api_key="sk-app", max_retries=1)
    before = len(door.rig.records())
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(model="smart-home", max_tokens=9, messages=[{"role": "user", "content": "fake:500"}])
    assert len(door.rig.records()) == before + 2


def test_a_client_that_leaves_a_translated_stream_cancels_its_engine(door: Door) -> None:
    stream = door.message("fake:long", stream=True)
    next(iter(stream))
    stream.close()
    wait_for(lambda: door.last()["status"] == 499)
    assert door.last()["counted"] == "estimated"


# --- what an engine did not do


def test_tokens_that_no_engine_counted_are_marked_as_estimated(door: Door) -> None:
    message = door.message("fake:silent hello")
    assert message.usage.model_extra == {"estimated": True} or message.usage.estimated
    assert message.usage.output_tokens > 0
    assert door.last()["counted"] == "estimated"
    assert door.last()["completion_tokens"] == message.usage.output_tokens
    chat = door.openai.chat.completions.create(
        model="smart-home", messages=[{"role": "user", "content": "fake:silent hello"}], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *_, last = chat
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert last.usage.model_extra == {"estimated": True}


@pytest.mark.parametrize("kind", ["chat", "messages", "responses"])
def test_an_engine_that_does_not_stream_is_streamed_all_the_same(door: Door, kind: str) -> None:
    if kind == "chat":
        said: Any = [{"role": "user", "content": "fake:whole"}]
        chunks = door.openai.chat.completions.create(model="smart-home", messages=said, stream=True)
        text = "".join(one.choices[0].delta.content or "" for one in chunks)
    elif kind == "messages":
        events = list(door.message("fake:whole", stream=True))
        text = "".join(one.delta.text for one in events if one.type == "content_block_delta")
    else:
        text = list(door.respond("fake:whole", stream=True))[-1].response.output_text
    assert "fake:whole" in text


@pytest.mark.parametrize("stream", [False, True])
def test_guards_hold_behind_every_door(door: Door, stream: bool) -> None:
    answer = door.message("my mail is ana@example.com", model="guarded", stream=stream)
    text = (
        "".join(one.delta.text for one in answer if one.type == "content_block_delta")
        if stream
        else answer.content[0].text
    )
    assert "[email]" in text
    assert b"ana@example.com" not in door.frame(door.last()["id"]).request
    response = door.respond("my mail is ana@example.com", model="guarded", stream=stream)
    assert "[email]" in (list(response)[-1].response if stream else response).output_text


# --- counting, moderating, listing


def test_tokens_are_counted_by_the_engine_that_would_answer(door: Door) -> None:
    said: Any = [{"role": "user", "content": "turn on the light"}]
    before = len(door.rig.records())
    raw = door.anthropic.messages.with_raw_response.count_tokens(model="smart-home", messages=said)
    assert raw.parse().input_tokens == door.message("turn on the light").usage.input_tokens
    assert raw.headers["x-ciranda-version"] == "smart-home@1"
    assert "x-ciranda-counted" not in raw.headers
    assert len(door.rig.records()) == before + 1  # the message alone
    guess = door.anthropic.messages.with_raw_response.count_tokens(model="plain", messages=said)
    assert guess.headers["x-ciranda-counted"] == "estimated"
    assert guess.parse().input_tokens == 4 + 5  # a message, and 17 bytes
    with pytest.raises(anthropic.NotFoundError):
        door.anthropic.messages.count_tokens(model="unknown", messages=said)
    with pytest.raises(anthropic.InternalServerError):
        door.anthropic.messages.count_tokens(model="gone", messages=said)


def test_moderation_finds_personal_data_and_claims_nothing_else(door: Door) -> None:
    answer = door.openai.moderations.create(input=["a lamp", "my cpf is 529.982.247-25"])
    assert answer.model == "ciranda-guard"
    assert [one.flagged for one in answer.results] == [False, True]
    held: Any = answer.results[1].categories.model_extra
    assert {name for name, found in held.items() if found} == {"pii", "pii/cpf"}
    assert answer.results[1].categories.hate is None  # nobody looked
    scores: Any = answer.results[1].category_scores.model_extra
    assert scores["pii/cpf"] == 1.0
    parts: Any = [{"type": "text", "text": "ana@example.com"}]
    assert len(door.openai.moderations.create(input=parts).results) == 1
    picture: Any = [{"type": "image_url", "image_url": {"url": "http://x"}}]
    for wrong in (picture, []):
        with pytest.raises(openai.BadRequestError):
            door.openai.moderations.create(input=wrong)


def test_a_book_is_not_judged_at_once(door: Door) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        door.openai.moderations.create(input=["a lamp " * 100_000, "a lamp " * 100_000])
    assert raised.value.status_code == 413
    assert "1,400,000 characters" in raised.value.message


def test_each_client_lists_the_models_in_its_shape(door: Door) -> None:
    assert [one.id for one in door.anthropic.models.list()] == ["gone", "guarded", "plain", "smart-home"]
    one = door.anthropic.models.retrieve("smart-home@1")
    assert (one.id, one.type, one.display_name, one.created_at.year > 2000) == (
        "smart-home@1",
        "model",
        "smart-home@1",
        True,
    )
    with pytest.raises(anthropic.NotFoundError):
        door.anthropic.models.retrieve("nothing")
    assert door.openai.models.retrieve("smart-home").object == "model"
