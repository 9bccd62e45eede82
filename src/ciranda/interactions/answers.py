"""What `query` answers with besides whole interactions: points of a series, totals, pairs and corrections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from ciranda.interactions.table import Feedback, Interaction, moment


@dataclass(frozen=True)
class Point:
    """One step of a series. Latencies are in milliseconds, of answers with a status below 400; 0 where there are none."""

    t: datetime
    version: str
    requests: int
    errors: int
    latency_p50: float
    latency_p95: float
    first_byte_p50: float
    prompt_tokens: int
    completion_tokens: int
    thumbs_up: int
    thumbs_down: int
    model: str = ""
    latency_p99: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Point:
        """From a row of a series, whose `t` is in seconds."""
        return cls(**{one.name: row[one.name] for one in fields(cls) if one.name != "t"}, t=moment(row["t"] * 1000))


@dataclass(frozen=True)
class Total:
    """Counts of one version in one arm; `scores` is the mean by scorer."""

    model: str
    version: str
    arm: str
    requests: int
    errors: int
    cancelled: int
    latency_p50: float
    latency_p95: float
    first_byte_p50: float
    overhead_p50: float
    prompt_tokens: int
    completion_tokens: int
    cost: float
    thumbs_up: int
    thumbs_down: int
    scores: Mapping[str, float]
    latency_p99: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, Any], scores: Mapping[str, float]) -> Total:
        """From a row of totals and the means of its scores."""
        return cls(**{one.name: row[one.name] for one in fields(cls) if one.name != "scores"}, scores=scores)


@dataclass(frozen=True)
class Glance:
    """An interaction as a line of a list: no bodies, texts cut, and the newest vote.

    From `model` to `output` its fields are those of `schema.LINE`, in that order.
    """

    id: str
    ts_ms: int
    model: str
    version: str
    arm: str
    status: int
    error: str
    latency_ms: float
    language: str
    stream: int
    input: str
    output: str
    thumb: int = 0

    @property
    def place(self) -> str:
        """Pass it to `glance` to go on after this one, newest first."""
        return f"{self.ts_ms}.{self.id}"

    @classmethod
    def of(cls, row: Mapping[str, Any], thumb: int) -> Glance:
        """From a row of a list and the newest vote on it."""
        return cls(*[row["id"], row["ts_ms"], *json.loads(row["line"]), thumb])


@dataclass(frozen=True)
class Mean:
    """What one scorer thought of one version in one step of time."""

    t: datetime
    version: str
    scorer: str
    mean: float
    n: int


@dataclass(frozen=True)
class Pair:
    """An answer of the live version and the shadow's answer to the same request."""

    live: Interaction
    shadow: Interaction

    @property
    def cursor(self) -> str:
        """Pass it to `pairs` to go on after this one: a pair arrives with the later of its two halves."""
        return str(max(self.live.sequence, self.shadow.sequence))


@dataclass(frozen=True)
class Correction:
    """An answer that a user put right: the prompt that was sent, what came, and what should have come."""

    interaction: str
    messages: tuple[Mapping[str, Any], ...]
    output_text: str
    correction: str
    user: str
    thumb: int
    ts_ms: int
    version: str
    cursor: str

    @property
    def ts(self) -> datetime:
        return moment(self.ts_ms)

    @classmethod
    def of(cls, feedback: Feedback, interaction: Interaction) -> Correction:
        """From a correction and the interaction that it speaks of."""
        return cls(
            interaction=interaction.id,
            messages=messages_of(interaction.request),
            output_text=interaction.output_text,
            correction=feedback.correction,
            user=feedback.user or interaction.user,
            thumb=feedback.thumb,
            ts_ms=feedback.ts_ms,
            version=interaction.version,
            cursor=feedback.cursor,
        )


def messages_of(request: str) -> tuple[Mapping[str, Any], ...]:
    """The messages of a request body; a bare prompt counts as one message of the user; nothing readable gives none."""
    try:
        body = json.loads(request)
    except ValueError:
        return ()
    if not isinstance(body, dict):
        return ()
    if isinstance(body.get("messages"), list):
        return tuple(one for one in body["messages"] if isinstance(one, dict))
    prompt = body.get("prompt")
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else ()
