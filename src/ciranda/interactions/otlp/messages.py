"""The ways in which conventions write a conversation, all read as OpenAI's chat messages.

    parts      `[{"role", "parts": [{"type": "text", "content"}, tool_call, tool_call_response, …]}]`, as JSON or as values
    indexed    one attribute per leaf: `gen_ai.prompt.0.role`, `llm.input_messages.0.message.tool_calls.0.…`
    events     one event per message (`gen_ai.user.message`, `gen_ai.choice`), or one with JSON in it (`gen_ai.content.prompt`)

Whatever cannot be read gives no message, never an error: a trace with odd content is still a call with its tokens and times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Message = dict[str, Any]
MOST = 2_000  # messages, or parts of one: indexed names could claim any number

_decode = msgspec.json.Decoder().decode


def loads(value: object) -> Any:
    """A value that may stand as JSON in a text; None when it is neither."""
    if not isinstance(value, str):
        return value
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def of_parts(value: object) -> list[Message]:
    """Messages of parts; plain chat messages are taken as they are."""
    given = loads(value)
    found = given if isinstance(given, list) else [given] if isinstance(given, dict) else []
    return [message for one in found[:MOST] if isinstance(one, dict) for message in _of_parts(one)]


def _of_parts(given: Message) -> list[Message]:
    parts = given.get("parts")
    role = str(given.get("role") or "user")
    if not isinstance(parts, list):
        return [_plain(given, role)]
    told = [one for one in parts[:MOST] if isinstance(one, dict)]
    results = [one for one in told if one.get("type") == "tool_call_response"]
    messages = [_result(one) for one in results]
    rest = [one for one in told if one.get("type") != "tool_call_response"]
    if rest or not results:
        messages.insert(0, _message(role, rest))
    if reason := given.get("finish_reason"):
        messages[-1]["finish_reason"] = str(reason)
    return messages


def _plain(given: Message, role: str) -> Message:
    kept = ("content", "tool_calls", "tool_call_id", "name", "finish_reason", "reasoning_content")
    return {"role": role, **{name: given[name] for name in kept if given.get(name) is not None}}


def _message(role: str, parts: Sequence[Message]) -> Message:
    message: Message = {"role": role, "content": _content([one for one in parts if one.get("type") in CONTENT])}
    thoughts = [str(one.get("content", "")) for one in parts if one.get("type") in ("reasoning", "thinking")]
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    calls = [_call(one) for one in parts if one.get("type") == "tool_call"]
    if calls:
        message["tool_calls"] = calls
    return message


CONTENT = ("text", "uri", "blob", "file", "image", "image_url")


def _content(parts: Sequence[Message]) -> Any:
    """One text when all is text, else the list of parts; None without any."""
    if not parts:
        return None
    if all(one.get("type") == "text" for one in parts):
        return "\n".join(str(one.get("content", one.get("text", ""))) for one in parts)
    return [_part(one) for one in parts]


def _part(one: Message) -> Message:
    if one.get("type") == "text":
        return {"type": "text", "text": str(one.get("content", one.get("text", "")))}
    address = one.get("uri") or one.get("url")
    if one.get("type") == "blob":
        address = (
            f"data:{one.get('mime_type', 'application/octet-stream')};base64,{one.get('content', one.get('data', ''))}"
        )
    return {"type": "image_url", "image_url": {"url": str(address)}} if address else dict(one)


def _call(one: Mapping[str, Any]) -> Message:
    return call(one.get("id"), one.get("name"), one.get("arguments"))


def call(identifier: object, name: object, arguments: object) -> Message:
    """A call of a tool as OpenAI writes it: its arguments are a text."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments if arguments is not None else {})
    return {"id": str(identifier or ""), "type": "function", "function": {"name": str(name or ""), "arguments": text}}


def _result(one: Message) -> Message:
    result = one.get("response", one.get("result"))
    text = result if isinstance(result, str) else json.dumps(result)
    return {"role": "tool", "tool_call_id": str(one.get("id") or ""), "content": text}


def of_indexed(attributes: Mapping[str, Any], prefix: str) -> list[Message]:
    """Messages of names with numbers in them. `prefix` ends before the first number."""
    flat = [(name[len(prefix) :].split("."), value) for name, value in attributes.items() if name.startswith(prefix)]
    tree = _tree(flat)
    return [_of_leaves(one.get("message", one.get("embedding", one))) for one in _listed(tree) if isinstance(one, dict)]


def _tree(flat: Iterable[tuple[list[str], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat:
        holder = tree
        for step in path[:-1][:DEEPEST]:
            inner = holder.setdefault(step, {})
            if not isinstance(inner, dict):
                break
            holder = inner
        else:
            holder[path[-1]] = value
    return tree


DEEPEST = 12


def _listed(tree: object) -> list[Any]:
    """The values of a dict of numbers, in the order of the numbers."""
    if not isinstance(tree, dict):
        return []
    numbered = sorted(
        (int(key), value) for key, value in tree.items() if key.isascii() and key.isdigit() and len(key) < 7
    )
    return [value for _, value in numbered[:MOST]]


def _of_leaves(given: object) -> Message:
    """One message of a tree: Traceloop's leaves or OpenInference's."""
    if not isinstance(given, dict):
        return {"role": "user", "content": None}
    message: Message = {"role": str(given.get("role") or "user"), "content": given.get("content", given.get("text"))}
    contents = [one.get("message_content", one) for one in _listed(given.get("contents")) if isinstance(one, dict)]
    if contents:
        message["content"] = _content(
            [{**one, "type": one.get("type", "text")} for one in contents if isinstance(one, dict)]
        )
    if calls := [_leaf_call(one) for one in _listed(given.get("tool_calls")) if isinstance(one, dict)]:
        message["tool_calls"] = calls
    for name in ("tool_call_id", "name", "finish_reason"):
        if given.get(name):
            message[name] = str(given[name])
    return message


def _leaf_call(one: Message) -> Message:
    held = one.get("tool_call", one)
    function = held.get("function", held) if isinstance(held, dict) else {}
    holder = function if isinstance(function, dict) else {}
    return call(held.get("id") if isinstance(held, dict) else "", holder.get("name"), holder.get("arguments"))


def of_event(role: str, attributes: Mapping[str, Any]) -> Message:
    """A message that is an event: its fields are the event's attributes, `message` may hold them as one."""
    held = loads(attributes.get("message"))
    given = {**attributes, **held} if isinstance(held, dict) else dict(attributes)
    for name in ("tool_calls", "content"):
        if isinstance(given.get(name), str) and given[name][:1] in "[{":
            given[name] = loads(given[name]) or given[name]
    if "id" in given and role == "tool":
        given["tool_call_id"] = given["id"]
    return _plain(given, str(given.get("role") or role))
