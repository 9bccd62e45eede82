"""Frames of the spool become rows: metadata checked against its shape, texts read out of the bodies, days told apart.

The shapes are the contract with the gateway: unknown fields are passed over, missing ones have their defaults, and a value
that cannot be (a status of a million, a text for a number) makes the frame a bad one, which is put aside and never blocks
those behind it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from ciranda.interactions import text
from ciranda.interactions.spool import Frame

Moment = Annotated[int, msgspec.Meta(ge=0, lt=1 << 42)]  # milliseconds; the year 2109 is far enough
Small = Annotated[int, msgspec.Meta(ge=0, le=255)]
Status = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Tokens = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Filled = Annotated[str, msgspec.Meta(min_length=1)]

Row = dict[str, Any]
Shape = TypeVar("Shape")


class InteractionMeta(msgspec.Struct, frozen=True):
    """What the gateway writes beside request and response."""

    id: Filled
    ts_ms: Moment
    tenant: str = ""
    key: str = ""
    user: str = ""
    conversation: str = ""
    model: str = ""
    version: str = ""
    digest: str = ""
    arm: str = ""
    shadow_of: str = ""
    rollout: str = ""
    deployment: str = ""
    replica: str = ""
    engine: str = ""
    endpoint: str = ""
    stream: Small = 0
    status: Status = 0
    error: str = ""
    finish_reason: str = ""
    latency_ms: float = 0.0
    first_byte_ms: float = 0.0
    overhead_ms: float = 0.0
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    cost: float = 0.0
    request_id: str = ""
    retry_count: Small = 0
    language: str = ""
    guard: str = ""
    cached: Small = 0
    source: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    counted: str = ""


class FeedbackMeta(msgspec.Struct, frozen=True):
    """What a user said of an interaction."""

    id: Filled
    ts_ms: Moment
    interaction: str
    tenant: str = ""
    key: str = ""
    user: str = ""
    thumb: Annotated[int, msgspec.Meta(ge=-1, le=1)] = 0
    rating: Annotated[float, msgspec.Meta(ge=0, le=5)] | None = None
    correction: str | None = None
    comment: str | None = None
    reasons: list[str] | None = None
    idempotency_key: str = ""
    models: list[str] | None = None  # what the key is limited to; None is all models of its tenant
    public: bool = False  # whether everybody has the key


class ScoreMeta(msgspec.Struct, frozen=True):
    """What a scorer said of an interaction."""

    id: Filled
    ts_ms: Moment
    interaction: str
    scorer: Filled
    value: float
    model: str = ""
    version: str = ""
    arm: str = ""
    rollout: str = ""


class StartedMeta(msgspec.Struct, frozen=True):
    """A stream that began."""

    id: Filled
    ts_ms: Moment
    model: str = ""
    version: str = ""


class EventMeta(msgspec.Struct, frozen=True):
    """Something that happened on the way of an interaction."""

    id: Filled
    ts_ms: Moment
    event: str = ""
    model: str = ""


def shaped(frame: Frame, shape: type[Shape]) -> Shape:
    """The metadata of a frame in its shape; raises msgspec.MsgspecError or UnicodeDecodeError when it has another."""
    return msgspec.json.decode(frame.meta, type=shape, strict=False)


def interaction(frame: Frame) -> Row:
    """A row of `interactions`, without its sequence."""
    row = msgspec.structs.asdict(shaped(frame, InteractionMeta))
    row["request"], row["response"] = frame.request, frame.response
    row["input_text"], row["output_text"] = text.of_request(frame.request), text.of_response(frame.response)
    return row


def feedback(frame: Frame) -> Row:
    """A row of `feedback`, without its sequence and what the interaction lends it."""
    meta = shaped(frame, FeedbackMeta)
    row = msgspec.structs.asdict(meta)
    row |= {"rating": meta.rating or 0.0, "correction": meta.correction or "", "comment": meta.comment or ""}
    return row | {"reasons": meta.reasons or []}


def score(frame: Frame) -> Row:
    """A row of `scores`."""
    return msgspec.structs.asdict(shaped(frame, ScoreMeta))


def started(frame: Frame) -> Row:
    """A row of `started`."""
    return msgspec.structs.asdict(shaped(frame, StartedMeta)) | {"meta": frame.meta}


def event(frame: Frame) -> Row:
    """A row of `events`."""
    meta = shaped(frame, EventMeta)
    return {"id": meta.id, "ts_ms": meta.ts_ms, "kind": meta.event, "model": meta.model, "meta": frame.meta}
