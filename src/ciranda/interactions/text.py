"""The words of an interaction: what the user said last, and what the model answered, out of the bodies as they went by.

Bodies are whatever a client and an engine sent, so nothing here raises: what cannot be read gives an empty text. It knows the
chat, completion and embedding shapes; a stream is its data events, joined. Calls of tools are not words and are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None


class _Piece(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    """An event of a stream, as nearly all of them are. Read together and no further than that they take half the time."""

    choices: list[_Piece] | None = None


_decode = msgspec.json.Decoder().decode
_events = msgspec.json.Decoder(list[_Event]).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def of_request(body: bytes) -> str:
    """The text of the last user message, of a prompt, or of an input."""
    sent = _object(body)
    messages = sent.get("messages")
    if isinstance(messages, list):
        said = (one for one in reversed(messages) if isinstance(one, dict) and one.get("role") == "user")
        return _text(next(said, {}).get("content"))
    return _text(sent.get("prompt", sent.get("input")))


def of_response(body: bytes) -> str:
    """The text of the first choice of an answer, whole or streamed."""
    if body.lstrip()[:1] == b"{":
        return _of_choice(_object(body), "message")
    lines = (line[5:].strip() for line in body.splitlines() if line.startswith(b"data:"))
    events = [line for line in lines if line.startswith(b"{")]
    try:
        return "".join(map(_of_event, _events(b"[%b]" % b",".join(events))))
    except _UNREADABLE:
        return "".join(_of_choice(_object(event), "delta") for event in events)


def _of_event(event: _Event) -> str:
    for one in event.choices or ():
        if one.index == 0:
            return (one.text if one.delta is None else one.delta.content) or ""
    return ""


def _of_choice(answer: dict[str, Any], part: str) -> str:
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return ""
    first = [one for one in choices if isinstance(one, dict) and one.get("index", 0) == 0]
    if not first:
        return ""
    holder = first[0].get(part)
    return _text(holder.get("content")) if isinstance(holder, dict) else _text(first[0].get("text"))


def _text(content: object) -> str:
    """A string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (one if isinstance(one, str) else one.get("text") for one in content if isinstance(one, str | dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = _decode(body)
    except _UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}
