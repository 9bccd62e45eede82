"""Reading a client's JSON with errors that name the field."""

from __future__ import annotations

from typing import Any

import msgspec

from ciranda.errors import Invalid
from ciranda.gateway.answers import BadField, Unsupported

Fields = dict[str, Any]


def read(body: bytes) -> Fields:
    """The body as an object. Raises Invalid."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the body is no valid JSON: {error}", remedy="send a JSON object") from error
    if not isinstance(fields, dict):
        raise Invalid("the body is no JSON object", remedy="send a JSON object with `model`")
    return fields


def text(value: object, name: str) -> str:
    """A string, or an Invalid that says where it is missing."""
    if not isinstance(value, str):
        raise BadField(f"{name}: a string is required", param=name, remedy="see the API reference")
    return value


def objects(value: object, name: str) -> list[Fields]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadField(f"{name}: a list of objects is required", param=name, remedy="see the API reference")
    return value


def inside(value: object, name: str) -> Fields:
    """An object; nothing is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadField(f"{name}: an object is required", param=name, remedy="see the API reference")
    return value


def spread(value: object, name: str, kind: str) -> list[Fields]:
    """Content that may be a bare string, as a list of parts."""
    return [{"type": kind, "text": value}] if isinstance(value, str) else objects(value, name)


def unsupported(what: str, name: str, remedy: str) -> Unsupported:
    """What this gateway cannot do, by the field that asks for it."""
    return Unsupported(what, param=name, remedy=remedy)


def joined(parts: list[Fields]) -> str | list[Fields]:
    """Chat content: one text as a string, else the parts."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def streamed(chat: Fields, stream: object) -> Fields:
    """The chat request with its wish for a stream; usage is always asked for, since these doors always tell it."""
    if stream is not None and not isinstance(stream, bool):
        raise BadField("stream: true or false is required", param="stream", remedy="send a boolean")
    if stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat
