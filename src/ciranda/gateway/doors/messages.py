"""A request in Anthropic's shape (`/v1/messages`) becomes a chat completion.

Blocks of text, images, tool calls and tool results have their like in chat; thinking blocks of earlier turns are left out, since
only who wrote them could check them. What runs at the provider (server tools, MCP servers, files) is refused by name. Fields
that only say how a provider should bill, cache or place the work are left out; those that nobody here knows go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ciranda.gateway.answers import BadField
from ciranda.gateway.doors import fields
from ciranda.gateway.doors.fields import Fields

_READ = frozenset(
    {
        "system", "messages", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "thinking", "stream",
        "output_config", "output_format", "mcp_servers", "container", "context_management", "cache_control", "service_tier",
        "inference_geo", "speed", "diagnostics", "betas",
    }
)  # fmt: skip
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_ELSEWHERE = "run it in your application, and send what it gave as text or as a tool result"


def chat(body: bytes) -> bytes:
    """The chat completion that this request means. Raises Invalid."""
    sent = fields.read(body)
    if not isinstance(sent.get("max_tokens"), int):
        raise BadField("max_tokens: field required", param="max_tokens", remedy="say how long the answer may be")
    return msgspec.json.encode(fields.streamed({**asked(sent), "max_tokens": sent["max_tokens"]}, sent.get("stream")))


def counted(body: bytes) -> bytes:
    """The same for a request that only wants its tokens counted."""
    return msgspec.json.encode(asked(fields.read(body)))


def asked(sent: Fields) -> Fields:
    """What an engine must know of a request to answer or to count it."""
    for name in ("mcp_servers", "container"):
        if sent.get(name):
            raise fields.unsupported(f"{name} is not supported: nothing runs at this gateway", name, _ELSEWHERE)
    system = [{"role": "system", "content": _plain(sent["system"], "system")}] if sent.get("system") else []
    turns = fields.objects(sent.get("messages"), "messages")
    said = [one for place, turn in enumerate(turns) for one in _turn(turn, f"messages.{place}")]
    known: Fields = {"model": sent.get("model"), "messages": [*system, *said]}
    if sent.get("stop_sequences"):
        known["stop"] = sent["stop_sequences"]
    if user := fields.inside(sent.get("metadata"), "metadata").get("user_id"):
        known["user"] = fields.text(user, "metadata.user_id")
    known |= _tools(sent) | _output(sent)
    return known | {name: value for name, value in sent.items() if name not in _READ}


def _tools(sent: Fields) -> Fields:
    if not sent.get("tools"):
        return {}
    found: Fields = {
        "tools": [_tool(one, f"tools.{n}") for n, one in enumerate(fields.objects(sent["tools"], "tools"))]
    }
    choice = fields.inside(sent.get("tool_choice"), "tool_choice")
    if choice.get("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    kind = fields.text(choice.get("type", "auto"), "tool_choice.type")
    if kind == "tool":
        name = fields.text(choice.get("name"), "tool_choice.name")
        found["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif kind not in _CHOICES:
        raise BadField(f"tool_choice.type: {kind!r} is unknown", param="tool_choice", remedy="auto, any, tool or none")
    elif choice:
        found["tool_choice"] = _CHOICES[kind]
    return found


def _tool(tool: Fields, place: str) -> Fields:
    if tool.get("type") not in (None, "custom"):
        raise fields.unsupported(f"{place}: {tool['type']!r} is a tool of the provider", f"{place}.type", _ELSEWHERE)
    function = {"name": fields.text(tool.get("name"), f"{place}.name"), "parameters": tool.get("input_schema") or {}}
    function |= {name: tool[name] for name in ("description", "strict") if name in tool}
    return {"type": "function", "function": function}


def _output(sent: Fields) -> Fields:
    config = fields.inside(sent.get("output_config"), "output_config")
    form = fields.inside(config.get("format") or sent.get("output_format"), "output_config.format")
    found: Fields = {"reasoning_effort": config["effort"]} if config.get("effort") else {}
    if form:
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return found


def _plain(content: object, place: str) -> str:
    """Content that can only be text."""
    texts = []
    for part in fields.spread(content, place, "text"):
        if part.get("type") != "text":
            raise fields.unsupported(f"{place}: {part.get('type')!r} is not supported here", place, "send text")
        texts.append(fields.text(part.get("text"), f"{place}.text"))
    return "\n".join(texts)


def _turn(turn: Fields, place: str) -> Iterator[Fields]:
    role = turn.get("role")
    blocks = fields.spread(turn.get("content"), f"{place}.content", "text")
    if role == "assistant":
        yield _assistant(blocks, f"{place}.content")
    elif role == "system":
        yield {"role": "system", "content": _plain(blocks, f"{place}.content")}
    elif role == "user":
        yield from _user(blocks, f"{place}.content")
    else:
        raise BadField(f"{place}.role: {role!r} is unknown", param=f"{place}.role", remedy="user or assistant")


def _user(blocks: list[Fields], place: str) -> Iterator[Fields]:
    parts = []
    for number, block in enumerate(blocks):
        if block.get("type") == "tool_result":
            ident = fields.text(block.get("tool_use_id"), f"{place}.{number}.tool_use_id")
            told = _plain(block.get("content") or "", f"{place}.{number}.content")
            yield {"role": "tool", "tool_call_id": ident, "content": told}
        else:
            parts.append(_part(block, f"{place}.{number}"))
    if parts:
        yield {"role": "user", "content": fields.joined(parts)}


def _part(block: Fields, place: str) -> Fields:
    kind, source = block.get("type"), fields.inside(block.get("source"), f"{place}.source")
    if kind == "text":
        return {"type": "text", "text": fields.text(block.get("text"), f"{place}.text")}
    if kind == "image" and source.get("type") in ("base64", "url"):
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": fields.text(source.get("data"), f"{place}.source.data")}
    raise fields.unsupported(
        f"{place}: {kind!r} is not supported", place, "send text, images by base64 or URL, or text documents"
    )


def _assistant(blocks: list[Fields], place: str) -> Fields:
    texts, calls = [], []
    for number, block in enumerate(blocks):
        if block.get("type") == "text":
            texts.append(fields.text(block.get("text"), f"{place}.{number}.text"))
        elif block.get("type") == "tool_use":
            calls.append(_call(block, f"{place}.{number}"))
        elif block.get("type") not in ("thinking", "redacted_thinking"):
            raise fields.unsupported(f"{place}.{number}: {block.get('type')!r} is not supported", place, _ELSEWHERE)
    said: Fields = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return said | ({"tool_calls": calls} if calls else {})


def _call(block: Fields, place: str) -> Fields:
    given: Any = block.get("input")
    arguments = msgspec.json.encode({} if given is None else given).decode()
    function = {"name": fields.text(block.get("name"), f"{place}.name"), "arguments": arguments}
    return {"id": fields.text(block.get("id"), f"{place}.id"), "type": "function", "function": function}
