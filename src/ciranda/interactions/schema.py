"""The tables of interactions, each field once: its name, type, unit and meaning. DDL, inserts and docs follow from it.

One wide, immutable row per interaction, so that no page joins at read time. Feedback and scores are rows of their own that
repeat model, version, arm and rollout: what a dashboard counts it finds in one table.

`sequence` is the order of arrival in the store, given by the collector, ever rising, without two alike. A reader that
remembers the last one it saw misses nothing, however late a row comes; `ts` cannot promise that.

It refuses updates: a row that was wrong is followed by another, never changed. A new field goes to the end of its table with a
default that is its type's zero; stores that are there already get it at the next start (`upgrade`).
"""

from __future__ import annotations

from dataclasses import dataclass

NAME = "LowCardinality(String)"
TEXT = "ZSTD(3)"
MOMENT = "DateTime64(3, 'UTC')"
MS = "ms"


@dataclass(frozen=True)
class Column:
    """One field. A time of milliseconds is called `<name>_ms` where a row is still a row of Python."""

    name: str
    type: str
    meaning: str
    unit: str = ""
    codec: str = ""
    made: str = ""  # the expression by which the engine makes it of other fields; empty when it is given

    @property
    def key(self) -> str:
        """Its name in a row: times travel as milliseconds since the epoch."""
        return f"{self.name}_ms" if self.type == MOMENT else self.name

    @property
    def ddl(self) -> str:
        """Its line in CREATE TABLE, and in ADD COLUMN."""
        meaning = self.meaning.replace("\\", "\\\\").replace("'", "\\'")
        made = f" MATERIALIZED {self.made}" if self.made else ""
        return f"`{self.name}` {self.type}{made} COMMENT '{meaning}'" + (f" CODEC({self.codec})" if self.codec else "")


@dataclass(frozen=True)
class Index:
    """What lets a question pass over most of the rows: an expression, and what is kept of it for each granule."""

    name: str
    expression: str
    type: str
    granularity: int = 1

    @property
    def ddl(self) -> str:
        """Its line in CREATE TABLE, and in ADD INDEX."""
        return f"INDEX {self.name} {self.expression} TYPE {self.type} GRANULARITY {self.granularity}"


@dataclass(frozen=True)
class Table:
    """A table and what a row of it is. `granule`: how many rows are read at least; few where questions are narrow."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    partition: str
    order: str
    indexes: tuple[Index, ...] = ()
    engine: str = "MergeTree"
    granule: int = 8192

    @property
    def given(self) -> tuple[Column, ...]:
        """The columns that an insert brings; the engine makes the others."""
        return tuple(column for column in self.columns if not column.made)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that an insert brings, in order."""
        return tuple(column.name for column in self.given)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of a row's fields, in order."""
        return tuple(column.key for column in self.given)


SHOWN = 240  # characters of question and answer in a line of a list
_CUT = [f"toValidUTF8(substringUTF8({text}, 1, {SHOWN}))" for text in ("input_text", "output_text")]
LINE = f"toJSONString((model, version, arm, status, error, latency_ms, language, stream, {', '.join(_CUT)}))"
SAID = "concat(input_text, ' ', output_text)"  # the expression of the index: questions must write it just so


def _bloom(name: str, column: str, false: float = 0.001) -> Index:
    return Index(name, column, f"bloom_filter({false})")


def _lent(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, NAME, f"{name} of the interaction") for name in names)


INTERACTIONS = Table(
    "interactions",
    "One request and its answer, as the gateway saw them.",
    (
        Column("id", "String", "UUIDv7; the header x-ciranda-interaction. One id is kept once"),
        Column("ts", MOMENT, "when the request arrived at the gateway", unit="UTC, ms"),
        Column("sequence", "UInt64", "order of arrival in this store"),
        Column("tenant", NAME, "who pays: the tenant of the key"),
        Column("key", NAME, "id of the API key, never its secret"),
        Column("user", "String", "end user as the client named them, or empty"),
        Column("conversation", "String", "header x-ciranda-conversation, or empty"),
        Column("model", NAME, "the name the client asked for"),
        Column("version", NAME, "the version that answered, such as smart-home@2"),
        Column("digest", NAME, "digest of that version"),
        Column("arm", NAME, "live, canary, shadow, fallback when something stood in, external for a reported span"),
        Column("shadow_of", "String", "for a shadow: id of the interaction it copies"),
        Column("rollout", NAME, "the rollout under way, or empty"),
        Column("deployment", NAME, "desired state that the replica belongs to"),
        Column("replica", NAME, "serving process that answered"),
        Column("engine", NAME, "software that served it"),
        Column("endpoint", NAME, "path of the API, such as /v1/chat/completions"),
        Column("stream", "UInt8", "1 when the client asked for a stream"),
        Column("status", "UInt16", "HTTP status; 499 when the client left"),
        Column("error", NAME, "error type, empty when it went well"),
        Column("finish_reason", NAME, "stop, length, tool_calls ..."),
        Column("latency_ms", "Float32", "first byte in to last byte out", unit=MS),
        Column("first_byte_ms", "Float32", "first byte in to first byte of the answer out", unit=MS),
        Column("overhead_ms", "Float32", "own time: latency minus waiting for the engine", unit=MS),
        Column("prompt_tokens", "UInt32", "tokens of the prompt", unit="tokens"),
        Column("completion_tokens", "UInt32", "tokens of the answer", unit="tokens"),
        Column("cost", "Float64", "in the currency of the price list; 0 without one", unit="currency"),
        Column("request_id", "String", "header x-request-id"),
        Column("retry_count", "UInt8", "tries before the one that answered", unit="tries"),
        Column("language", NAME, "language of the input when known"),
        Column("guard", "String", "JSON: verdicts of the guards"),
        Column("cached", "UInt8", "1 when the gateway had the answer already, so that no engine was asked"),
        Column(
            "request",
            "String",
            "body as received, in the form of a chat completion where the endpoint is translated",
            codec=TEXT,
        ),
        Column("response", "String", "answer of the engine; for a stream all of its events", codec=TEXT),
        Column("input_text", "String", "text of the last user message", codec=TEXT),
        Column("output_text", "String", "text of the answer, deltas joined", codec=TEXT),
        Column(
            "source",
            NAME,
            "empty when it went through the gateway; otlp:<convention> for a span that an application reported",
        ),
        Column("trace_id", "String", "W3C trace that it belongs to, or empty"),
        Column("span_id", "String", "its own span in that trace, or empty"),
        Column("parent_span_id", "String", "the span that asked, or empty"),
        Column("counted", NAME, "who counted the tokens: empty the engine, estimated the gateway by size of text"),
        Column(
            "line",
            "String",
            "what a list shows of it, as a JSON array: one field to read instead of ten",
            codec=TEXT,
            made=LINE,
        ),
    ),
    partition="toYYYYMMDD(ts)",
    order="(model, ts, id)",
    granule=256,  # a line of a list is read out of the granule it lies in, and those of rare answers lie in one each
    indexes=(
        _bloom("by_id", "id"),
        Index("by_sequence", "sequence", "minmax"),
        _bloom("by_shadow", "shadow_of"),
        _bloom("by_user", "user"),
        _bloom("by_conversation", "conversation"),
        _bloom("by_trace", "trace_id", 0.01),
        Index(
            "by_words",
            SAID,
            f"text(tokenizer = 'splitByNonAlpha', preprocessor = lowerUTF8({SAID}), posting_list_codec = 'bitpacking')",
        ),
    ),
)

