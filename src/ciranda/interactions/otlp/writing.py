"""An interaction becomes a span, in the newest names of OpenTelemetry's GenAI convention.

Ids follow from the interaction's own, so a span that is exported again is the same span. In the trace of a client that sent
`traceparent` it hangs below the client's span; else it is a trace of its own. What people wrote and who they are leaves only when
`content` says so. What an application reported by OTLP is not told again: it came from there.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from ciranda import __version__
from ciranda.interactions.otlp import conventions, wire
from ciranda.interactions.otlp.messages import Message, loads
from ciranda.interactions.otlp.wire import CLIENT, ERROR, UNSET, Span
from ciranda.interactions.table import Interaction

SCOPE = "ciranda"
SERVICE = "ciranda-gateway"
_UUID = re.compile("[0-9a-f]{32}")
OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}


def body(told: list[Interaction], *, content: bool) -> bytes:
    """The body of one export."""
    return wire.encode((span(one, content=content) for one in told), scope=SCOPE, version=__version__)


def own(found: list[Interaction]) -> list[Interaction]:
    """Those that went through our gateway."""
    return [one for one in found if not one.source]


def span(one: Interaction, *, content: bool) -> Span:
    """The span of one interaction."""
    plain = _hex(one.id)
    start_ns = one.ts_ms * 1_000_000
    operation = OPERATIONS.get(one.endpoint, "chat")
    attributes = _attributes(one, operation) | (_content(one) if content else {})
    return Span(
        one.trace_id or plain, one.span_id or plain[16:], one.parent_span_id, f"{operation} {one.model}",
        start_ns, start_ns + int(one.latency_ms * 1_000_000), attributes,
        {"service.name": SERVICE, "service.version": __version__}, kind=CLIENT, status=ERROR if one.status >= 400 else UNSET,
        message=one.error,
    )  # fmt: skip


def _hex(identifier: str) -> str:
    """An id as 32 hexadecimal digits: its own when it is a UUID."""
    plain = identifier.replace("-", "")
    return plain if _UUID.fullmatch(plain) else hashlib.sha256(identifier.encode()).hexdigest()[:32]


def _attributes(one: Interaction, operation: str) -> dict[str, Any]:
    given = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": one.engine, "gen_ai.request.model": one.model,
        "gen_ai.response.model": one.version, "gen_ai.response.id": one.id, "gen_ai.conversation.id": one.conversation,
        "gen_ai.response.finish_reasons": [one.finish_reason] if one.finish_reason else [],
        "gen_ai.usage.input_tokens": one.prompt_tokens, "gen_ai.usage.output_tokens": one.completion_tokens,
        "gen_ai.request.stream": bool(one.stream), "error.type": one.error, "http.response.status_code": one.status,
        "gen_ai.response.time_to_first_chunk": one.first_byte_ms / 1000 if one.stream else 0.0,
        "ciranda.interaction": one.id, "ciranda.model": one.model, "ciranda.version": one.version, "ciranda.digest": one.digest,
        "ciranda.arm": one.arm, "ciranda.rollout": one.rollout, "ciranda.replica": one.replica,
        "ciranda.overhead_ms": float(one.overhead_ms), "ciranda.retries": one.retry_count,
        "ciranda.conventions": conventions.VERSION,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value not in ("", [], 0.0) or value is False}


def _content(one: Interaction) -> dict[str, Any]:
    """What was asked and answered, and by whom."""
    sent = loads(one.request)
    asked = sent.get("messages") if isinstance(sent, dict) else None
    found: dict[str, Any] = {"enduser.id": one.user} if one.user else {}
    if isinstance(asked, list):
        said = [parts(message) for message in asked if isinstance(message, dict)]
    else:
        said = [{"role": "user", "parts": [{"type": "text", "content": one.input_text}]}] if one.input_text else []
    if said:
        found["gen_ai.input.messages"] = json.dumps(said, ensure_ascii=False)
    if answered := _answered(one):
        found["gen_ai.output.messages"] = json.dumps(answered, ensure_ascii=False)
    return found


def _answered(one: Interaction) -> list[Message]:
    body = loads(one.response)
    choices = body.get("choices") if isinstance(body, dict) else None
    messages = (
        [choice.get("message") for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    )
    told = [parts({"role": "assistant", **message}) for message in messages if isinstance(message, dict)]
    if not told and one.output_text:
        told = [{"role": "assistant", "parts": [{"type": "text", "content": one.output_text}]}]
    return [{**message, "finish_reason": one.finish_reason or "stop"} for message in told]


def parts(message: Message) -> Message:
    """A chat message in parts."""
    role, content = str(message.get("role") or "user"), message.get("content")
    if role == "tool":
        result = {"type": "tool_call_response", "id": str(message.get("tool_call_id") or ""), "response": content}
        return {"role": role, "parts": [result]}
    said: list[Message] = [{"type": "text", "content": content}] if isinstance(content, str) and content else []
    if isinstance(content, list):
        said = [_part(one) for one in content if isinstance(one, dict)]
    calls = message.get("tool_calls")
    said += [_call(one) for one in calls if isinstance(one, dict)] if isinstance(calls, list) else []
    return {"role": role, "parts": said}


def _part(one: Message) -> Message:
    if one.get("type") == "text":
        return {"type": "text", "content": str(one.get("text", ""))}
    image = one.get("image_url")
    address = image.get("url", "") if isinstance(image, dict) else ""
    return (
        {"type": "uri", "modality": "image", "uri": address} if address else {"type": str(one.get("type") or "unknown")}
    )


def _call(one: Message) -> Message:
    function = one.get("function")
    held = function if isinstance(function, dict) else {}
    arguments = loads(held.get("arguments"))
    return {"type": "tool_call", "id": str(one.get("id") or ""), "name": str(held.get("name") or ""),
            "arguments": arguments if arguments is not None else held.get("arguments")}  # fmt: skip
