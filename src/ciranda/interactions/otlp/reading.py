"""A span becomes a record: metadata, request and answer, in the shapes that the gateway's own records have.

The id follows from tenant, trace and span, so a span that is sent again, by the same or by another worker, is the same
interaction. The model's name is what `ciranda.model` says (on the span, else on the resource), else the service's name when a
model is called so, else the model that was asked for: so an application that talks to a provider can already be the history of
a model that will replace it. Its arm is `external`: no release is judged by it.

It refuses a span without ids, without a model, or from a time that cannot be; the others of the same message are taken.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from ciranda.errors import Invalid
from ciranda.interactions.otlp import conventions, messages
from ciranda.interactions.otlp.conventions import found
from ciranda.interactions.otlp.messages import Message
from ciranda.interactions.otlp.wire import ERROR, Event, Span

EXTERNAL = "external"
OLDEST_MS, AHEAD_MS = 7 * 86_400_000, 300_000
MOST_TOKENS = (1 << 32) - 1
_TRACE, _SPAN = re.compile(r"(?!0{32})[0-9a-f]{32}"), re.compile(r"(?!0{16})[0-9a-f]{16}")
FIRST_TOKEN = ("First Token Stream Event", "gen_ai.content.completion.chunk", "llm.content.completion.chunk")
# What clients raise, by a piece of its name, as the status that raised it.
STATUSES = {
    "ratelimit": 429, "badrequest": 400, "authentication": 401, "permission": 403, "notfound": 404, "conflict": 409,
    "unprocessable": 422, "timeout": 504, "connection": 502, "cancel": 499,
}  # fmt: skip
REASONS = {"tool_call": "tool_calls", "error": "stop"}


@dataclass(frozen=True, slots=True)
class Reported:
    """What a span says, ready for the spool."""

    meta: dict[str, Any]
    request: bytes
    response: bytes


def is_call(span: Span) -> bool:
    """Whether a span is a call of a model; what is around it (chains, tools, agents, HTTP) is none."""
    return bool(conventions.endpoint(span.attributes))


def answered_by(span: Span) -> str:
    """The name of what answered, as the answer said it."""
    return _text(found("answered", span.attributes, span.resource), 200)


def asked_for(span: Span) -> str:
    """The name of the model that was asked for."""
    told = _text(found("requested", span.attributes, span.resource), 200)
    given = None if told else messages.loads(span.attributes.get("input.value"))
    return _text(given.get("model"), 200) if isinstance(given, dict) else told


def read(span: Span, *, tenant: str, key: str, models: Collection[str], now_ms: int) -> Reported:
    """The record of a call.

    Args:
        models: Names of our models, which a service may be called by.

    Raises:
        Invalid: the span cannot be one.
    """
    start_ms = _moment(span, now_ms)
    asked, said = _input(span), _output(span)
    model = _model(span, models)
    status = _status(span)
    reason = _reason(span, said)
    meta = {
        "id": identity(tenant, span), "ts_ms": start_ms, "tenant": tenant, "key": key,
        "user": _text(_get(span, "user"), 256), "conversation": _text(_get(span, "conversation"), 256),
        "model": model, "version": answered_by(span) or asked_for(span), "arm": EXTERNAL,
        "engine": _text(_get(span, "provider"), 64), "endpoint": conventions.endpoint(span.attributes),
        "stream": 1 if _get(span, "stream") is True or _first(span) else 0, "status": status,
        "error": "" if status < 400 else _error(span), "finish_reason": reason,
        "latency_ms": max(0.0, round((span.end_ns - span.start_ns) / 1e6, 3)), "first_byte_ms": _first_ms(span),
        "prompt_tokens": _number(_get(span, "prompt_tokens")),
        "completion_tokens": _number(_get(span, "completion_tokens")),
        "request_id": _text(_get(span, "response_id"), 256),
        "source": f"otlp:{conventions.convention(span.attributes)}",
        "trace_id": span.trace_id, "span_id": span.span_id, "parent_span_id": span.parent_span_id,
    }  # fmt: skip
    return Reported(meta, _request(span, asked), _response(span, said, meta))


def identity(tenant: str, span: Span) -> str:
    """The id of the interaction that a span is: the same for the same span, for each tenant its own."""
    digest = bytearray(hashlib.sha256(f"{tenant}\0{span.trace_id}\0{span.span_id}".encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80  # a UUID of version 8: made by hash
    return str(uuid.UUID(bytes=bytes(digest)))


def _get(span: Span, field: str) -> Any:
    return found(field, span.attributes, span.resource)


def _moment(span: Span, now_ms: int) -> int:
    """When it began, in milliseconds; the ids are looked at here too, so that nothing is read of a span without them."""
    if not _TRACE.fullmatch(span.trace_id) or not _SPAN.fullmatch(span.span_id):
        raise Invalid(f"{span.trace_id}:{span.span_id} are no ids", where=span.name[:100], remedy="send valid ids")
    start_ms = span.start_ns // 1_000_000
    if not now_ms - OLDEST_MS <= start_ms <= now_ms + AHEAD_MS:
        reason = f"the span began at {start_ms} ms, more than seven days ago or in the future"
        raise Invalid(reason, where=span.name[:100], remedy="look at the application's clock")
    return start_ms


def _model(span: Span, models: Collection[str]) -> str:
    told = _text(_get(span, "model"), 200)
    service = span.resource.get("service.name")
    name = told or (service if isinstance(service, str) and service in models else "") or asked_for(span)
    if not name:
        raise Invalid("no model is named", where=span.name[:100], remedy="set gen_ai.request.model or ciranda.model")
    return name


def _status(span: Span) -> int:
    status = _number(_get(span, "http_status"))
    if 100 <= status <= 599:
        return status
    if span.status != ERROR and _get(span, "error") is None:
        return 200
    error = _error(span)
    if error.isdigit() and 400 <= int(error) <= 599:
        return int(error)
    plain = error.lower().replace("_", "")
    return next((number for piece, number in STATUSES.items() if piece in plain), 500)


def _error(span: Span) -> str:
    """The type of what went wrong, in a word or two."""
    raised = next((one.attributes.get("exception.type") for one in span.events if one.name == "exception"), None)
    told = _text(_get(span, "error") or raised, 200).removeprefix("<class '").removesuffix("'>")
    return told.rpartition(".")[2][:64] or "error"


def _reason(span: Span, said: list[Message]) -> str:
    told = _get(span, "finish_reason")
    told = messages.loads(told) if isinstance(told, str) and told[:1] == "[" else told
    reason = _text(told[0] if isinstance(told, list) and told else told, 64)
    reason = reason or next((str(one["finish_reason"]) for one in said if one.get("finish_reason")), "")
    return REASONS.get(reason, reason)[:64]


def _first(span: Span) -> Event | None:
    return next((one for one in span.events if one.name in FIRST_TOKEN), None)


def _first_ms(span: Span) -> float:
    seconds, event = _get(span, "first_chunk_s"), _first(span)
    if isinstance(seconds, int | float) and 0 <= seconds < 86_400:
        return round(float(seconds) * 1000, 3)
    return max(0.0, round((event.at_ns - span.start_ns) / 1e6, 3)) if event else 0.0


def _text(value: object, most: int) -> str:
    return str(value)[:most] if isinstance(value, str | int | float) else ""


def _number(value: object) -> int:
    return (
        min(max(int(value), 0), MOST_TOKENS)
        if isinstance(value, int | float) and value == value and value < 1e15
        else 0
    )


# --- what was asked and answered --------------------------------------------------------------------------------------


def _input(span: Span) -> list[Message]:
    attributes = span.attributes
    for event in span.events:
        if event.name == "gen_ai.client.inference.operation.details" and "gen_ai.input.messages" in event.attributes:
            return _instructed(span, messages.of_parts(event.attributes["gen_ai.input.messages"]))
    if "gen_ai.input.messages" in attributes:
        return _instructed(span, messages.of_parts(attributes["gen_ai.input.messages"]))
    for prefix in ("llm.input_messages.", "embedding.embeddings.", "gen_ai.prompt.", "llm.prompts."):
        if given := messages.of_indexed(attributes, prefix):
            return given
    return _of_events(span, "gen_ai.content.prompt", "gen_ai.prompt", "user")


def _instructed(span: Span, given: list[Message]) -> list[Message]:
    """With the system's instructions in front, which newer spans keep apart."""
    parts = messages.loads(_get(span, "system"))
    return [*messages.of_parts([{"role": "system", "parts": parts}]), *given] if isinstance(parts, list) else given


