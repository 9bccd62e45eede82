# ruff: noqa: S608 - the text is put together from constants of this file
"""Counts by minute and by hour, kept up by the store itself: each insert feeds them through a materialised view.

They hold no personal data and grow with time, not with traffic. What is counted is counted exactly: an insert carries a token
that its dependent views share, so a repeated one counts once in all of them; and a vote that is changed later moves from one
count to the other, since feedback carries what it changes (`thumbs_up`, `thumbs_down`), decided once by the collector.
Latencies are sketches, within 1 % of the true quantile, and states of them can be merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from ciranda.interactions.schema import NAME, Column, Table

FAILED = "(status >= 500 OR (status < 400 AND error != ''))"
SKETCH = "quantilesDD(0.01, 0.5, 0.95, 0.99)"
_STATE = "quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)"
_STARTS = {"minutes": "toStartOfMinute", "hours": "toStartOfHour"}
_COUNT, _CHANGE, _SUM = (f"SimpleAggregateFunction(sum, {kind})" for kind in ("UInt64", "Int64", "Float64"))
_LATENCY = f"AggregateFunction({SKETCH}, Float32)"
_SERIES = (
    Column("model", NAME, "as in interactions"),
    Column("version", NAME, "as in interactions"),
    Column("arm", NAME, "as in interactions"),
    Column("rollout", NAME, "as in interactions"),
)
_FIGURES = (
    Column("requests", _COUNT, "all interactions", unit="interactions"),
    Column("errors", _COUNT, "status 500 and above, or an error after a good status", unit="interactions"),
    Column("cancelled", _COUNT, "the client left (499)", unit="interactions"),
    Column("prompt_tokens", _COUNT, "their sum", unit="tokens"),
    Column("completion_tokens", _COUNT, "their sum", unit="tokens"),
    Column("cost", _SUM, "their sum", unit="currency"),
    Column("latency", _LATENCY, "sketch of latency_ms, of answers with a status below 400", unit="ms"),
    Column("first_byte", _LATENCY, "sketch of first_byte_ms, of the same", unit="ms"),
    Column("overhead", _LATENCY, "sketch of overhead_ms, of the same", unit="ms"),
    Column("thumbs_up", _CHANGE, "interactions whose newest vote is up", unit="votes"),
    Column("thumbs_down", _CHANGE, "interactions whose newest vote is down", unit="votes"),
)
_SPAN = ("start", "model", "version", "arm", "rollout")
COUNTED = tuple(one.name for one in _FIGURES if not one.name.startswith("thumbs"))


@dataclass(frozen=True)
class View:
    """A materialised view: which columns of `target` each insert into its source adds to."""

    name: str
    target: Table
    columns: tuple[str, ...]
    select: str


def _spans(name: str, span: str) -> Table:
    start = Column(
        "start", "DateTime('UTC')", f"the {span} that the interaction fell in, also for its feedback", "UTC, s"
    )
    return Table(
        name, f"Counts and latencies by {span}, model, version and arm.", (start, *_SERIES, *_FIGURES),
        partition="toYYYYMM(start)", order="(model, start, version, arm, rollout)", engine="AggregatingMergeTree", granule=512,
    )  # fmt: skip


MINUTES, HOURS = _spans("minutes", "minute"), _spans("hours", "hour")
SCORE_MINUTES = Table(
    "score_minutes",
    "Sums of scores by minute, model, version and arm.",
    (
        Column("start", "DateTime('UTC')", "the minute in which it was scored", unit="UTC, s"),
        *_SERIES,
        Column("scorer", NAME, "name of the scorer"),
        Column("n", _COUNT, "how many scores"),
        Column("total", _SUM, "their sum"),
    ),
    partition="toYYYYMM(start)",
    order="(model, start, version, arm, rollout, scorer)",
    engine="AggregatingMergeTree",
    granule=512,
)


def _of_interactions(target: Table) -> View:
    return View(
        f"{target.name}_of_interactions",
        target,
        (*_SPAN, *COUNTED),
        f"""
SELECT {_STARTS[target.name]}(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout,
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
    )


def _of_feedback(target: Table) -> View:
    return View(
        f"{target.name}_of_feedback",
        target,
        (*_SPAN, "thumbs_up", "thumbs_down"),
        f"""
SELECT {_STARTS[target.name]}(toDateTime(interaction_ts, 'UTC')) AS start, model, version, arm, rollout,
    sum(toInt64(feedback.thumbs_up)) AS thumbs_up,
    sum(toInt64(feedback.thumbs_down)) AS thumbs_down
FROM feedback WHERE feedback.thumbs_up != 0 OR feedback.thumbs_down != 0
GROUP BY start, model, version, arm, rollout""",
    )


ROLLUPS = (MINUTES, HOURS, SCORE_MINUTES)
VIEWS = (
    _of_interactions(MINUTES), _of_feedback(MINUTES), _of_interactions(HOURS), _of_feedback(HOURS),
    View("score_minutes_of_scores", SCORE_MINUTES, SCORE_MINUTES.names, """
SELECT toStartOfMinute(toDateTime(ts, 'UTC')) AS start, model, version, arm, rollout, scorer,
    count() AS n, sum(value) AS total
FROM scores GROUP BY start, model, version, arm, rollout, scorer"""),
)  # fmt: skip
