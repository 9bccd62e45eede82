"""Chat answers become Anthropic's: a message of blocks, or its events from `message_start` to `message_stop`.

Blocks come one after the other, each closed before the next begins, as that API's clients expect. Tokens of the prompt are told
at the end (`message_delta`), where engines tell them; `message_start` says 0, since a guess there would be taken for a count.
The last events are written by `last` alone, after the record.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ciranda.gateway import answers
from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.doors import chunks
from ciranda.gateway.doors.chunks import Answer, Call, Choice, Used, event

REASONS = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
    "content_filter": "refusal",
}  # fmt: skip
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class Message:
    """The answer to one `/v1/messages` request."""

    def __init__(self, body: bytes, ident: str) -> None:
        self._ident = ident.replace("-", "")
        self.ping = answers.PING
        self._started = False
        self._open = ""  # the kind of the block that is open
        self._index = -1
        self._tool = -1  # the engine's number of the tool call that is open, or was last
        self._end: Choice | None = None
        self._usage: Used | None = None

    def whole(self, answer: bytes, counted: Used | None) -> bytes:
        """Part of the `Translation` protocol."""
        told = chunks.read(answer)
        choice = told.first or Choice()
        said = choice.said
        content: list[dict[str, Any]] = []
        if said.thought:
            content.append({"type": "thinking", "thinking": said.thought, "signature": ""})
        if said.content or said.refusal:
            content.append({"type": "text", "text": said.content or said.refusal})
        content += [self._called(place, call) for place, call in enumerate(said.tool_calls or ())]
        end = {"content": content, **_ending(choice), "usage": _usage(told.usage or counted)}
        return msgspec.json.encode({**self._message(told), **end})

    def push(self, events: bytes) -> bytes:
        """Part of the `Translation` protocol."""
        return b"".join(self._heard(one) for one in chunks.events(events))

    def last(self, events: bytes, counted: Used | None) -> bytes:
        """Part of the `Translation` protocol."""
        rest = self.push(events) + (b"" if self._started else self._start(Answer())) + self._close()
        usage = _usage(self._usage or counted)
        end = event("message_delta", {"delta": _ending(self._end or Choice()), "usage": usage})
        return rest + end + event("message_stop", {})

    def broken(self, shown: bytes, status: int) -> bytes:
        """Part of the `Translation` protocol."""
        return (
            b"event: error\ndata: " + answers.anthropic_error(shown, status, b"req_" + self._ident.encode()) + b"\n\n"
        )

    def _message(self, told: Answer) -> dict[str, Any]:
        return {
            "id": f"msg_{self._ident}", "type": "message", "role": "assistant", "model": told.model or "", "content": [],
            "stop_reason": None, "stop_sequence": None,
        }  # fmt: skip

    def _called(self, place: int, call: Call) -> dict[str, Any]:
        try:
            given = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = f"the model called {call.function.name!r} with arguments that are no JSON object"
            raise UpstreamFailed(reason, remedy="send the request again, with more max_tokens, or stream") from error
        return {"type": "tool_use", "id": self._tool_id(place, call), "name": call.function.name or "", "input": given}

    def _tool_id(self, place: int, call: Call) -> str:
        return call.id or f"toolu_{self._ident}_{place}"

    def _heard(self, told: Answer) -> bytes:
        events = [] if self._started else [self._start(told)]
        self._usage = told.usage or self._usage
        if (choice := told.first) is not None:
            said = choice.said
            if said.thought:
                events.append(self._text("thinking", "thinking_delta", said.thought))
            if text := said.content or said.refusal:
                events.append(self._text("text", "text_delta", text))
            events += [self._piece(call) for call in said.tool_calls or ()]
            self._end = choice if choice.finish_reason else self._end
        return b"".join(events)

    def _start(self, told: Answer) -> bytes:
        self._started, self.ping = True, PING
        usage = {"input_tokens": told.usage.prompt if told.usage else 0, "output_tokens": 0}
        return event("message_start", {"message": {**self._message(told), "usage": usage}}) + PING

    def _text(self, kind: str, delta: str, text: str) -> bytes:
        begin = b""
        if self._open != kind:
            block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
            begin = self._begin(kind, block)
        return begin + self._delta({"type": delta, kind: text})

    def _piece(self, call: Call) -> bytes:
        number = call.index if call.index is not None else self._tool + (1 if call.id else 0)
        begin = b""
        if number > self._tool or self._open != "tool_use":
            if number <= self._tool or not call.function.name:
                raise UpstreamFailed("the engine's tool calls are out of order", remedy="send the request again")
            self._tool = number
            block = {"type": "tool_use", "id": self._tool_id(number, call), "name": call.function.name, "input": {}}
            begin = self._begin("tool_use", block)
        elif number < self._tool:
            raise UpstreamFailed("the engine's tool calls are out of order", remedy="send the request again")
        more = call.function.arguments
        return begin + (self._delta({"type": "input_json_delta", "partial_json": more}) if more else b"")

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        before = self._close()
        self._open, self._index = kind, self._index + 1
        return before + event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return event("content_block_delta", {"index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return event("content_block_stop", {"index": self._index})


def _ending(choice: Choice) -> dict[str, Any]:
    """Why it ended. Which stop sequence it was is known only where the engine tells (vLLM does)."""
    if isinstance(choice.stop_reason, str) and choice.finish_reason == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop_reason}
    return {"stop_reason": REASONS.get(choice.finish_reason or "stop", "end_turn"), "stop_sequence": None}


def _usage(used: Used | None) -> dict[str, Any]:
    used = used or Used()
    fresh = max(0, used.prompt - used.cached)
    told = {"input_tokens": fresh, "cache_read_input_tokens": used.cached, "output_tokens": used.completion}
    return {**told, "estimated": True} if used.estimated else told