def _output(span: Span) -> list[Message]:
    attributes = span.attributes
    for event in span.events:
        if event.name == "gen_ai.client.inference.operation.details" and "gen_ai.output.messages" in event.attributes:
            return messages.of_parts(event.attributes["gen_ai.output.messages"])
    if "gen_ai.output.messages" in attributes:
        return messages.of_parts(attributes["gen_ai.output.messages"])
    for prefix in ("llm.output_messages.", "gen_ai.completion.", "llm.completions."):
        if given := messages.of_indexed(attributes, prefix):
            return [{**one, "role": "assistant"} for one in given]
    chosen = [messages.of_event("assistant", one.attributes) for one in span.events if one.name == "gen_ai.choice"]
    return chosen or _of_events(span, "gen_ai.content.completion", "gen_ai.completion", "assistant")


def _of_events(span: Span, name: str, attribute: str, role: str) -> list[Message]:
    """One event with all messages in JSON (1.27), or one event for each (1.28 to 1.36)."""
    for event in span.events:
        if event.name == name:
            text = event.attributes.get(attribute)
            given = messages.of_parts(text)
            return given or ([{"role": role, "content": text}] if isinstance(text, str) else [])
    if role == "assistant":
        return []
    kinds = {f"gen_ai.{one}.message": one for one in ("system", "user", "assistant", "tool")}
    return [messages.of_event(kinds[one.name], one.attributes) for one in span.events if one.name in kinds]


