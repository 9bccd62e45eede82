"""The metadata of an interaction as the spool carries it; the collector's table has the same names.

One mutable value per request, filled as the request moves on, encoded once. Times are milliseconds; `overhead_ms` is our own
share: the latency less the time spent waiting for an engine.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct):
    """An interaction. Field by field in `docs/`."""

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
