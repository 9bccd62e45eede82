"""The laws of the doors that translate, over bodies and events that nobody would send: a clear refusal, never a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.errors import CirandaError
from ciranda.gateway import moderation
from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.counting import estimate
from ciranda.gateway.doors import messages, responses
from ciranda.gateway.doors.blocks import Message
from ciranda.gateway.doors.items import Response

NAMES = (
    "model", "messages", "input", "role", "content", "type", "text", "system", "tools", "tool_choice", "name", "id", "call_id",
    "source", "tool_use_id", "arguments", "output", "max_tokens", "stream", "metadata", "user_id", "instructions", "mode",
    "reasoning", "format", "schema", "output_config", "stop_sequences", "image_url", "user", "function",
)  # fmt: skip
WORDS = (
    "user", "assistant", "tool", "text", "input_text", "function", "function_call", "function_call_output", "message", "image",
    "tool_use", "tool_result", "json_schema", "allowed_tools", "any", "base64", "url", "document", "m",
)  # fmt: skip
leaf = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(WORDS), st.text(max_size=5))
body = st.recursive(
    leaf,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)),
)
request = st.dictionaries(st.sampled_from(NAMES), body, max_size=8)


def refusal(read: Callable[[bytes], Any], sent: dict[str, Any]) -> CirandaError | None:
    try:
        read(json.dumps(sent).encode())
    except CirandaError as error:
        return error
    return None


@settings(max_examples=400, deadline=None)
@given(request, st.integers(1, 9))
def test_a_body_becomes_a_chat_completion_or_is_refused(sent: dict[str, Any], tokens: int) -> None:
    for read in (messages.chat, messages.counted, responses.chat, moderation.texts):
        refused = refusal(read, {"max_tokens": tokens, **sent})
        assert refused is None or (refused.status == 400 and refused.remedy)


delta = st.fixed_dictionaries(
    {},
    optional={
        "content": st.one_of(st.none(), st.text(max_size=5)),
        "reasoning_content": st.text(max_size=5),
        "refusal": st.text(max_size=3),
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {"function": st.fixed_dictionaries({}, optional={"name": st.just("f"), "arguments": st.just("{}")})},
                optional={"index": st.integers(0, 2), "id": st.just("c")},
            ),
            max_size=2,
        ),
    },
)
chunk = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"delta": delta}, optional={"finish_reason": st.just("stop")}), max_size=1
        )
    },
    optional={"usage": st.just({"prompt_tokens": 1, "completion_tokens": 2}), "model": st.just("m")},
)


def stream(chunks: list[dict[str, Any]]) -> list[bytes]:
    return [b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks]


def events(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.split(b"data: ", 1)[1]) for event in text.split(b"\n\n") if event.strip()]


@settings(max_examples=300, deadline=None)
@given(st.lists(chunk, max_size=6), st.booleans())
def test_blocks_and_items_open_and_close_in_order_whatever_the_engine_sends(chunks: list[Any], at_once: bool) -> None:
    pieces = stream(chunks)
    pieces = [b"".join(pieces)] if at_once else pieces
    for door in (Message(b"{}", "1-2"), Response(b"{}", "1-2")):
        try:
            shown = b"".join(door.push(piece) for piece in pieces) + door.last(b"data: [DONE]\n\n", None)
        except UpstreamFailed:
            continue  # tool calls out of order
        told = [one for one in events(shown) if one["type"] != "ping"]
        if isinstance(door, Message):
            _blocks(told)
        else:
            _items(told)


def _blocks(told: list[dict[str, Any]]) -> None:
    kinds = [one["type"] for one in told]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    opened = -1
    for one in told[1:-2]:
        if one["type"] == "content_block_start":
            opened += 1
        assert one["index"] == opened
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == opened + 1


def _items(told: list[dict[str, Any]]) -> None:
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    final = told[-1]["response"]
    assert told[-1]["type"] == "response.completed"
    done = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert done == final["output"]
    deltas = "".join(one["delta"] for one in told if one["type"] == "response.output_text.delta")
    parts = [part for item in final["output"] for part in item.get("content", ()) if part["type"] == "output_text"]
    assert deltas == "".join(part["text"] for part in parts)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_of_an_engine_upset_a_translation(noise: bytes) -> None:
    for door in (Message(b"{}", "1-2"), Response(b"{}", "1-2")):
        for act in (lambda door=door: door.push(noise + b"\n\n"), lambda door=door: door.whole(noise, None)):
            with contextlib.suppress(UpstreamFailed):
                act()
    assert (estimate(noise, noise).completion_tokens or 0) >= 0


def test_a_call_without_a_name_is_no_call() -> None:
    nameless = stream([{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]}])
    for door in (Message(b"{}", "1"), Response(b"{}", "1")):
        with pytest.raises(UpstreamFailed):
            door.push(nameless[0])