def _request(span: Span, asked: list[Message]) -> bytes:
    """The request as it was sent, where a convention keeps it whole, else put together from what is known."""
    whole = messages.loads(span.attributes.get("input.value"))
    if isinstance(whole, dict) and ("messages" in whole or "input" in whole or "prompt" in whole):
        return msgspec.json.encode(whole)
    body: dict[str, Any] = {"model": asked_for(span)}
    for name in conventions.PARAMETERS:
        value = span.attributes.get(f"gen_ai.request.{name}")
        if isinstance(value, int | float):
            body[name] = value
    where = conventions.endpoint(span.attributes).rpartition("/")[2]
    texts = [one.get("content") for one in asked]
    if where == "embeddings":
        body["input"] = texts
    elif asked and conventions.endpoint(span.attributes) == "/v1/completions":
        body["prompt"] = texts[0] if len(texts) == 1 else texts
    elif asked:
        body["messages"] = [{name: value for name, value in one.items() if name != "finish_reason"} for one in asked]
    if isinstance(tools := messages.loads(_get(span, "tools")), list):
        body["tools"] = [_tool(one) for one in tools if isinstance(one, dict)]
    return msgspec.json.encode(body)


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    if "function" in given:
        return given
    return {"type": "function", "function": {name: value for name, value in given.items() if name != "type"}}


def _response(span: Span, said: list[Message], meta: dict[str, Any]) -> bytes:
    whole = messages.loads(span.attributes.get("output.value"))
    if isinstance(whole, dict) and ("choices" in whole or "data" in whole):
        return msgspec.json.encode(whole)
    if meta["status"] >= 400:
        told = next((one.attributes.get("exception.message") for one in span.events if one.name == "exception"), None)
        return msgspec.json.encode(
            {"error": {"message": _text(told, 2000) or span.message[:2000], "type": meta["error"]}}
        )
    if not said:
        return b""
    choices = [_choice(place, one, meta) for place, one in enumerate(said)]
    usage = {"prompt_tokens": meta["prompt_tokens"], "completion_tokens": meta["completion_tokens"]}
    kind = "text_completion" if meta["endpoint"] == "/v1/completions" else "chat.completion"
    return msgspec.json.encode(
        {"id": meta["request_id"], "object": kind, "model": meta["version"], "choices": choices, "usage": usage}
    )


def _choice(place: int, said: Message, meta: dict[str, Any]) -> dict[str, Any]:
    told = str(said.get("finish_reason") or "")
    shared = {"index": place, "finish_reason": REASONS.get(told, told) or meta["finish_reason"]}
    if meta["endpoint"] == "/v1/completions":
        return {**shared, "text": said.get("content") or ""}
    return {**shared, "message": {name: value for name, value in said.items() if name != "finish_reason"}}
