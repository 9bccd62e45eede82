"""Traces that applications report: real instrumentations and exporters in, interactions out; and what a hostile one gets."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ciranda.gateway import limits
from ciranda.interactions.otlp import conventions, wire
from ciranda.interactions.otlp.wire import Event, Span
from gatewayrig import Rig, arm, metric, model
from recorded import Recorded, until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SCRIPT = Path(__file__).parent / "instrumented.py"


class Door:
    """A gateway that takes traces, with an engine behind it."""

    def __init__(self, home: Path) -> None:
        self.rig = Rig(home)
        self.engine = self.rig.engine("house@1")
        self.worker = self.rig.gateway()
        self.rig.add_key("sk-house", models=("house",))
        self.rig.add_key("sk-eyes", role="viewer")
        self.rig.route({"house": model(arm("live", "house@1", self.engine.url))})
        until(lambda: metric(self.url, "ciranda_gateway_snapshot_generation") == self.rig.generation)

    @property
    def url(self) -> str:
        return self.worker.url

    def application(self, instrumentation: str, *more: str, engine: str = "", named: str = "gpt-5-mini") -> None:
        """Run the instrumented application to its end."""
        command = [sys.executable, str(SCRIPT), instrumentation, "--engine", engine or self.engine.url, "--model", named,
                   "--traces", self.url, "--key", "sk-app", *more]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stderr
        assert "ERROR" not in ended.stderr, ended.stderr

    def post(
        self, body: bytes, *, key: str = "sk-app", kind: str = wire.PROTOBUF, encoding: str = ""
    ) -> tuple[int, bytes, Any]:
        headers = {"authorization": f"Bearer {key}", "content-type": kind}
        if encoding:
            headers["content-encoding"] = encoding
        request = urllib.request.Request(f"{self.url}/v1/traces", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def reported(self) -> list[dict[str, Any]]:
        return [one for one in self.rig.records() if one.get("source", "").startswith("otlp")]

    def counted(self, what: str) -> float:
        return metric(self.url, f"ciranda_gateway_spans_{what}_total")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.rig.stop()


def a_call(**more: Any) -> Span:
    """A span of today's GenAI convention, over a moment ago."""
    now = time.time_ns()
    attributes = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]),
        "gen_ai.output.messages": json.dumps([
            {"role": "assistant", "parts": [{"type": "text", "content": "ho"}], "finish_reason": "stop"}]),
    }  # fmt: skip
    span = {"trace_id": TRACE, "span_id": SPAN, "parent_span_id": "", "name": "chat", "start_ns": now - 10**9, "end_ns": now,
            "attributes": attributes | more.pop("attributes", {}), "resource": {"service.name": "shop"}}  # fmt: skip
    return Span(**(span | more))


def packed(*spans: Span) -> bytes:
    return wire.encode(spans, scope="test", version="1")


