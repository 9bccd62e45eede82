"""A recorded interaction as a `Said`: what makes a scorer of a suite a scorer of live traffic. It has no reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ciranda.data.rows import Message
from ciranda.evals import replies
from ciranda.evals.cases import Case, Said
from ciranda.interactions.table import Interaction


def said(one: Interaction) -> Said:
    """What was asked and answered, how long it took and what it cost."""
    reply = replies.recorded(one.response)
    request = _parsed(one.request)
    messages = _messages(request)
    return Said(
        one.input_text, one.output_text, None, messages, _case(one, messages, request), reply.tools, one.latency_ms,
        one.prompt_tokens, one.completion_tokens, one.cost, reply.logprobs,
    )  # fmt: skip


def _case(one: Interaction, messages: tuple[Message, ...], request: Mapping[str, Any]) -> Case | None:
    """What the client itself asked for: a schema, tools. Nothing else is expected of a live answer."""
    shape = request.get("response_format")
    wrapped = shape.get("json_schema") if isinstance(shape, dict) else None
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    offered = request.get("tools")
    tools = tuple(tool for tool in offered if isinstance(tool, dict)) if isinstance(offered, list) else ()
    if not isinstance(schema, dict) and not tools:
        return None
    return Case(one.id, messages, None, schema=schema if isinstance(schema, dict) else None, tools=tools, calls=None)


def _messages(request: Mapping[str, Any]) -> tuple[Message, ...]:
    given = request.get("messages")
    turns = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return tuple(
        Message(str(one.get("role") or ""), one["content"]) for one in turns if isinstance(one.get("content"), str)
    )


def _parsed(text: str) -> Mapping[str, Any]:
    """A stored body; of a cut one nothing more is known than its columns say."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
