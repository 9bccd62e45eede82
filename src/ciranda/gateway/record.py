"""The metadata of an interaction as the spool carries it; the collector's table has the same names.

One mutable value per request, filled as the request moves on, encoded once. Times are milliseconds; `overhead_ms` is our own
share: the latency less the time spent waiting for an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from ciranda.gateway import trace
from ciranda.gateway.counting import estimate

if TYPE_CHECKING:
    from ciranda.gateway.doors.chunks import Used
    from ciranda.gateway.server import Request
    from ciranda.gateway.snapshot import Arm
    from ciranda.gateway.splice import Peek
    from ciranda.gateway.tap import Summary, Usage


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

    def describe(self, request: Request, seen: Peek) -> None:
        """Note who asked, and how."""
        self.user = (seen.user or _text(request.headers.get(b"x-ciranda-user")))[:256]
        self.conversation = _text(request.headers.get(b"x-ciranda-conversation"))[:256]
        self.endpoint = request.path.decode("latin-1")
        self.stream = 1 if seen.stream else 0
        self.request_id = request.request_id.decode("latin-1")
        if b"traceparent" in request.headers:
            self.follow(*trace.read(request.headers[b"traceparent"]))

    def follow(self, trace_id: str, parent: str) -> None:
        """Note the trace that it belongs to, and the span that asked."""
        if trace_id:
            self.trace_id, self.parent_span_id, self.span_id = trace_id, parent, trace.span_of(self.id)

    def name(self, arm: Arm, replica: str) -> None:
        """Note who answers."""
        self.version, self.digest, self.arm = arm.version, arm.digest, arm.name
        self.deployment, self.engine, self.replica = arm.deployment, arm.engine, replica

    def sum_up(self, summary: Summary, request: bytes, answer: bytes) -> Used | None:
        """Note how an answer ended, and what it used. Where the engine did not say, an estimate is noted as one, and returned."""
        self.finish_reason = summary.finish_reason[:64]
        used: Usage | None = summary.usage
        counted = None
        if used is None:
            used = counted = estimate(request, answer)
            self.counted = "estimated"
        self.prompt_tokens = used.prompt_tokens or 0
        self.completion_tokens = used.completion_tokens or 0
        return counted


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


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""
