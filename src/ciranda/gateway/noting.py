"""Filling a record as its request moves on: who asked, who answers, what it used. The record itself is data, see `record`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciranda.gateway import trace
from ciranda.gateway.asked import Peek
from ciranda.gateway.counting import estimate
from ciranda.gateway.record import Record
from ciranda.gateway.server import Request
from ciranda.gateway.snapshot import Arm
from ciranda.gateway.tap import Summary, Usage

if TYPE_CHECKING:
    from ciranda.gateway.doors.chunks import Used

LONGEST = 256  # characters of a user's or a conversation's name


def describe(record: Record, request: Request, seen: Peek) -> None:
    """Note who asked, and how. What is as always stays as it is."""
    headers = request.headers
    user = seen.user or _text(headers.get(b"x-ciranda-user"))
    if user:
        record.user = user[:LONGEST]
    conversation = _text(headers.get(b"x-ciranda-conversation"))
    if conversation:
        record.conversation = conversation[:LONGEST]
    record.endpoint = request.path.decode("latin-1")
    if seen.stream:
        record.stream = 1
    record.request_id = request.request_id.decode("latin-1")
    if b"traceparent" in headers:
        trace_id, parent = trace.read(headers[b"traceparent"])
        follow(record, trace_id, parent)


def follow(record: Record, trace_id: str, parent: str) -> None:
    """Note the trace that it belongs to, and the span that asked."""
    if trace_id:
        record.trace_id, record.parent_span_id, record.span_id = trace_id, parent, trace.span_of(record.id)


def name(record: Record, arm: Arm, replica: str) -> None:
    """Note who answers."""
    record.version, record.digest, record.arm = arm.version, arm.digest, arm.name
    record.deployment, record.engine, record.replica = arm.deployment, arm.engine, replica


def sum_up(record: Record, summary: Summary, request: bytes, answer: bytes) -> Used | None:
    """Note how an answer ended, and what it used. Where the engine did not say, an estimate is noted as one, and returned."""
    record.finish_reason = summary.finish_reason[:64]
    usage: Usage | None = summary.usage
    if usage is not None:
        record.prompt_tokens = usage.prompt_tokens or 0
        record.completion_tokens = usage.completion_tokens or 0
        return None
    counted = estimate(request, answer)
    record.counted = "estimated"
    record.prompt_tokens, record.completion_tokens = counted.prompt_tokens or 0, counted.completion_tokens or 0
    return counted


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""
