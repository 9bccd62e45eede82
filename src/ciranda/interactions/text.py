"""The words of an interaction: what the user said last, and what the model answered, out of the bodies as they went by.

Bodies are whatever a client and an engine sent, so nothing here raises: what cannot be read gives an empty text. It knows the
chat, completion and embedding shapes; a stream is its data events, joined. Calls of tools are not words and are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
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
    events = (line[5:].strip() for line in body.splitlines() if line.startswith(b"data:"))
    return "".join(_of_choice(_object(event), "delta") for event in events if event.startswith(b"{"))


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
