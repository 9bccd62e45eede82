"""Changing a request without taking it apart: the model's name is spliced into the client's own bytes.

Engines get `"model": "<wire name>"`; everything else, unknown fields too, arrives byte by byte as the client wrote it. The quick
way replaces one string; it is checked by reading the result again, and whatever is unusual (the word twice, an escape in the
key) takes the way through `dict[str, Raw]`, which still leaves every nested value as it was. So a body can never mean one model
to us and another to the engine.
"""

from __future__ import annotations

import re

import msgspec

from ciranda.errors import Invalid

_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')
_INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'


class StreamOptions(msgspec.Struct, frozen=True):
    """The part of `stream_options` that changes what we do."""

    include_usage: bool | None = None


class Peek(msgspec.Struct, frozen=True):
    """The few fields of a request that the gateway reads."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage chunk itself."""
        return self.stream_options is not None and self.stream_options.include_usage is True


_peek = msgspec.json.Decoder(Peek)
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


def peek(body: bytes) -> Peek:
    """Read the fields that matter; raises Invalid in words a client's developer understands."""
    try:
        if not body.isascii():
            body.decode()  # msgspec passes over bytes it does not read; the record and the engine must not choke on them
        return _peek.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(_explain(str(error)), remedy="see the API reference of chat completions") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the body is no valid JSON: {error}", remedy="send a JSON object with `model`") from error


def _explain(reason: str) -> str:
    if "missing required field `model`" in reason:
        return "you must provide a model parameter"
    return f"the request is not valid: {reason}"


def rewrite(body: bytes, seen: Peek, wire: bytes, *, usage: bool = False) -> bytes:
    """The body with the model's name replaced by `wire` (a JSON string), and the usage chunk asked for when `usage`.

    `seen` is what `peek` gave for this body.
    """
    changed = _quick(body, seen, wire, usage)
    return _thorough(body, wire, usage) if changed is None else changed


def _quick(body: bytes, seen: Peek, wire: bytes, usage: bool) -> bytes | None:
    at = body.find(b'"model"')
    if at < 0 or body.find(b'"model"', at + 7) >= 0 or (usage and b'"stream_options"' in body):
        return None
    match = _MODEL.match(body, at)
    if match is None:
        return None
    start, end = match.span(1)
    if usage:
        brace = body.index(b"{") + 1
        changed = b"".join((body[:brace], _INCLUDE_USAGE, body[brace:start], wire, body[end:]))
    else:
        changed = b"".join((body[:start], wire, body[end:]))
    plain = b"\\" not in body or b"\\u" not in body
    if plain and not usage and seen.model.isascii() and body[start + 1 : end - 1] == seen.model.encode():
        return changed  # no key can be written in another way, and the name stands once: it is the one that was read
    return changed if _means(changed, body[start:end], seen, wire, usage) else None


def _means(changed: bytes, old: bytes, seen: Peek, wire: bytes, usage: bool) -> bool:
    """Whether the spliced body reads as intended: the right string was replaced, at the top."""
    try:
        again = _peek.decode(changed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    named = old == msgspec.json.encode(seen.model) and msgspec.json.encode(again.model) == wire
    return named and (not usage or again.wants_usage)


def _thorough(body: bytes, wire: bytes, usage: bool) -> bytes:
    fields = _raw.decode(body)
    fields["model"] = msgspec.Raw(wire)
    if usage:
        options = msgspec.json.decode(fields.get("stream_options", msgspec.Raw(b"null"))) or {}
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    return msgspec.json.encode(fields)
