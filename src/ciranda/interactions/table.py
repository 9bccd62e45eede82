# ruff: noqa: S608 - the text is put together from constants of this file
"""The tables of interactions, field by field; the same statements for the embedded engine (chDB) and for a ClickHouse server.

One wide, immutable row per interaction, so that no page joins at read time. Feedback and scores are rows of their own that
repeat model, version, arm and rollout: what a dashboard counts it finds in one table. Materialised views roll interactions
and feedback up by minute and by hour, scores by minute; roll-ups hold no personal data and grow with time, not with traffic.

`sequence` is the order of arrival in the store, given by the collector, ever rising, without two alike. A reader that
remembers the last one it saw misses nothing, however late a row comes; `ts` cannot promise that.

Exactness rests on two settings at once: every table keeps its own deduplication window, and each
insert carries a token that its dependent views share. Durability rests on `fsync_after_insert` and `fsync_part_directory`.
It refuses updates: a row that was wrong is followed by another, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

SETTINGS = "non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1"

INTERACTIONS = f"""
CREATE TABLE IF NOT EXISTS interactions (
    id String COMMENT 'UUIDv7; the header x-ciranda-interaction',
    ts DateTime64(3, 'UTC') COMMENT 'when the request arrived at the gateway',
    sequence UInt64 COMMENT 'order of arrival in this table',
    tenant LowCardinality(String) COMMENT 'who pays: the tenant of the key',
    key LowCardinality(String) COMMENT 'id of the API key, never its secret',
    user String COMMENT 'end user as the client named them, or empty',
    conversation String COMMENT 'header x-ciranda-conversation, or empty',
    model LowCardinality(String) COMMENT 'the name the client asked for',
    version LowCardinality(String) COMMENT 'the version that answered, such as smart-home@2',
    digest LowCardinality(String) COMMENT 'digest of that version',
    arm LowCardinality(String) COMMENT 'live, canary or shadow',
    shadow_of String COMMENT 'for a shadow: id of the interaction it copies',
    rollout LowCardinality(String) COMMENT 'the rollout under way, or empty',
    deployment LowCardinality(String) COMMENT 'desired state that the replica belongs to',
    replica LowCardinality(String) COMMENT 'serving process that answered',
    engine LowCardinality(String) COMMENT 'software that served it',
    endpoint LowCardinality(String) COMMENT 'path of the API, such as /v1/chat/completions',
    stream UInt8 COMMENT '1 when the client asked for a stream',
    status UInt16 COMMENT 'HTTP status; 499 when the client left',
    error LowCardinality(String) COMMENT 'error type, empty when it went well',
    finish_reason LowCardinality(String) COMMENT 'stop, length, tool_calls ...',
    latency_ms Float32 COMMENT 'first byte in to last byte out',
    first_byte_ms Float32 COMMENT 'first byte in to first byte of the answer out',
    overhead_ms Float32 COMMENT 'own time: latency minus waiting for the engine',
    prompt_tokens UInt32 COMMENT 'tokens of the prompt',
    completion_tokens UInt32 COMMENT 'tokens of the answer',
    cost Float64 COMMENT 'in the currency of the price list; 0 without one',
    request_id String COMMENT 'header x-request-id',
    retry_count UInt8 COMMENT 'tries before the one that answered',
    language LowCardinality(String) COMMENT 'language of the input when known',
    guard String COMMENT 'JSON: verdicts of the guards',
    request String COMMENT 'body as received' CODEC(ZSTD(3)),
    response String COMMENT 'body as sent; for a stream all of its events' CODEC(ZSTD(3)),
    input_text String COMMENT 'text of the last user message' CODEC(ZSTD(3)),
    output_text String COMMENT 'text of the answer, deltas joined' CODEC(ZSTD(3)),
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_sequence sequence TYPE minmax GRANULARITY 1,
    INDEX by_shadow shadow_of TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_user user TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_conversation conversation TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toYYYYMMDD(ts) ORDER BY (model, ts, id) SETTINGS {SETTINGS}"""

FEEDBACK = f"""
CREATE TABLE IF NOT EXISTS feedback (
    id String COMMENT 'id that the gateway answered with',
    ts DateTime64(3, 'UTC') COMMENT 'when it was given',
    sequence UInt64 COMMENT 'order of arrival in this table',
    interaction String COMMENT 'id of the interaction it speaks of',
    interaction_ts DateTime64(3, 'UTC') COMMENT 'when that one arrived; equals ts when it is unknown',
    tenant LowCardinality(String) COMMENT 'tenant of the key it came with',
    key LowCardinality(String) COMMENT 'id of that key',
    user String COMMENT 'end user who gave it, or empty',
    model LowCardinality(String) COMMENT 'of the interaction; empty when it is unknown',
    version LowCardinality(String) COMMENT 'of the interaction',
    arm LowCardinality(String) COMMENT 'of the interaction',
    rollout LowCardinality(String) COMMENT 'of the interaction',
    thumb Int8 COMMENT '1 up, -1 down, 0 none',
    rating Float32 COMMENT '0 to 5; 0 when none was given',
    correction String COMMENT 'what the answer should have been' CODEC(ZSTD(3)),
    comment String COMMENT 'free words' CODEC(ZSTD(3)),
    reasons Array(String) COMMENT 'reasons chosen from a list',
    idempotency_key String COMMENT 'the client''s own; the same one from the same key counts once',
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_interaction interaction TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_idempotency idempotency_key TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_sequence sequence TYPE minmax GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (model, ts, id) SETTINGS {SETTINGS}"""

SCORES = f"""
CREATE TABLE IF NOT EXISTS scores (
    id String COMMENT 'the same id is kept once',
    ts DateTime64(3, 'UTC') COMMENT 'when it was scored',
    interaction String COMMENT 'id of the interaction',
    scorer LowCardinality(String) COMMENT 'name of the scorer',
    value Float64 COMMENT 'what it said',
    model LowCardinality(String) COMMENT 'of the interaction',
    version LowCardinality(String) COMMENT 'of the interaction',
    arm LowCardinality(String) COMMENT 'of the interaction',
    rollout LowCardinality(String) COMMENT 'of the interaction',
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_interaction interaction TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (model, ts, id) SETTINGS {SETTINGS}"""

STARTED = f"""
CREATE TABLE IF NOT EXISTS started (
    id String COMMENT 'id of the interaction that began',
    ts DateTime64(3, 'UTC') COMMENT 'when',
    model LowCardinality(String) COMMENT 'the name the client asked for',
    version LowCardinality(String) COMMENT 'the version it went to',
    meta String COMMENT 'JSON: all that the gateway knew then' CODEC(ZSTD(3)),
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toYYYYMMDD(ts) ORDER BY (ts, id) SETTINGS {SETTINGS}"""

EVENTS = f"""
CREATE TABLE IF NOT EXISTS events (
    id String COMMENT 'id of the event',
    ts DateTime64(3, 'UTC') COMMENT 'when',
    kind LowCardinality(String) COMMENT 'what happened',
    model LowCardinality(String) COMMENT 'to which model, or empty',
    meta String COMMENT 'JSON: all of it' CODEC(ZSTD(3))
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (ts, id) SETTINGS {SETTINGS}"""

FAILED = "(status >= 500 OR (status < 400 AND error != ''))"
_SKETCH = "quantilesDD(0.01, 0.5, 0.95, 0.99)"  # within 1 % of the true value, and states of it can be merged
_STATE = "quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)"
_FINE = f"{SETTINGS}, index_granularity = 512"  # rows are wide and questions narrow
_STARTS = {"minutes": "toStartOfMinute", "hours": "toStartOfHour"}


def _rollup(name: str) -> tuple[str, str, str]:
    """The table of one span and the two views that feed it."""
    start = f"{_STARTS[name]}(toDateTime({{}}, 'UTC')) AS start"
    return (
        f"""
CREATE TABLE IF NOT EXISTS {name} (
    start DateTime('UTC') COMMENT 'of the span that the interaction fell in, also for its feedback',
    model LowCardinality(String),
    version LowCardinality(String),
    arm LowCardinality(String),
    rollout LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'all interactions',
    errors SimpleAggregateFunction(sum, UInt64) COMMENT 'status 500 and above, or an error after a good status',
    cancelled SimpleAggregateFunction(sum, UInt64) COMMENT 'the client left (499)',
    prompt_tokens SimpleAggregateFunction(sum, UInt64),
    completion_tokens SimpleAggregateFunction(sum, UInt64),
    cost SimpleAggregateFunction(sum, Float64),
    latency AggregateFunction({_SKETCH}, Float32) COMMENT 'of answers with a status below 400',
    first_byte AggregateFunction({_SKETCH}, Float32) COMMENT 'of the same',
    overhead AggregateFunction({_SKETCH}, Float32) COMMENT 'of the same',
    thumbs_up SimpleAggregateFunction(sum, UInt64) COMMENT 'votes, each one given',
    thumbs_down SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(start) ORDER BY (model, start, version, arm, rollout)
SETTINGS {_FINE}""",
        f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_of_interactions TO {name} AS
SELECT {start.format("ts")}, model, version, arm, rollout,
    count() AS requests,
    countIf{FAILED} AS errors,
    countIf(status = 499) AS cancelled,
    sum(toUInt64(interactions.prompt_tokens)) AS prompt_tokens,
    sum(toUInt64(interactions.completion_tokens)) AS completion_tokens,
    sum(interactions.cost) AS cost,
    {_STATE}(latency_ms, status < 400) AS latency,
    {_STATE}(first_byte_ms, status < 400) AS first_byte,
    {_STATE}(overhead_ms, status < 400) AS overhead
FROM interactions GROUP BY start, model, version, arm, rollout""",
        f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_of_feedback TO {name} AS
SELECT {start.format("interaction_ts")}, model, version, arm, rollout,
    countIf(thumb > 0) AS thumbs_up,
    countIf(thumb < 0) AS thumbs_down
FROM feedback GROUP BY start, model, version, arm, rollout""",
    )


SCORE_MINUTES = f"""
CREATE TABLE IF NOT EXISTS score_minutes (
    start DateTime('UTC') COMMENT 'of the minute in which it was scored',
    model LowCardinality(String),
    version LowCardinality(String),
    arm LowCardinality(String),
    rollout LowCardinality(String),
    scorer LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) COMMENT 'how many scores',
    total SimpleAggregateFunction(sum, Float64) COMMENT 'their sum'
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(start) ORDER BY (model, start, version, arm, rollout, scorer)
SETTINGS {_FINE}"""

MINUTES_OF_SCORES = """
CREATE MATERIALIZED VIEW IF NOT EXISTS score_minutes_of_scores TO score_minutes AS
SELECT toStartOfMinute(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout, scorer,
    count() AS n, sum(value) AS total
FROM scores GROUP BY start, model, version, arm, rollout, scorer"""

STATEMENTS = (
    INTERACTIONS, FEEDBACK, SCORES, STARTED, EVENTS,
    *_rollup("minutes"), *_rollup("hours"), SCORE_MINUTES, MINUTES_OF_SCORES,
)  # fmt: skip


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

    @property
    def ts(self) -> datetime:
        return moment(self.ts_ms)

    @property
    def cursor(self) -> str:
        """Pass it to `feedback_since` to go on after this one."""
        return str(self.sequence)


@dataclass(frozen=True)
class Interaction:
    """One request and its answer through the gateway, as `interactions` holds it; the DDL above says what each field is."""

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
    request: str
    response: str
    input_text: str
    output_text: str
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
