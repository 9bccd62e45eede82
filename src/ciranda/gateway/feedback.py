"""What a user says of an answer: one small record in the same spool, so it is as safe as the answer it speaks of.

The interaction may not be in the table yet, and need not have gone through this worker: the collector joins by id, and refuses
what the key is not for. A request that carries an `Idempotency-Key` and is sent twice gets the same id twice, and counts once.
Whoever votes again on the same answer replaces their vote; what they leave out the second time stays as it was.

A public key's request is bounded before it is read (see `govern.public`): its origin, its rate, its age, its fields.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any

import msgspec

from ciranda.errors import Forbidden, Invalid, TooLarge
from ciranda.gateway.snapshot import Key
from ciranda.store import clock, ids

THUMBS = {"up": 1, "down": -1}
REASONS = {
    "correct": "the answer was right",
    "helpful": "it was of use",
    "clear": "it was easy to follow",
    "wrong": "something in it was not true",
    "incomplete": "something was missing",
    "outdated": "it was true once",
    "unsafe": "it could do harm",
    "off_topic": "it answered another question",
    "ignored_instructions": "it did not do as it was told",
    "unclear": "it was hard to follow",
}
"""Reasons that mean the same everywhere, in the order that the widget shows them; any other short tag is taken too."""
BODY_BYTES = 256 << 10
LONG, SHORT, TAG, TAGS = 32_000, 256, 64, 20
OLDEST = timedelta(days=30)  # how old an answer may be that a public key speaks of
AHEAD = timedelta(minutes=10)
SHAPE = 'send {"interaction": "<x-ciranda-interaction>", "thumb": "up" or "down"}'


class Misfit(Invalid):
    """One field of the feedback is wrong; `param` names it, as in OpenAI's errors."""

    def __init__(self, param: str, problem: str, remedy: str) -> None:
        super().__init__(f"{param}: {problem}", where="feedback", remedy=remedy)
        self.param = param


def read(body: bytes, key: Key, idempotency: str) -> dict[str, object]:
    """The record of a feedback request; raises Misfit for a field that is wrong, Invalid for one that says nothing."""
    said = {name: READERS[name](name, value) for name, value in _fields(body).items() if value is not None}
    interaction = said.pop("interaction", None) or said.pop("request_id", None)
    if not interaction:
        raise Misfit("interaction", "it is missing", SHAPE)
    if not any(said.get(name) for name in ("thumb", "rating", "correction", "comment", "reasons")):
        raise Invalid("the feedback says nothing", remedy="give a thumb, rating, correction, comment or reasons")
    if key.public is not None:
        _bound(key, interaction, said)
        idempotency = idempotency and f"{interaction}/{idempotency}"  # the key is everybody's, the answer is not
    return {
        "id": _ident(key, idempotency[:SHORT]),
        "ts_ms": clock.now_ms(),
        "interaction": interaction,
        "tenant": key.tenant,
        "key": key.id,
        "user": said.get("user", ""),
        "thumb": said.get("thumb", 0),
        "rating": said.get("rating", 0.0),
        "correction": said.get("correction", ""),
        "comment": said.get("comment", ""),
        "reasons": said.get("reasons", []),
        "idempotency_key": idempotency[:SHORT],
        **({"models": key.models} if "*" not in key.models else {}),
        **({"public": True} if key.public is not None else {}),
    }


def _fields(body: bytes) -> dict[str, Any]:
    if len(body) > BODY_BYTES:
        raise TooLarge(f"the feedback is over {BODY_BYTES:,} bytes", remedy="send shorter texts")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the feedback is no valid JSON: {error}", remedy=SHAPE) from error
    if not isinstance(fields, dict):
        raise Invalid("the feedback is no JSON object", remedy=SHAPE)
    for name in fields:
        if name not in READERS:
            raise Misfit(name[:100], "no such field", f"fields are: {', '.join(READERS)}")
    return fields


def _bound(key: Key, interaction: str, said: Mapping[str, Any]) -> None:
    """What a public key may not do. Raises Forbidden or Misfit."""
    if said.get("correction") and not (key.public and key.public.corrections):
        raise Forbidden("this key takes no corrections", remedy="leave `correction` out, or use another key")
    try:
        made = ids.time_of(interaction)
    except ValueError:
        made = clock.now() - 2 * OLDEST
    if not clock.now() - OLDEST < made < clock.now() + AHEAD:
        remedy = "send the value of a recent answer's x-ciranda-interaction header"
        raise Misfit("interaction", f"a public key speaks of answers of the last {OLDEST.days} days", remedy)


# Fields, each with its bound.


def _text(most: int) -> Callable[[str, Any], str]:
    def reader(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise Misfit(name, f"it is {_kind(value)}", "send a text")
        if len(value) > most:
            raise Misfit(name, f"it has {len(value):,} characters", f"send at most {most:,}")
        return value.strip()

    return reader


def _interaction(name: str, value: Any) -> str:
    """An interaction's id; also the request id that we made of it (`req_<id>`)."""
    text = value.removeprefix("req_") if isinstance(value, str) and name == "request_id" else value
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        shown = value[:100] if isinstance(value, str) else value
        raise Misfit(
            name, f"{shown!r} is no interaction id", "send the value of the answer's x-ciranda-interaction header; a "
            "request id that the client chose itself does not name one answer",
        ) from None  # fmt: skip


def _thumb(name: str, value: Any) -> int:
    if not isinstance(value, str) or value not in THUMBS:
        raise Misfit(name, f"it is {_kind(value)}", 'send "up" or "down"')
    return THUMBS[value]


def _rating(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
        raise Misfit(name, f"it is {_kind(value)}", "send a number from 1 (bad) to 5 (good), or leave it out")
    return float(value)


def _reasons(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > TAGS:
        raise Misfit(name, f"it is {_kind(value)}", f"send a list of at most {TAGS} short tags")
    tags = [_text(TAG)(f"{name}[{place}]", one) for place, one in enumerate(value)]
    for place, tag in enumerate(tags):
        if not tag or not tag.isprintable():
            raise Misfit(f"{name}[{place}]", "it is empty or has control characters", f"such as: {', '.join(REASONS)}")
    return list(dict.fromkeys(tags))


READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "interaction": _interaction,
    "request_id": _interaction,
    "thumb": _thumb,
    "rating": _rating,
    "correction": _text(LONG),
    "comment": _text(LONG),
    "reasons": _reasons,
    "user": _text(SHORT),
}


def _kind(value: Any) -> str:
    """A value as an error may show it: small ones as they are, others by their kind."""
    if isinstance(value, str | int | float | bool) and len(repr(value)) <= 60:
        return repr(value)
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


def _ident(key: Key, idempotency: str) -> str:
    if not idempotency:
        return str(ids.uuid7())
    digest = bytearray(sha256(f"{key.id}\0{idempotency}".encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80  # a UUID of version 8: made by hash
    return str(uuid.UUID(bytes=bytes(digest)))
