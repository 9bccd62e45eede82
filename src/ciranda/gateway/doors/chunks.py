"""Chat answers and their events, as the doors that translate read them, and events as every door writes them.

Engines are trusted with nothing: what is no chat answer is `UpstreamFailed`, and so is an error that an engine puts into its
stream, so that it reaches the client in the client's own shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.tap import Usage


class Function(msgspec.Struct, frozen=True):
    """What a tool call calls: in a stream the arguments come in pieces."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct, frozen=True):
    """One tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function = Function()


class Said(msgspec.Struct, frozen=True):
    """A message of the assistant, or a piece of one."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None

    @property
    def thought(self) -> str:
        """What it thought before it spoke; engines differ in the field's name."""
        return self.reasoning_content or self.reasoning or ""


class Choice(msgspec.Struct, frozen=True):
    """One choice of an answer or of an event."""

    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM: the stop sequence that ended it

    @property
    def said(self) -> Said:
        """The message, or the piece."""
        return self.message or self.delta or Said()


class PromptDetails(msgspec.Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True):
    """What completion tokens were for."""

    reasoning_tokens: int | None = None


class Used(Usage, frozen=True):
    """Tokens with their details, and whether we had to estimate them."""

    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    estimated: bool = False

    @property
    def prompt(self) -> int:
        return self.prompt_tokens or 0

    @property
    def completion(self) -> int:
        return self.completion_tokens or 0

    @property
    def cached(self) -> int:
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0

    @property
    def reasoned(self) -> int:
        return (self.completion_tokens_details.reasoning_tokens or 0) if self.completion_tokens_details else 0


class Answer(msgspec.Struct, frozen=True):
    """A chat answer, or one event of its stream."""

    model: str | None = None
    created: int | None = None
    choices: list[Choice] | None = None
    usage: Used | None = None
    error: Any = None

    @property
    def first(self) -> Choice | None:
        """The first choice, the only one that these doors ask for."""
        return next((one for one in self.choices or () if one.index == 0), None)


_answer = msgspec.json.Decoder(Answer)


def read(body: bytes) -> Answer:
    """A whole answer, or one event's data. Raises UpstreamFailed."""
    try:
        answer = _answer.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailed(f"the engine's answer is no chat answer: {error}", remedy="send it again") from error
    if answer.error:
        told = answer.error.get("message") if isinstance(answer.error, dict) else answer.error
        raise UpstreamFailed(f"the engine broke off: {str(told)[:500]}", remedy="send the request again")
    return answer


def events(text: bytes) -> Iterator[Answer]:
    """The answers in a piece of a stream that holds whole events; comments and `[DONE]` are passed over."""
    for event in text.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = (line for line in event.split(b"\n") if line.startswith(b"data:"))
        data = b"\n".join(line[5:].strip() for line in lines)
        if data and data != b"[DONE]":
            yield read(data)


def event(kind: str, fields: dict[str, Any]) -> bytes:
    """One named event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **fields}))


def usage_event(counted: Used | None) -> bytes:
    """The chunk that a client asked for with `include_usage`, of tokens that we had to count."""
    used = counted or Used()
    told = {"prompt_tokens": used.prompt, "completion_tokens": used.completion}
    usage = {**told, "total_tokens": used.prompt + used.completion, "estimated": used.estimated}
    chunk = {"object": "chat.completion.chunk", "choices": [], "usage": usage}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def as_events(body: bytes, *, usage: bool) -> bytes:
    """A whole chat or text answer as the events of a stream: one with the text, one with the end, usage if it was asked for."""
    whole = msgspec.json.decode(body, type=dict[str, Any])
    shared: dict[str, Any] = {
        name: whole[name] for name in ("id", "created", "model", "system_fingerprint") if name in whole
    }
    shared["object"] = str(whole.get("object", "chat.completion")).removesuffix(".chunk")
    if shared["object"] == "chat.completion":
        shared["object"] = "chat.completion.chunk"
    choices = [one for one in whole.get("choices") or () if isinstance(one, dict)]
    parts = [
        {**shared, "choices": [_first(one) for one in choices]},
        {**shared, "choices": [_last(one) for one in choices]},
    ]
    if usage:
        parts.append({**shared, "choices": [], "usage": whole.get("usage")})
    return b"".join(b"data: " + msgspec.json.encode(part) + b"\n\n" for part in parts) + b"data: [DONE]\n\n"


def _first(choice: dict[str, Any]) -> dict[str, Any]:
    said = {"text": choice["text"]} if "text" in choice else {"delta": _numbered(choice.get("message") or {})}
    return {"index": choice.get("index", 0), **said, "finish_reason": None}


def _numbered(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a delta: its tool calls have places."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{"index": place, **call} for place, call in enumerate(calls)]}


def _last(choice: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
    return {"index": choice.get("index", 0), **said, "finish_reason": choice.get("finish_reason")}
