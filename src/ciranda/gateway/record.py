"""The metadata of an interaction as the spool carries it; the collector's table has the same names.

One mutable value per request, filled as the request moves on (`noting`), encoded once. Times are milliseconds; `overhead_ms` is our
own share: the latency less the time spent waiting for an engine.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class Record(msgspec.Struct, omit_defaults=True):
    """An interaction. Field by field in `docs/`. What is as always is left out: a third less to write, and to check sums of."""

    id: str
    ts_ms: int
    tenant: str = "default"
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
    stream: int = 0
    status: int = 0
    error: str = ""
    finish_reason: str = ""
    latency_ms: float = 0.0
    first_byte_ms: float = 0.0
    overhead_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    request_id: str = ""
    retry_count: int = 0
    language: str = ""
    guard: str = ""
    cost: float | UnsetType = UNSET  # written for models with a price
    cached: int | UnsetType = UNSET  # written for answers that were kept
    trace_id: str | UnsetType = UNSET  # these three when the client sent a traceparent
    span_id: str | UnsetType = UNSET
    parent_span_id: str | UnsetType = UNSET
    counted: str | UnsetType = UNSET  # written where the engine did not


class Event(msgspec.Struct):
    """Something that happened to an interaction on its way: a try that failed before another one answered it."""

    id: str
    ts_ms: int
    event: str
    interaction: str
    model: str
    version: str
    arm: str
    rollout: str
    deployment: str
    replica: str
    reason: str


encode = msgspec.json.Encoder().encode
