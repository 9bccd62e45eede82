"""Shadow copies: a candidate answers real questions, and nobody waits for it.

A copy is sent after the user's answer has left, to the version in the shadow, and recorded under the arm `shadow` with the id of
the interaction it belongs to. Few run at a time, few wait, and their bytes are bounded; what is over that is dropped and counted:
a slow candidate costs its own copies and nothing else.
"""

from __future__ import annotations

import random
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ciranda.errors import StorageFull
from ciranda.gateway import limits, route, splice, tap
from ciranda.gateway.noting import Notes
from ciranda.gateway.snapshot import Arm, Limits
from ciranda.gateway.upstream import Upstream
from ciranda.interactions.spool import INTERACTION
from ciranda.store import clock, ids

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway
    from ciranda.gateway.relay import Relay


class Shadows:
    """The copies of one worker."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.running: set[Copy] = set()
        self._waiting: deque[Copy] = deque()
        self._bytes = 0

    def offer(self, relay: Relay) -> None:
        """Copy an answered request to its model's shadow, if there is one and chance wants it."""
        shadow = relay.model.shadow
        if shadow is None or not shadow.replicas or random.random() >= shadow.share:  # noqa: S311  (no secret)
            return
        size = len(relay.outgoing)
        if len(self._waiting) >= limits.SHADOWS_WAITING or self._bytes + size > limits.SHADOW_BYTES:
            self.gateway.metrics.counters["shadow_dropped"] += 1
            return
        self._bytes += size
        self._waiting.append(Copy(self, relay, shadow))
        self.advance()

    def advance(self) -> None:
        """Start what may run."""
        while self._waiting and len(self.running) < limits.SHADOWS_RUNNING:
            copy = self._waiting.popleft()
            self.running.add(copy)
            copy.start()

    def done(self, copy: Copy) -> None:
        """A copy is finished, well or not."""
        self.running.discard(copy)
        self._bytes -= len(copy.body)
        self.advance()

    def stop(self) -> None:
        """Drop what waits and cancel what runs: the worker ends."""
        self.gateway.metrics.counters["shadow_dropped"] += len(self._waiting)
        self._waiting.clear()
        for copy in list(self.running):
            copy.give_up(503, "stopped")


class Copy:
    """One copy on its way."""

    def __init__(self, shadows: Shadows, relay: Relay, arm: Arm) -> None:
        self._shadows = shadows
        self._arm = arm
        self._seen = relay.seen
        self._wire = relay.door.wire
        self._limits: Limits = relay.model.limits
        self.body = relay.outgoing
        self._request = relay.body
        self._pieces: list[bytes] = []
        self._size = self._status = 0
        self._call: Upstream | None = None
        self._started = 0.0
        live = relay.record
        self.record = record = Notes(ids.text7(), clock.now_ms(), live.tenant, live.key)
        record.name(arm, "")
        record.arm, record.shadow_of, record.rollout, record.model = "shadow", live.id, live.rollout, live.model
        record.user, record.conversation, record.endpoint = live.user, live.conversation, live.endpoint
        record.stream, record.request_id, record.guard = int(relay.streams), live.request_id, live.guard
        if live.trace_id and live.span_id:
            record.follow(live.trace_id, live.span_id)

    def start(self) -> None:
        """Send it."""
        self._started = monotonic()
        replica = route.pick(self._arm.replicas, self._started)
        if replica is None:
            self.give_up(503, "Unavailable")
            return
        self.record.replica = replica.id
        self._shadows.gateway.metrics.counters["shadow_sent"] += 1
        usage = bool(self.record.stream) and not self._seen.wants_usage
        body = splice.rewrite(self.body, self._seen, replica.wire, usage=usage)
        self._call = replica.send(self, self._wire, body, self.record.request_id.encode("latin-1"))

    def tick(self, now: float) -> None:
        """Give up when it takes too long."""
        if now - self._started > self._limits.timeout_s:
            self.give_up(504, "UpstreamSlow")

    def give_up(self, status: int, error: str) -> None:
        """Cancel, and record that it failed."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self._close(status, error)

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status

    def upstream_data(self, payload: bytes) -> None:
        if not self._size:
            self.record.first_byte_ms = self._since_start()
        self._size += len(payload)
        self._pieces.append(payload)
        if self._size > limits.ANSWER_BYTES:
            self.give_up(502, "UpstreamFailed")

    def upstream_end(self) -> None:
        self._call = None
        self._close(self._status, "" if self._status < 400 else "upstream_error")

    def upstream_failed(self, call: Upstream, reason: str) -> None:
        self._call = None
        self._close(502, "UpstreamFailed")

    def _since_start(self) -> float:
        return round((monotonic() - self._started) * 1000, 3)

    def _close(self, status: int, error: str) -> None:
        record, answer = self.record, b"".join(self._pieces)
        summary = tap.of_stream(answer) if record.stream else tap.of_answer(answer)
        record.status, record.error, record.latency_ms = status, error, self._since_start()
        if status == 200:
            record.sum_up(summary, self._request, answer)
        gateway = self._shadows.gateway
        try:
            gateway.write(INTERACTION, record.encoded(), self._request, answer)
        except StorageFull:
            gateway.metrics.counters["shadow_dropped"] += 1
        gateway.metrics.answered(
            record.model, record.version, record.arm, status,
            latency=record.latency_ms / 1000, first_byte=record.first_byte_ms / 1000, overhead=0.0,
            tokens=(record.prompt_tokens, record.completion_tokens),
        )  # fmt: skip
        self._shadows.done(self)
