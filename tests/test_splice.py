"""Laws of what the gateway changes on the way: the model's name and nothing else; whole events and never half of one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.errors import Invalid
from ciranda.gateway import asked, splice, tap
from ciranda.gateway.events import Events

WIRE = "smart-home@12"
ENCODED = msgspec.json.encode(WIRE)

texts = st.text(max_size=20) | st.sampled_from(
    ['"model"', '"model":"x"', "stream_options", "model", "\\", "data: [DONE]\n\n"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
options = st.none() | st.dictionaries(st.sampled_from(["include_usage", "other"]), st.booleans(), max_size=2)
bodies = st.fixed_dictionaries(
    {"model": texts},
    optional={
        "stream": st.booleans(),
        "stream_options": options,
        "messages": values,
        "metadata": values,
        "user": texts,
    },
)


@given(bodies, st.booleans(), st.sampled_from([None, 1]), st.booleans(), st.permutations(range(6)))
def test_the_name_is_replaced_and_everything_else_means_the_same(
    fields: dict[str, Any], ascii_only: bool, indent: int | None, usage: bool, order: list[int]
) -> None:
    names = sorted(fields, key=lambda name: order[sorted(fields).index(name)])
    body = json.dumps({name: fields[name] for name in names}, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "replace"
    )
    expected = json.loads(body)
    changed = json.loads(splice.rewrite(body, asked.peek(body), ENCODED, usage=usage))
    if usage:
        wanted = {**(expected.get("stream_options") or {}), "include_usage": True}
        assert changed.pop("stream_options") == wanted
        expected.pop("stream_options", None)
    assert changed == {**expected, "model": WIRE}


def test_bytes_that_need_no_change_are_not_changed() -> None:
    body = b'{ "temperature": 1.50, "model"\n:\t"smart-home" , "seed":12345678901234567890, "z": [1e2] }'
    assert splice.rewrite(body, asked.peek(body), ENCODED) == body.replace(b'"smart-home"', ENCODED)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"smart-home"}',
        b'{"mod\\u0065l":"smart-home","metadata":{"model":"smart-home"}}',
        b'{"metadata":{"model":"smart-home"},"model":"smart-home"}',
        b'{"model":"sm\\u0061rt-home"}',
        b'{"model":"a","mod\\u0065l":"smart-home"}',
    ],
)
def test_a_body_cannot_mean_one_model_to_us_and_another_to_the_engine(body: bytes) -> None:
    seen = asked.peek(body)
    assert seen.model == "smart-home"
    changed = splice.rewrite(body, seen, ENCODED)
    assert json.loads(changed)["model"] == WIRE
    assert json.loads(changed).get("metadata") == json.loads(body).get("metadata")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"x"', b'{"model":1}', b'{"model":"a","stream":"yes"}', b'{"model":"\xff"}']
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        asked.peek(body)


# --- streams


def event(fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


USAGE = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
END = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
DONE = b"data: [DONE]\n\n"

contents = st.lists(
    st.text(max_size=12) | st.sampled_from(["data: [DONE]", '"choices":[]', "\n\n", "[DONE]"]), max_size=6
)


@given(contents, st.lists(st.integers(0, 600), max_size=8), st.booleans(), st.booleans())
def test_a_stream_passes_whole_and_its_end_is_held_back(
    said: list[str], cuts: list[int], hides: bool, spaced: bool
) -> None:
    chunks = [event({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in said]
    usage = USAGE.replace(b'": ', b'":') if spaced else USAGE
    whole = b"".join(chunks) + END + usage + DONE
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    events, shown = Events(hides_usage=hides), b""
    for start, stop in itertools.pairwise(places):
        shown += events.push(whole[start:stop])
        assert shown.endswith(b"\n\n") or not shown
        assert not shown.endswith(DONE)
    assert events.complete()
    assert shown + events.last() == (whole.replace(usage, b"") if hides else whole)


@given(contents)
def test_tokens_and_reason_are_read_off_the_end(said: list[str]) -> None:
    chunks = [event({"choices": [{"index": 0, "delta": {"content": text}}], "usage": None}) for text in said]
    summary = tap.of_stream(b"".join(chunks) + END + USAGE + DONE)
    assert summary.finish_reason == "stop"
    assert summary.usage is not None
    assert (summary.usage.prompt_tokens, summary.usage.completion_tokens) == (3, 4)


@given(st.binary(max_size=300))
def test_no_bytes_of_an_engine_upset_the_tap(noise: bytes) -> None:
    events = Events(hides_usage=True)
    assert len(events.push(noise) + events.last()) <= len(noise) + 2
    tap.of_stream(noise)
    tap.of_answer(noise)
