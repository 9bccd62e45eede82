"""Chat answers become those of the Responses API: a response of items, or its events from `response.created` to `completed`.

One machine makes both: a whole answer is heard as one piece, and its events are thrown away. Items come one after the other,
each with its `added` and `done`; `sequence_number` counts every event. The last events are written by `last` alone, after
the record.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ciranda.gateway import answers
from ciranda.gateway.answers import UpstreamFailed
from ciranda.gateway.doors import chunks, fields
from ciranda.gateway.doors.chunks import Answer, Call, Used, event
from ciranda.store import clock

_ECHOED: dict[str, Any] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True,
    "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": None, "top_p": None,
    "truncation": "disabled", "user": None,
}  # fmt: skip
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_DELTAS = {
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning_text": "response.reasoning_text",
}
_ITEM_IDS = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class Response:
    """The answer to one `/v1/responses` request."""

    def __init__(self, body: bytes, ident: str) -> None:
        sent = fields.read(body)
        self._ident = ident.replace("-", "")
        self._echo = {name: default if sent.get(name) is None else sent[name] for name, default in _ECHOED.items()}
        self.ping = answers.PING
        self._started = False
        self._created, self._model = clock.now_ms() // 1000, ""
        self._output: list[dict[str, Any]] = []  # items, done and open
        self._item: dict[str, Any] | None = None
        self._part: dict[str, Any] | None = None
        self._texts: list[str] = []  # of the open part, or the arguments of the open call
        self._tool = -1
        self._reason = ""
        self._usage: Used | None = None
        self._sequence = 0

    def whole(self, answer: bytes, counted: Used | None) -> bytes:
        """Part of the `Translation` protocol."""
        self._heard(chunks.read(answer))
        self._close()
        return msgspec.json.encode(self._response(self._status(), counted))

    def push(self, events: bytes) -> bytes:
        """Part of the `Translation` protocol."""
        return b"".join(self._heard(one) for one in chunks.events(events))

    def last(self, events: bytes, counted: Used | None) -> bytes:
        """Part of the `Translation` protocol."""
        rest = self.push(events) + (b"" if self._started else self._start(Answer())) + self._close()
        status = self._status()
        return rest + self._event(f"response.{status}", response=self._response(status, counted))

    def broken(self, shown: bytes, status: int) -> bytes:
        """Part of the `Translation` protocol."""
        error = msgspec.json.decode(shown)["error"]
        told = self._event("error", code=error["code"] or error["type"], message=error["message"], param=error["param"])
        failed = self._response("failed", None) | {"error": {"code": "server_error", "message": error["message"]}}
        return told + self._event("response.failed", response=failed)

    # The response.

    def _status(self) -> str:
        return "incomplete" if self._reason in _CUT else "completed"

    def _response(self, status: str, counted: Used | None) -> dict[str, Any]:
        used = self._usage or counted
        return {
            "id": f"resp_{self._ident}", "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": {"reason": _CUT[self._reason]} if status == "incomplete" else None, "model": self._model,
            "output": self._output, "previous_response_id": None, "background": False, "store": False, **self._echo,
            "usage": _usage(used) if used and status in ("completed", "incomplete") else None,
        }  # fmt: skip

    # Events.

    def _event(self, kind: str, **told: Any) -> bytes:
        number, self._sequence = self._sequence, self._sequence + 1
        return event(kind, {"sequence_number": number, **told})

    def _at(self, kind: str, **told: Any) -> bytes:
        """An event about the open item."""
        place: dict[str, Any] = {"item_id": self._open["id"], "output_index": len(self._output) - 1}
        if self._part is not None:
            place["content_index"] = len(self._open["content"]) - 1
        return self._event(kind, **place, **told)

    @property
    def _open(self) -> dict[str, Any]:
        assert self._item is not None
        return self._item

    def _heard(self, told: Answer) -> bytes:
        events = [] if self._started else [self._start(told)]
        self._usage = told.usage or self._usage
        if (choice := told.first) is not None:
            said = choice.said
            for kind, text in (
                ("reasoning_text", said.thought),
                ("output_text", said.content),
                ("refusal", said.refusal),
            ):
                if text:
                    events.append(self._text(kind, text))
            events += [self._piece(call) for call in said.tool_calls or ()]
            self._reason = choice.finish_reason or self._reason
        return b"".join(events)

    def _start(self, told: Answer) -> bytes:
        self._started = True
        self._model, self._created = told.model or "", told.created or self._created
        begun = [self._event(f"response.{kind}", response=self._response("in_progress", None))
                 for kind in ("created", "in_progress")]  # fmt: skip
        return b"".join(begun)

    def _text(self, kind: str, text: str) -> bytes:
        holder = "reasoning" if kind == "reasoning_text" else "message"
        begin = b""
        if self._item is None or self._item["type"] != holder:
            more: dict[str, Any] = {"role": "assistant"} if holder == "message" else {"summary": []}
            begin = self._begin(holder, content=[], **more)
        if self._part is None or self._part["type"] != kind:
            begin += self._begin_part(kind)
        self._texts.append(text)
        return begin + self._at(f"{_DELTAS[kind]}.delta", delta=text, **_logprobs(kind))

    def _piece(self, call: Call) -> bytes:
        number = call.index if call.index is not None else self._tool + (1 if call.id else 0)
        begin, calling = b"", self._item is not None and self._item["type"] == "function_call"
        if number > self._tool:
            if not call.function.name:
                raise UpstreamFailed("the engine's tool calls are out of order", remedy="send the request again")
            self._tool = number
            ident = call.id or f"call_{self._ident}_{number}"
            begin = self._begin("function_call", call_id=ident, name=call.function.name, arguments="")
        elif number < self._tool or not calling:
            raise UpstreamFailed("the engine's tool calls are out of order", remedy="send the request again")
        more = call.function.arguments
        if not more:
            return begin
        self._texts.append(more)
        return begin + self._at("response.function_call_arguments.delta", delta=more)

    def _begin(self, kind: str, **more: Any) -> bytes:
        before = self._close()
        ident = f"{_ITEM_IDS[kind]}_{self._ident}_{len(self._output)}"
        self._item = {"id": ident, "type": kind, "status": "in_progress", **more}
        self._output.append(self._item)
        place = len(self._output) - 1
        return before + self._event("response.output_item.added", output_index=place, item=self._item)

    def _begin_part(self, kind: str) -> bytes:
        before = self._close_part()
        part: dict[str, Any] = {"type": kind, _field(kind): "", **_logprobs(kind)}
        if kind == "output_text":
            part["annotations"] = []
        self._part = part
        self._open["content"].append(part)
        return before + self._at("response.content_part.added", part=part)

    def _close_part(self) -> bytes:
        part = self._part
        if part is None:
            return b""
        name = _field(part["type"])
        part[name] = "".join(self._texts)
        told = {name: part[name], **_logprobs(part["type"])}
        done = self._at(f"{_DELTAS[part['type']]}.done", **told) + self._at("response.content_part.done", part=part)
        self._part, self._texts = None, []
        return done

    def _close(self) -> bytes:
        """The open item is done."""
        item = self._item
        if item is None:
            return b""
        done = self._close_part()
        if item["type"] == "function_call":
            item["arguments"] = "".join(self._texts)
            told = {"name": item["name"], "arguments": item["arguments"]}
            done += self._at("response.function_call_arguments.done", **told)
        item["status"] = self._status()
        self._item, self._texts = None, []
        return done + self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)


def _field(kind: str) -> str:
    return "refusal" if kind == "refusal" else "text"


def _logprobs(kind: str) -> dict[str, Any]:
    return {"logprobs": []} if kind == "output_text" else {}


def _usage(used: Used) -> dict[str, Any]:
    told = {
        "input_tokens": used.prompt, "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": 0},
        "output_tokens": used.completion, "output_tokens_details": {"reasoning_tokens": used.reasoned},
        "total_tokens": used.prompt + used.completion,
    }  # fmt: skip
    return {**told, "estimated": True} if used.estimated else told
