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
) ENGINE = MergeTree PARTITION BY toYYYYMMDD(ts) ORDER BY (model, ts, id) SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
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
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (model, ts, id) SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
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
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (model, ts, id) SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
CREATE TABLE IF NOT EXISTS started (
    id String COMMENT 'id of the interaction that began',
    ts DateTime64(3, 'UTC') COMMENT 'when',
    model LowCardinality(String) COMMENT 'the name the client asked for',
    version LowCardinality(String) COMMENT 'the version it went to',
    meta String COMMENT 'JSON: all that the gateway knew then' CODEC(ZSTD(3)),
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toYYYYMMDD(ts) ORDER BY (ts, id) SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
CREATE TABLE IF NOT EXISTS events (
    id String COMMENT 'id of the event',
    ts DateTime64(3, 'UTC') COMMENT 'when',
    kind LowCardinality(String) COMMENT 'what happened',
    model LowCardinality(String) COMMENT 'to which model, or empty',
    meta String COMMENT 'JSON: all of it' CODEC(ZSTD(3))
) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (ts, id) SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
CREATE TABLE IF NOT EXISTS minutes (
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
    latency AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of answers with a status below 400',
    first_byte AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of the same',
    overhead AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of the same',
    thumbs_up SimpleAggregateFunction(sum, UInt64) COMMENT 'votes, each one given',
    thumbs_down SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(start) ORDER BY (model, start, version, arm, rollout)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512;
CREATE MATERIALIZED VIEW IF NOT EXISTS minutes_of_interactions TO minutes AS
SELECT toStartOfMinute(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout,
    count() AS requests,
    countIf(status >= 500 OR (status < 400 AND error != '')) AS errors,
    countIf(status = 499) AS cancelled,
    sum(toUInt64(interactions.prompt_tokens)) AS prompt_tokens,
    sum(toUInt64(interactions.completion_tokens)) AS completion_tokens,
    sum(interactions.cost) AS cost,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(latency_ms, status < 400) AS latency,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(first_byte_ms, status < 400) AS first_byte,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(overhead_ms, status < 400) AS overhead
FROM interactions GROUP BY start, model, version, arm, rollout;
CREATE MATERIALIZED VIEW IF NOT EXISTS minutes_of_feedback TO minutes AS
SELECT toStartOfMinute(toDateTime(interaction_ts, 'UTC')) AS start, model, version, arm, rollout,
    countIf(thumb > 0) AS thumbs_up,
    countIf(thumb < 0) AS thumbs_down
FROM feedback GROUP BY start, model, version, arm, rollout;
CREATE TABLE IF NOT EXISTS hours (
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
    latency AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of answers with a status below 400',
    first_byte AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of the same',
    overhead AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float32) COMMENT 'of the same',
    thumbs_up SimpleAggregateFunction(sum, UInt64) COMMENT 'votes, each one given',
    thumbs_down SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(start) ORDER BY (model, start, version, arm, rollout)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512;
CREATE MATERIALIZED VIEW IF NOT EXISTS hours_of_interactions TO hours AS
SELECT toStartOfHour(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout,
    count() AS requests,
    countIf(status >= 500 OR (status < 400 AND error != '')) AS errors,
    countIf(status = 499) AS cancelled,
    sum(toUInt64(interactions.prompt_tokens)) AS prompt_tokens,
    sum(toUInt64(interactions.completion_tokens)) AS completion_tokens,
    sum(interactions.cost) AS cost,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(latency_ms, status < 400) AS latency,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(first_byte_ms, status < 400) AS first_byte,
    quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(overhead_ms, status < 400) AS overhead
FROM interactions GROUP BY start, model, version, arm, rollout;
CREATE MATERIALIZED VIEW IF NOT EXISTS hours_of_feedback TO hours AS
SELECT toStartOfHour(toDateTime(interaction_ts, 'UTC')) AS start, model, version, arm, rollout,
    countIf(thumb > 0) AS thumbs_up,
    countIf(thumb < 0) AS thumbs_down
FROM feedback GROUP BY start, model, version, arm, rollout;
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
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512;
CREATE MATERIALIZED VIEW IF NOT EXISTS score_minutes_of_scores TO score_minutes AS
SELECT toStartOfMinute(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout, scorer,
    count() AS n, sum(value) AS total
FROM scores GROUP BY start, model, version, arm, rollout, scorer;
INSERT INTO interactions (id, ts, sequence, model, version, arm, status, latency_ms, prompt_tokens) VALUES ('i0', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 1, 'm', 'm@1', 'live', 200, 20, 10);
INSERT INTO interactions (id, ts, sequence, model, version, arm, status, latency_ms, prompt_tokens) VALUES ('i1', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 2, 'm', 'm@1', 'live', 200, 20, 10);
INSERT INTO interactions (id, ts, sequence, model, version, arm, status, latency_ms, prompt_tokens) VALUES ('i2', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 3, 'm', 'm@1', 'live', 503, 20, 10);
INSERT INTO feedback (id, ts, sequence, interaction, interaction_ts, model, version, arm, thumb) VALUES ('f0', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC') + 1, 4, 'i0', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 'm', 'm@1', 'live', 1);
INSERT INTO feedback (id, ts, sequence, interaction, interaction_ts, model, version, arm, thumb) VALUES ('f1', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC') + 2, 5, 'i0', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 'm', 'm@1', 'live', -1);
INSERT INTO feedback (id, ts, sequence, interaction, interaction_ts, model, version, arm, thumb) VALUES ('f2', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC') + 1, 6, 'i1', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 'm', 'm@1', 'live', 1);
INSERT INTO feedback (id, ts, sequence, interaction, interaction_ts, model, version, arm, thumb) VALUES ('f3', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC') + 9, 7, 'i0', toDateTime64('2026-11-20 10:00:00.000', 3, 'UTC'), 'm', 'm@1', 'live', 0)
