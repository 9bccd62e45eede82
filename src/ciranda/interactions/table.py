"""The rows of interactions, feedback and scores as values; `schema` says what each field is.

What is read into one of these is never changed: they are frozen, and so are the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any


def moment(ts_ms: int) -> datetime:
    """Milliseconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC)


@dataclass(frozen=True)
class Score:
    """What a scorer said of one interaction. Without an id, one score per interaction and scorer is kept."""

    interaction: str
    scorer: str
    value: float
    model: str = ""
    version: str = ""
    arm: str = ""
    rollout: str = ""
    ts_ms: int = 0
    id: str = ""

    @property
    def ts(self) -> datetime:
        return moment(self.ts_ms)


@dataclass(frozen=True)
class Feedback:
    """What a user said of one interaction; model, version, arm and rollout are the interaction's."""

    id: str
    ts_ms: int
    sequence: int
    interaction: str
    interaction_ts_ms: int
    tenant: str
    key: str
    user: str
    model: str
    version: str
    arm: str
    rollout: str
    thumb: int
    rating: float
    correction: str
    comment: str
    reasons: tuple[str, ...]
    idempotency_key: str
    thumbs_up: int = 0
    thumbs_down: int = 0

    @property
    def ts(self) -> datetime:
        return moment(self.ts_ms)

    @property
    def cursor(self) -> str:
        """Pass it to `feedback_since` to go on after this one."""
        return str(self.sequence)

    @property
    def first(self) -> bool:
        """Whether it is the first vote on its interaction: it counts one more and takes nothing back."""
        return self.thumbs_up + self.thumbs_down == 1


@dataclass(frozen=True)
class Interaction:
    """One request and its answer through the gateway, as the table `interactions` holds it."""

    id: str
    ts_ms: int
    sequence: int
    tenant: str
    key: str
    user: str
    conversation: str
    model: str
    version: str
    digest: str
    arm: str
    shadow_of: str
    rollout: str
    deployment: str
    replica: str
    engine: str
    endpoint: str
    stream: int
    status: int
    error: str
    finish_reason: str
    latency_ms: float
    first_byte_ms: float
    overhead_ms: float
    prompt_tokens: int
    completion_tokens: int
    cost: float
    request_id: str
    retry_count: int
    language: str
    guard: str
    cached: int
    request: str
    response: str
    input_text: str
    output_text: str
    source: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    counted: str = ""
    feedback: tuple[Feedback, ...] = field(default=())
    scores: tuple[Score, ...] = field(default=())

    @property
    def ts(self) -> datetime:
        return moment(self.ts_ms)

    @property
    def cursor(self) -> str:
        """Pass it to `since` to go on after this one."""
        return str(self.sequence)

    @property
    def place(self) -> str:
        """Pass it to `page` to go on after this one, newest first."""
        return f"{self.ts_ms}.{self.id}"

    @property
    def thumb(self) -> int:
        """The newest vote: 1, -1, or 0 for none."""
        votes = [one for one in self.feedback if one.thumb]
        return max(votes, key=lambda one: (one.ts_ms, one.id)).thumb if votes else 0

    @property
    def failed(self) -> bool:
        """The version's own failure; what the roll-ups count as an error. A client that left or asked wrongly is none."""
        return self.status >= 500 or (self.status < 400 and self.error != "")


INTERACTION_COLUMNS = tuple(one.name for one in fields(Interaction) if one.name not in ("feedback", "scores"))
FEEDBACK_COLUMNS = tuple(one.name for one in fields(Feedback))
SCORE_COLUMNS = tuple(one.name for one in fields(Score))
SCORE_STORED = tuple(name.removesuffix("_ms") if name == "ts_ms" else name for name in SCORE_COLUMNS)


def expressions(columns: tuple[str, ...], *, prefix: str = "") -> str:
    """The columns of a SELECT: times leave as milliseconds, under the names that the dataclasses use."""
    return ", ".join(
        f"toUnixTimestamp64Milli({prefix}{name.removesuffix('_ms')}) AS {name}" if name.endswith("ts_ms")
        else f"{prefix}{name} AS {name}"
        for name in columns
    )  # fmt: skip


def feedback_of(row: Mapping[str, Any]) -> Feedback:
    """One row of `feedback` as a value."""
    return Feedback(**{**row, "reasons": tuple(row["reasons"])})