FEEDBACK = Table(
    "feedback",
    "What a user said of an interaction.",
    (
        Column("id", "String", "id that the gateway answered with. One id is kept once"),
        Column("ts", MOMENT, "when it was given", unit="UTC, ms"),
        Column("sequence", "UInt64", "order of arrival in this store"),
        Column("interaction", "String", "id of the interaction it speaks of"),
        Column("interaction_ts", MOMENT, "when that one arrived; equals ts when it is unknown", unit="UTC, ms"),
        Column("tenant", NAME, "tenant of the key it came with"),
        Column("key", NAME, "id of that key"),
        Column("user", "String", "end user who gave it, or empty"),
        Column("model", NAME, "model of the interaction; empty when it is unknown"),
        *_lent("version", "arm", "rollout"),
        Column("thumb", "Int8", "1 up, -1 down, 0 none"),
        Column("rating", "Float32", "1 to 5; 0 when none was given", unit="stars"),
        Column("correction", "String", "what the answer should have been", codec=TEXT),
        Column("comment", "String", "free words", codec=TEXT),
        Column("reasons", "Array(String)", "reasons chosen from the list in docs/feedback.md, or free tags"),
        Column("idempotency_key", "String", "the client's own; the same one from the same key counts once"),
        Column("thumbs_up", "Int8", "what it changed in the count of thumbs up: 1, 0 or -1"),
        Column("thumbs_down", "Int8", "what it changed in the count of thumbs down: 1, 0 or -1"),
    ),
    partition="toYYYYMM(ts)",
    order="(model, ts, id)",
    granule=1024,
    indexes=(
        _bloom("by_id", "id"),
        _bloom("by_interaction", "interaction"),
        _bloom("by_idempotency", "idempotency_key"),
        Index("by_interaction_ts", "interaction_ts", "minmax"),
        Index("by_sequence", "sequence", "minmax"),
    ),
)

SCORES = Table(
    "scores",
    "What a scorer said of an interaction.",
    (
        Column("id", "String", "one id is kept once; <interaction>:<scorer> unless the scorer chose another"),
        Column("ts", MOMENT, "when it was scored", unit="UTC, ms"),
        Column("interaction", "String", "id of the interaction"),
        Column("scorer", NAME, "name of the scorer"),
        Column("value", "Float64", "what it said"),
        *_lent("model", "version", "arm", "rollout"),
    ),
    partition="toYYYYMM(ts)",
    order="(model, ts, id)",
    indexes=(_bloom("by_id", "id"), _bloom("by_interaction", "interaction")),
)

STARTED = Table(
    "started",
    "Streams that began; one without an interaction was cut by a crash.",
    (
        Column("id", "String", "id of the interaction that began"),
        Column("ts", MOMENT, "when", unit="UTC, ms"),
        Column("model", NAME, "the name the client asked for"),
        Column("version", NAME, "the version it went to"),
        Column("meta", "String", "JSON: all that the gateway knew then", codec=TEXT),
    ),
    partition="toYYYYMMDD(ts)",
    order="(ts, id)",
    indexes=(_bloom("by_id", "id"),),
)

EVENTS = Table(
    "events",
    "What happened at the gateway beside requests.",
    (
        Column("id", "String", "id of the event"),
        Column("ts", MOMENT, "when", unit="UTC, ms"),
        Column("kind", NAME, "what happened"),
        Column("model", NAME, "to which model, or empty"),
        Column("meta", "String", "JSON: all of it", codec=TEXT),
    ),
    partition="toYYYYMM(ts)",
    order="(ts, id)",
)

RECORDS = (INTERACTIONS, FEEDBACK, SCORES, STARTED, EVENTS)
