"""Changing a request without taking it apart: the model's name is spliced into the client's own bytes.

Engines get `"model": "<wire name>"`; everything else, unknown fields too, arrives byte by byte as the client wrote it. The quick
way replaces one string; it is checked by reading the result again, and whatever is unusual (the word twice, an escape in the
key) takes the way through `dict[str, Raw]`, which still leaves every nested value as it was. So a body can never mean one model
to us and another to the engine.

Bytes are looked for with `find`: `in` first takes its left side for a number, and what that raises costs more than the search.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ciranda.gateway import asked
from ciranda.gateway.asked import Peek

_MODEL: Final = b'"model"'
_INCLUDE_USAGE: Final = b'"stream_options":{"include_usage":true},'
_SPACE: Final = frozenset(b" \t\r\n")
_QUOTE: Final = 0x22
_COLON: Final = 0x3A


def rewrite(body: bytes, seen: Peek, wire: bytes, *, usage: bool = False) -> bytes:
    """The body with the model's name replaced by `wire` (a JSON string), and the usage chunk asked for when `usage`.

    `seen` is what `asked.peek` gave for this body.
    """
    changed = _quick(body, seen, wire, usage)
    return _thorough(body, wire, usage) if changed is None else changed


def _quick(body: bytes, seen: Peek, wire: bytes, usage: bool) -> bytes | None:
    at = body.find(_MODEL)
    if at < 0 or body.find(_MODEL, at + 7) >= 0 or (usage and body.find(b'"stream_options"') >= 0):
        return None
    start = _value(body, at + 7)
    end = body.find(b'"', start + 1) + 1 if start else 0
    if not end:
        return None
    old = body[start:end]
    if old.find(b"\\") >= 0:
        return None
    if usage:
        brace = body.index(b"{") + 1
        changed = b"".join((body[:brace], _INCLUDE_USAGE, body[brace:start], wire, body[end:]))
    else:
        changed = b"".join((body[:start], wire, body[end:]))
    plain = body.find(b"\\") < 0 or body.find(b"\\u") < 0
    if plain and not usage and seen.model.isascii() and old[1:-1] == seen.model.encode():
        return changed  # no key can be written in another way, and the name stands once: it is the one that was read
    return changed if _means(changed, old, seen, wire, usage) else None


def _value(body: bytes, at: int) -> int:
    """Where the string begins that is the value of the key that ends at `at`; 0 when there is none."""
    colons, size = 0, len(body)
    while at < size:
        here = body[at]
        if here == _QUOTE:
            return at if colons == 1 else 0
        if here == _COLON:
            colons += 1
        elif here not in _SPACE:
            return 0
        at += 1
    return 0


def _means(changed: bytes, old: bytes, seen: Peek, wire: bytes, usage: bool) -> bool:
    """Whether the spliced body reads as intended: the right string was replaced, at the top."""
    try:
        again = asked.read(changed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    named = old == msgspec.json.encode(seen.model) and msgspec.json.encode(again.model) == wire
    return named and (not usage or again.wants_usage)


def _thorough(body: bytes, wire: bytes, usage: bool) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(wire)
    if usage:
        options = msgspec.json.decode(fields.get("stream_options", msgspec.Raw(b"null"))) or {}
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    return msgspec.json.encode(fields)
