"""Counting tokens where an engine does not tell: an estimate that says that it is one.

Every four bytes of text are a token, the rule of thumb for English that providers publish; a stream has at least as many tokens
as events with text, since engines send one or more in each. An estimate is marked wherever it is shown: `counted: estimated` in
the record, `"estimated": true` beside the numbers in an answer. Text means messages, tools, prompts and answers; images count
nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ciranda.gateway.doors.chunks import Used
from ciranda.interactions import text

BYTES_PER_TOKEN = 4
TURN_TOKENS = 4  # what templates put around each message


def estimate(request: bytes, answer: bytes) -> Used:
    """What a request and its answer, both in chat form, may have used."""
    said = _tokens(text.of_response(answer)) + _tokens(_calls(answer))
    return Used(prompt_tokens=of_request(request), completion_tokens=max(said, _spoken(answer)), estimated=True)


def of_request(request: bytes) -> int:
    """What a chat request, a prompt or an input may be."""
    try:
        sent = msgspec.json.decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    if not isinstance(sent, dict):
        return 0
    messages = sent.get("messages")
    turns = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    more = [sent[name] for name in ("tools", "prompt", "input") if name in sent]
    return sum(_tokens(_texts(turn)) + TURN_TOKENS for turn in turns) + sum(_tokens(_texts(one)) for one in more)


def _tokens(said: str) -> int:
    return -(-len(said.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _texts(value: Any) -> str:
    """All strings of a value, but for images."""
    if isinstance(value, str):
        return "" if value.startswith("data:") else value
    if isinstance(value, dict):
        return "".join(_texts(one) for name, one in value.items() if name not in ("role", "type"))
    return "".join(map(_texts, value)) if isinstance(value, list) else ""


def _calls(answer: bytes) -> str:
    """Arguments of tool calls in a whole answer."""
    if b'"tool_calls"' not in answer or not answer.lstrip().startswith(b"{"):
        return ""
    try:
        choices = msgspec.json.decode(answer)["choices"]
        return _texts([choice["message"].get("tool_calls") for choice in choices])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return ""


def _spoken(answer: bytes) -> int:
    """Events of a stream that carry a piece of text."""
    return 0 if answer.lstrip().startswith(b"{") else answer.count(b'"delta":{"content"') + answer.count(b'"arguments"')
