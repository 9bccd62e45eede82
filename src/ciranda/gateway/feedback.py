"""What a user says of an answer: one small record in the same spool, so it is as safe as the answer it speaks of.

The interaction may not be in the table yet, and need not have gone through this worker: the collector joins by id. A request
that carries an `Idempotency-Key` and is sent twice gets the same id twice, and counts once.
"""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import Annotated, Literal

import msgspec

from ciranda.errors import Invalid
from ciranda.gateway.snapshot import Key
from ciranda.store import clock, ids

Short = Annotated[str, msgspec.Meta(max_length=256)]
Long = Annotated[str, msgspec.Meta(max_length=32_000)]
THUMBS = {"up": 1, "down": -1}


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/feedback`."""

    interaction: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    thumb: Literal["up", "down"] | None = None
    rating: Annotated[float, msgspec.Meta(ge=0, le=5)] | None = None
    correction: Long | None = None
    comment: Long | None = None
    reasons: Annotated[list[Short], msgspec.Meta(max_length=20)] = msgspec.field(default_factory=list)
    user: Short = ""


def read(body: bytes, key: Key, idempotency: str) -> dict[str, object]:
    """The record of a feedback request; raises Invalid for one that says nothing or names no interaction."""
    try:
        said = msgspec.json.decode(body, type=Feedback)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        remedy = 'send {"interaction": "<x-ciranda-interaction>", "thumb": "up" or "down"}'
        raise Invalid(f"the feedback is not valid: {error}", remedy=remedy) from error
    _check(said)
    return {
        "id": _ident(key, idempotency[:256]),
        "ts_ms": clock.now_ms(),
        "interaction": said.interaction,
        "tenant": key.tenant,
        "key": key.id,
        "user": said.user,
        "thumb": THUMBS.get(said.thumb or "", 0),
        "rating": said.rating or 0.0,
        "correction": said.correction or "",
        "comment": said.comment or "",
        "reasons": said.reasons,
        "idempotency_key": idempotency[:256],
    }


def _check(said: Feedback) -> None:
    try:
        uuid.UUID(said.interaction)
    except ValueError as error:
        remedy = "send the value of the answer's x-ciranda-interaction header"
        raise Invalid(f"{said.interaction!r} is no interaction id", remedy=remedy) from error
    if said.thumb is None and said.rating is None and not (said.correction or said.comment or said.reasons):
        raise Invalid("the feedback says nothing", remedy="give a thumb, rating, correction, comment or reasons")


def _ident(key: Key, idempotency: str) -> str:
    if not idempotency:
        return str(ids.uuid7())
    digest = bytearray(sha256(f"{key.id}\0{idempotency}".encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80  # a UUID of version 8: made by hash
    return str(uuid.UUID(bytes=bytes(digest)))