# --- real applications ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instrumentation", ["official", "traceloop", "openinference"])
def test_an_instrumented_application_needs_nothing_but_our_address(door: Door, instrumentation: str) -> None:
    door.application(instrumentation)
    found = {frame.fields()["id"]: frame for frame in door.rig.frames() if frame.fields().get("source")}
    metas = [frame.fields() for frame in found.values()]
    assert len(metas) == 5
    assert door.counted("ignored") == 1, "the application's own span"
    whole, streamed, tooled, failed, embedded = metas
    convention = {"official": "genai"}.get(instrumentation, instrumentation)
    assert {one["source"] for one in metas} == {f"otlp:{convention}"}
    assert {one["model"] for one in metas} == {"gpt-5-mini"}
    assert {one["arm"] for one in metas} == {"external"}
    assert len({one["trace_id"] for one in metas}) == 1
    assert len({one["span_id"] for one in metas}) == 5
    assert {one["endpoint"] for one in metas} == {"/v1/chat/completions", "/v1/embeddings"}
    assert embedded["endpoint"] == "/v1/embeddings"
    assert [one["status"] for one in metas] == [200, 200, 200, 429, 200]
    assert failed["error"] == "RateLimitError"
    assert (whole["prompt_tokens"] > 0, whole["completion_tokens"] > 0) == (True, True)
    assert whole["finish_reason"] == "stop"
    assert 0 < whole["latency_ms"] < 10_000
    assert whole["engine"] == "openai"
    if instrumentation != "official":  # which says nothing of streams
        assert (whole["stream"], streamed["stream"]) == (0, 1)
    asked = json.loads(found[whole["id"]].request)
    assert asked["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert asked["temperature"] == 0.5
    for one in (whole, streamed):
        said = json.loads(found[one["id"]].response)["choices"][0]
        assert said["finish_reason"] == "stop"
        assert "hello" in said["message"]["content"]
    after = json.loads(found[tooled["id"]].request)
    called = after["messages"][2]["tool_calls"][0]
    assert (called["id"], called["function"]["name"]) == ("call_1", "light")
    assert json.loads(called["function"]["arguments"]) == {"on": True}
    assert after["messages"][3] == {"role": "tool", "tool_call_id": "call_1", "content": "done"}
    if instrumentation != "official":
        assert after["tools"][0]["function"]["name"] == "light"


def test_what_went_through_the_gateway_is_not_recorded_twice(door: Door) -> None:
    door.application("traceloop", engine=door.url, named="house")
    assert door.reported() == [], "its answers name a version of ours"
    assert door.counted("echoed") == 5
    own = [one for one in door.rig.records() if not one.get("source")]
    assert len(own) == 5
    assert all(len(one["trace_id"]) == 32 and len(one["parent_span_id"]) == 16 for one in own), "told by traceparent"
    assert len({one["trace_id"] for one in own}) == 1


def test_a_span_that_is_sent_twice_is_one_interaction(tmp_path: Path) -> None:
    """By two exporters, in two messages, after a restart of the collector."""
    world = Recorded(tmp_path)
    rig = Rig(tmp_path)
    gateway = rig.gateway()
    rig.route({})
    door = Door.__new__(Door)
    door.rig, door.worker, door.engine = rig, gateway, rig.engine("gpt")
    until(lambda: metric(gateway.url, "ciranda_gateway_snapshot_generation") == rig.generation)
    world.start()
    door.application("traceloop", "--twice", "--service", "shop")
    until(lambda: world.interactions.count(model="gpt-5-mini") == 5)
    body = packed(a_call())
    assert door.post(body)[0] == 200
    until(lambda: world.interactions.count() == 6)
    world.kill()
    world.start()
    assert door.post(body)[0] == door.post(body)[0] == 200
    assert door.post(packed(a_call(span_id="00f067aa0ba902b7")))[0] == 200
    until(lambda: world.interactions.count() == 7)
    (one,) = [found for found in world.interactions.page() if found.span_id == SPAN]
    assert (one.source, one.trace_id, one.input_text, one.output_text) == ("otlp:genai", TRACE, "hi", "ho")
    assert world.interactions.get(one.id) == one
    rig.stop()
    world.close()


# --- which model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "attributes", "named"),
    [
        ({"service.name": "shop"}, {}, "gpt-5-mini"),
        ({"service.name": "house"}, {}, "house"),
        ({"service.name": "shop", "ciranda.model": "house"}, {}, "house"),
        ({"service.name": "house", "ciranda.model": "house"}, {"ciranda.model": "garden"}, "garden"),
    ],
)
def test_whose_history_a_call_is(door: Door, resource: dict[str, str], attributes: dict[str, str], named: str) -> None:
    assert door.post(packed(a_call(resource=resource, attributes=attributes)))[:2] == (200, b"")
    (one,) = door.reported()
    assert (one["model"], one["version"]) == (named, "gpt-5-mini")


def test_a_key_reports_only_calls_of_its_models(door: Door) -> None:
    mine, other = a_call(attributes={"ciranda.model": "house"}), a_call(span_id="00f067aa0ba902b7")
    status, body, _ = door.post(packed(mine, other), key="sk-house")
    told = ExportTraceServiceResponse.FromString(body).partial_success
    assert (status, told.rejected_spans) == (200, 1)
    assert "gpt-5-mini" in told.error_message
    assert [one["model"] for one in door.reported()] == ["house"]


