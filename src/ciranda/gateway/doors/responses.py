"""A request in the shape of OpenAI's Responses API becomes a chat completion.

Stateless: the whole conversation comes in `input`. What needs a store (`previous_response_id`, `conversation`, references to
items, `background`) or OpenAI's own tools is refused by name; reasoning items of earlier turns are left out. `store` is taken
and not done, and the answer says so. Fields that nobody here knows go on to the engine.
"""

from __future__ import annotations

import msgspec

from ciranda.gateway.answers import BadField
from ciranda.gateway.doors import fields
from ciranda.gateway.doors.fields import Fields

_STORED = ("previous_response_id", "conversation", "background", "prompt")
_READ = frozenset(
    {
        *_STORED, "input", "instructions", "tools", "tool_choice", "text", "max_output_tokens", "reasoning", "stream",
        "stream_options", "include", "store", "truncation", "max_tool_calls", "top_logprobs",
    }
)  # fmt: skip
_WHOLE = "this gateway stores no responses; send the whole conversation in `input`"
_ELSEWHERE = "run it in your application, and send what it gave as function_call_output"


def chat(body: bytes) -> bytes:
    """The chat completion that this request means. Raises Invalid."""
    return msgspec.json.encode(asked(fields.read(body)))


def asked(sent: Fields) -> Fields:
    """The same, as values."""
    for name in _STORED:
        if sent.get(name):
            raise fields.unsupported(f"{name} is not supported", name, _WHOLE)
    instructions = sent.get("instructions")
    system = [{"role": "system", "content": fields.text(instructions, "instructions")}] if instructions else []
    known: Fields = {"model": sent.get("model"), "messages": [*system, *_input(sent.get("input"))]}
    if sent.get("max_output_tokens") is not None:
        known["max_tokens"] = sent["max_output_tokens"]
    if effort := fields.inside(sent.get("reasoning"), "reasoning").get("effort"):
        known["reasoning_effort"] = effort
    known |= _tools(sent) | _format(sent)
    known |= {name: value for name, value in sent.items() if name not in _READ}
    return fields.streamed(known, sent.get("stream"))


def _input(sent: object) -> list[Fields]:
    if isinstance(sent, str):
        return [{"role": "user", "content": sent}]
    said: list[Fields] = []
    for place, item in enumerate(fields.objects(sent, "input")):
        _add(said, item, f"input[{place}]")
    return said


def _add(said: list[Fields], item: Fields, place: str) -> None:
    kind = item.get("type") or "message"
    if kind == "message":
        said.append(_message(item, place))
    elif kind == "function_call":
        _call(said, item, place)
    elif kind == "function_call_output":
        ident = fields.text(item.get("call_id"), f"{place}.call_id")
        said.append({"role": "tool", "tool_call_id": ident, "content": _plain(item.get("output"), f"{place}.output")})
    elif kind == "item_reference":
        raise fields.unsupported(f"{place}: item_reference is not supported", place, _WHOLE)
    elif kind != "reasoning":
        raise fields.unsupported(f"{place}: {kind!r} is not supported", place, _ELSEWHERE)


def _message(item: Fields, place: str) -> Fields:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise BadField(f"{place}.role: {role!r} is unknown", param=f"{place}.role", remedy="user, assistant, system")
    parts = fields.spread(item.get("content"), f"{place}.content", "input_text")
    content = [_part(part, f"{place}.content[{number}]") for number, part in enumerate(parts)]
    # A template of a small model knows no developer.
    return {"role": "system" if role == "developer" else role, "content": fields.joined(content)}


def _part(part: Fields, place: str) -> Fields:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": fields.text(part.get("text"), f"{place}.text")}
    if kind == "refusal":
        return {"type": "text", "text": fields.text(part.get("refusal"), f"{place}.refusal")}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {
            "type": "image_url",
            "image_url": {"url": fields.text(part["image_url"], f"{place}.image_url"), **detail},
        }
    raise fields.unsupported(f"{place}: {kind!r} is not supported", place, "send text, or images by URL")


def _plain(output: object, place: str) -> str:
    parts = [_part(part, place) for part in fields.spread(output, place, "input_text")]
    if any(part["type"] != "text" for part in parts):
        raise fields.unsupported(f"{place}: only text is supported", place, "send text")
    return "\n".join(part["text"] for part in parts)


def _call(said: list[Fields], item: Fields, place: str) -> None:
    """Calls of one turn belong to one message of the assistant."""
    name, arguments = (
        fields.text(item.get("name"), f"{place}.name"),
        fields.text(item.get("arguments"), f"{place}.arguments"),
    )
    ident = fields.text(item.get("call_id"), f"{place}.call_id")
    call = {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}
    if not said or said[-1]["role"] != "assistant":
        said.append({"role": "assistant", "content": None})
    said[-1].setdefault("tool_calls", []).append(call)


def _tools(sent: Fields) -> Fields:
    if not sent.get("tools"):
        return {}
    tools = [_tool(one, f"tools[{place}]") for place, one in enumerate(fields.objects(sent["tools"], "tools"))]
    choice = sent.get("tool_choice")
    if isinstance(choice, dict):
        choice, tools = _chosen(choice, tools)
    return {"tools": tools, **({"tool_choice": choice} if choice is not None else {})}


def _chosen(choice: Fields, tools: list[Fields]) -> tuple[object, list[Fields]]:
    kind = choice.get("type")
    if kind == "function":
        return {"type": "function", "function": {"name": fields.text(choice.get("name"), "tool_choice.name")}}, tools
    if kind == "allowed_tools":
        allowed = [one.get("name") for one in fields.objects(choice.get("tools"), "tool_choice.tools")]
        return choice.get("mode", "auto"), [one for one in tools if one["function"]["name"] in allowed]
    raise fields.unsupported(f"tool_choice: {kind!r} is not supported", "tool_choice", "choose a function")


def _tool(tool: Fields, place: str) -> Fields:
    if tool.get("type") != "function":
        raise fields.unsupported(f"{place}: {tool.get('type')!r} is not supported", f"{place}.type", _ELSEWHERE)
    fields.text(tool.get("name"), f"{place}.name")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _format(sent: Fields) -> Fields:
    text = fields.inside(sent.get("text"), "text")
    form = fields.inside(text.get("format"), "text.format")
    found: Fields = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    kind = form.get("type", "text")
    if kind == "json_schema":
        names = ("name", "description", "schema", "strict")
        schema = {name: form[name] for name in names if form.get(name) is not None}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        found["response_format"] = {"type": "json_object"}
    elif kind != "text":
        raise fields.unsupported(
            f"text.format.type: {kind!r} is unknown", "text.format", "text, json_schema or json_object"
        )
    return found
