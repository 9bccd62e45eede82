"""An OpenAI chat completion as a `Reply`: what an engine's JSON says, whole or streamed. Missing parts are None."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ciranda.evals.cases import Call, Reply


def completed(body: Mapping[str, Any], *, latency_ms: float | None = None, cost: float | None = None) -> Reply:
    """The first choice of a completion, with its calls, log-probabilities and usage."""
    choices = body.get("choices")
    choice = _part(choices[0]) if isinstance(choices, list) and choices else {}
    message, usage = _part(choice.get("message")), _part(body.get("usage"))
    content = message.get("content")
    return Reply(
        content if isinstance(content, str) else str(choice.get("text") or ""), called(message.get("tool_calls")),
        latency_ms, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), cost,
        _logprobs(choice.get("logprobs")),
    )  # fmt: skip


def recorded(body: str) -> Reply:
    """A stored answer, whole or as the events of a stream; an empty reply when it is neither."""
    if body.lstrip()[:1] == "{":
        return completed(_part(_arguments(body)))
    lines = (line[5:].strip() for line in body.splitlines() if line.startswith("data:"))
    return _joined([_part(_arguments(line)) for line in lines if line.startswith("{")])


def _joined(events: list[Mapping[str, Any]]) -> Reply:
    """The deltas of a stream's first choice, put together as the message that they make."""
    text, calls, logprobs, usage = "", dict[int, dict[str, str]](), list[Any](), dict[str, Any]()
    for event in events:
        usage = event.get("usage") or usage
        choices = event.get("choices")
        choice = _part(choices[0]) if isinstance(choices, list) and choices else {}
        delta = _part(choice.get("delta"))
        text += delta["content"] if isinstance(delta.get("content"), str) else ""
        logprobs += _part(choice.get("logprobs")).get("content") or []
        for piece in delta.get("tool_calls") or []:
            function = _part(_part(piece).get("function"))
            held = calls.setdefault(_count(_part(piece).get("index")) or 0, {"name": "", "arguments": ""})
            held["name"] += str(function.get("name") or "")
            held["arguments"] += str(function.get("arguments") or "")
    whole = {"message": {"content": text, "tool_calls": [{"function": calls[place]} for place in sorted(calls)]},
             "logprobs": {"content": logprobs} if logprobs else None}  # fmt: skip
    return completed({"choices": [whole], "usage": usage})


def called(calls: object) -> tuple[Call, ...]:
    """The calls of tools of a message, their arguments parsed where they are JSON."""
    functions = [_part(_part(call).get("function")) for call in calls] if isinstance(calls, list) else []
    return tuple(Call(str(one.get("name") or ""), _arguments(one.get("arguments"))) for one in functions if one)


def _arguments(given: object) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given or "{}")
    except (ValueError, RecursionError):
        return given


def _logprobs(given: object) -> tuple[float, ...] | None:
    content = _part(given).get("content")
    if not isinstance(content, list):
        return None
    found = [_part(token).get("logprob") for token in content]
    return tuple(round(float(one), 5) for one in found if isinstance(one, int | float))


def _count(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def _part(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}