# --- older conventions ------------------------------------------------------------------------------------------------

OLDER: dict[str, tuple[dict[str, Any], tuple[Event, ...]]] = {
    "genai 1.27": (
        {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "m",
         "gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.completion_tokens": 2, "gen_ai.response.finish_reasons": ["stop"]},
        (Event("gen_ai.content.prompt", 0, {"gen_ai.prompt": '[{"role": "user", "content": "hi"}]'}),
         Event("gen_ai.content.completion", 0, {"gen_ai.completion": '[{"role": "assistant", "content": "ho"}]'})),
    ),
    "genai 1.28": (
        {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "m",
         "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2},
        (Event("gen_ai.user.message", 0, {"content": "hi"}),
         Event("gen_ai.choice", 0, {"index": 0, "finish_reason": "stop", "message": '{"role": "assistant", "content": "ho"}'})),
    ),
    "traceloop 0.40": (
        {"llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 5,
         "gen_ai.usage.completion_tokens": 2, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hi",
         "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "ho",
         "gen_ai.completion.0.finish_reason": "stop"},
        (),
    ),
    "openinference without values": (
        {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 5, "llm.token_count.completion": 2,
         "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.contents.0.message_content.type": "text",
         "llm.input_messages.0.message.contents.0.message_content.text": "hi", "llm.finish_reason": "stop",
         "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "ho"},
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("convention", OLDER)
def test_older_names_mean_the_same(door: Door, convention: str) -> None:
    attributes, events = OLDER[convention]
    now = time.time_ns()
    span = Span(TRACE, SPAN, "", "call", now - 10**9, now, attributes)
    message = ExportTraceServiceRequest.FromString(packed(span))
    for event in events:
        told = message.resource_spans[0].scope_spans[0].spans[0].events.add(name=event.name)
        told.attributes.extend(wire._key_values(event.attributes))
    assert door.post(message.SerializeToString())[:2] == (200, b"")
    (frame,) = door.rig.frames()
    meta = frame.fields()
    assert (meta["model"], meta["prompt_tokens"], meta["completion_tokens"], meta["finish_reason"]) == (
        "m",
        5,
        2,
        "stop",
    )
    assert json.loads(frame.request)["messages"] == [{"role": "user", "content": "hi"}]
    assert json.loads(frame.response)["choices"][0]["message"]["content"] == "ho"


def test_the_table_names_each_attribute_of_a_field_once() -> None:
    rows = [(row.field, row.attribute) for row in conventions.TABLE]
    assert len(rows) == len(set(rows))
    assert {row.convention for row in conventions.TABLE} == {"genai", "openinference", "traceloop", "ciranda"}


# --- the wire ---------------------------------------------------------------------------------------------------------


def test_json_is_read_as_the_standard_writes_it(door: Door) -> None:
    """Ids in hexadecimal, 64-bit numbers as texts, unknown fields passed over."""
    now = time.time_ns()
    span = {"traceId": TRACE.upper(), "spanId": SPAN, "name": "chat", "kind": 3, "startTimeUnixNano": str(now - 10**9),
            "endTimeUnixNano": str(now), "flags": 257, "somethingNew": {"a": 1}, "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}]}  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, {**span, "traceId": ""}]}]}]}).encode()
    status, told, headers = door.post(gzip.compress(body), kind="application/json; charset=utf-8", encoding="gzip")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(told)["partialSuccess"]["rejectedSpans"] == "1"
    (one,) = door.reported()
    assert (one["trace_id"], one["span_id"], one["prompt_tokens"]) == (TRACE, SPAN, 7)


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        (b"\xff\xff nonsense", {}, 400),
        (b"{", {"kind": "application/json"}, 400),
        (b"x", {"kind": "text/plain"}, 415),
        (b"x", {"encoding": "br"}, 415),
        (b"x", {"encoding": "gzip"}, 400),
        (gzip.compress(packed())[:-4], {"encoding": "gzip"}, 400),
        (gzip.compress(bytes(limits.TRACES_INFLATED_BYTES + 1)), {"encoding": "gzip"}, 413),
        (bytes(limits.TRACES_BYTES + 1), {}, 413),
        (packed(), {"key": "sk-wrong"}, 401),
        (packed(), {"key": "sk-eyes"}, 403),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_what_is_wrong_gets_a_status_that_exporters_understand(
    door: Door, body: bytes, options: Any, status: int
) -> None:
    found, told, headers = door.post(body, **options)
    assert found == status
    if headers["content-type"] == wire.JSON:
        assert json.loads(told)["message"]
    else:
        assert (headers["content-type"], told[:1]) == (wire.PROTOBUF, b"\x08"), "a google.rpc.Status"
    assert door.reported() == []


@pytest.mark.parametrize(
    "odd",
    [
        {"trace_id": ""},
        {"span_id": "0" * 16},
        {"start_ns": 1},
        {"start_ns": 2**63},
        {"attributes": {"gen_ai.request.model": ""}},
    ],
    ids=str,
)
def test_an_impossible_span_is_refused_and_its_neighbour_taken(door: Door, odd: dict[str, Any]) -> None:
    status, body, _ = door.post(packed(a_call(**odd), a_call(span_id="00f067aa0ba902b7")))
    assert (status, ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans) == (200, 1)
    assert [one["span_id"] for one in door.reported()] == ["00f067aa0ba902b7"]


def test_odd_content_is_a_call_all_the_same(door: Door) -> None:
    odd = {"gen_ai.input.messages": "{{{", "gen_ai.output.messages": "[1, null, {}]", "gen_ai.usage.input_tokens": "many",
           "gen_ai.usage.output_tokens": 2**40, "gen_ai.response.finish_reasons": 7, "gen_ai.conversation.id": ["a"]}  # fmt: skip
    assert door.post(packed(a_call(attributes=odd)))[:2] == (200, b"")
    (one,) = door.reported()
    assert (one["prompt_tokens"], one["completion_tokens"], one["conversation"]) == (0, 2**32 - 1, "")


def test_a_full_disk_asks_the_exporter_to_come_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    worker = rig.gateway(0, limit_files=1)  # 512 bytes a file: logs stay short, records do not fit
    rig.route({})
    door = Door.__new__(Door)
    door.rig, door.worker = rig, worker
    until(lambda: metric(worker.url, "ciranda_gateway_snapshot_generation") == rig.generation)
    status, _, headers = door.post(packed(a_call(attributes={"gen_ai.input.messages": "x" * 4000})))
    assert (status, headers["retry-after"]) == (503, "1")
    rig.stop()


# --- the trace of our own requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-more", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        ("nonsense", False),
    ],
)
def test_a_trace_is_recorded_and_passed_on(door: Door, tmp_path: Path, sent: str, kept: bool) -> None:
    heard = _listener(door)
    headers = {"authorization": "Bearer sk-app", "traceparent": sent, "tracestate": "a=1"}
    body = json.dumps({"model": "heard", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{door.url}/v1/chat/completions", body, headers)) as answer:
        ident = answer.headers["x-ciranda-interaction"]
    one, passed = door.rig.record(ident), heard()
    if not kept:
        assert {"trace_id", "span_id", "parent_span_id"}.isdisjoint(one)
        assert "traceparent" not in passed
        return
    assert (one["trace_id"], one["parent_span_id"]) == (TRACE, SPAN)
    assert one["span_id"] == ident.replace("-", "")[16:]
    assert passed["traceparent"] == f"00-{TRACE}-{one['span_id']}-01", "the engine's spans hang below ours"
    assert passed["tracestate"] == "a=1"


def _listener(door: Door) -> Any:
    """An engine that keeps the headers it got; routed to as the model `heard`."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got: list[dict[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            got.append({name.lower(): value for name, value in self.headers.items()})
            body = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "ho"}, "finish_reason": "stop"}]}'
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    door.rig.route({"heard": model(arm("live", "heard@1", f"http://127.0.0.1:{server.server_port}"))})
    until(lambda: metric(door.url, "ciranda_gateway_snapshot_generation") == door.rig.generation)
    return lambda: got[-1]
