"""An interaction's record while its request is on its way: who asked, who answers, what it used.

A field is set more often than it is stored, and setting one of a msgspec struct costs ten times what it costs here (compiled), so
the struct is made once, at the end: see `record`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciranda.gateway import trace
from ciranda.gateway.asked import Peek
from ciranda.gateway.counting import estimate
from ciranda.gateway.record import Record, encode
from ciranda.gateway.server import Request
from ciranda.gateway.snapshot import Arm
from ciranda.gateway.tap import Summary, Usage

if TYPE_CHECKING:
    from ciranda.gateway.doors.chunks import Used

LONGEST = 256  # characters of a user's or a conversation's name


class Notes:
    """What becomes a `record.Record`; the same fields, and the same meaning."""

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
    cost: float | None = None  # known for models with a price
    cached: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    counted: str = ""

    def __init__(self, ident: str, ts_ms: int, tenant: str, key: str) -> None:
        self.id = ident
        self.ts_ms = ts_ms
        self.tenant = tenant
        self.key = key

    def describe(self, request: Request, seen: Peek) -> None:
        """Note who asked, and how."""
        headers = request.headers
        self.user = (seen.user or _text(headers.get(b"x-ciranda-user")))[:LONGEST]
        self.conversation = _text(headers.get(b"x-ciranda-conversation"))[:LONGEST]
        self.endpoint = request.path.decode("latin-1")
        self.stream = 1 if seen.stream else 0
        self.request_id = request.request_id.decode("latin-1")
        if b"traceparent" in headers:
            trace_id, parent = trace.read(headers[b"traceparent"])
            self.follow(trace_id, parent)

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
        usage: Usage | None = summary.usage
        if usage is not None:
            self.prompt_tokens = usage.prompt_tokens or 0
            self.completion_tokens = usage.completion_tokens or 0
            return None
        counted = estimate(request, answer)
        self.counted = "estimated"
        self.prompt_tokens, self.completion_tokens = counted.prompt_tokens or 0, counted.completion_tokens or 0
        return counted

    def encoded(self) -> bytes:
        """As the spool carries it. What is as always is left out."""
        made = Record(
            self.id, self.ts_ms, self.tenant, self.key, self.user, self.conversation, self.model, self.version, self.digest,
            self.arm, self.shadow_of, self.rollout, self.deployment, self.replica, self.engine, self.endpoint, self.stream,
            self.status, self.error, self.finish_reason, self.latency_ms, self.first_byte_ms, self.overhead_ms,
            self.prompt_tokens, self.completion_tokens, self.request_id, self.retry_count, self.language, self.guard,
        )  # fmt: skip
        if self.cost is not None:
            made.cost = self.cost
        if self.cached:
            made.cached = self.cached
        if self.trace_id:
            made.trace_id, made.span_id, made.parent_span_id = self.trace_id, self.span_id, self.parent_span_id
        if self.counted:
            made.counted = self.counted
        return encode(made)


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""
