"""Runs: parameters, metrics and tags as scripts log them, and the search over them.

Runs are read newest first, a piece at a time, until a page is full; another order needs all that fit at once, of which there may be
`SORTED` at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, model_validator

from ciranda.errors import Invalid
from ciranda.govern import audit
from ciranda.train import conditions, tracking
from ciranda.train.tracking import Point, Run
from ciranda.web.api import rows
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow import logged
from ciranda.web.mlflow.door import Lenient, tenant_of
from ciranda.web.mlflow.experiments import Number, Pair, View, is_seen, pairs

SORTED = 20_000
PIECE = 500
ENTITIES = ("attributes", "metrics", "params", "tags")
MOMENT = 2**62


class Create(Lenient):
    experiment_id: Number = 0
    user_id: str = Field("", max_length=1000)
    run_name: str = Field("", max_length=tracking.NAME)
    start_time: int = Field(0, ge=0, lt=MOMENT)
    tags: tuple[Pair, ...] = Field((), max_length=1000)


class Which(Lenient):
    """One run; older clients call it `run_uuid`."""

    run_id: str = Field(max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _older(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("run_id") and given.get("run_uuid"):
            return {**given, "run_id": given["run_uuid"]}
        return given


class Update(Which):
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"] | None = None
    end_time: int | None = Field(None, ge=0, lt=MOMENT)
    run_name: str | None = Field(None, max_length=tracking.NAME)


class Metric(Lenient):
    key: str = Field(max_length=tracking.KEY)
    value: float
    timestamp: int = Field(ge=0, lt=MOMENT)
    step: int = Field(0, ge=-MOMENT, lt=MOMENT)

    def point(self) -> Point:
        return Point(self.key, self.value, self.timestamp, self.step)


class OneMetric(Metric, Which):
    """A metric of a run."""


class Param(Which):
    key: str = Field(max_length=tracking.KEY)
    value: str = ""


class Tag(Which):
    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.TAG)


class Given(Lenient):
    key: str = Field(max_length=tracking.KEY)
    value: str = ""


class Batch(Which):
    metrics: tuple[Metric, ...] = Field((), max_length=1000)
    params: tuple[Given, ...] = Field((), max_length=1000)
    tags: tuple[Pair, ...] = Field((), max_length=1000)


class History(Which):
    metric_key: str = Field(max_length=tracking.KEY)
    max_results: int = Field(25_000, ge=1, le=25_000)
    page_token: str = Field("", max_length=500)


class Search(Lenient):
    experiment_ids: tuple[Number, ...] = Field((), max_length=1000)
    filter: str = ""
    run_view_type: View = "ACTIVE_ONLY"
    max_results: int = Field(1000, ge=1, le=50_000)
    order_by: tuple[str, ...] = Field((), max_length=20)
    page_token: str = Field("", max_length=500)


def create(call: Call[Create]) -> Item:
    """Begin a run. Its name is the client's, else ours."""
    asked, given = call.asked, {one.key: one.value for one in call.asked.tags}
    name = asked.run_name or given.get("mlflow.runName", "")
    with call.platform.db.writing() as conn:
        made = tracking.create_run(
            conn, tenant_of(call), asked.experiment_id, name=name, user=asked.user_id or call.actor,
            started_ms=asked.start_time, tags=given, actor=call.actor,
        )  # fmt: skip
        if not name:
            name = f"run-{made.id[-12:]}"
        tracking.change_run(conn, made.id, name=name, tags={**made.tags, "mlflow.runName": name})
        return {"run": shown(tracking.run(conn, tenant_of(call), made.id))}


def one(call: Call[Which]) -> Item:
    with call.platform.db.reading() as conn:
        held = tracking.run(conn, tenant_of(call), call.asked.run_id)
        return {"run": {**shown(held), **logged.of_run(conn, held.id)}}


def update(call: Call[Update]) -> Item:
    """Another status, end or name."""
    asked, values = call.asked, dict[str, Any]()
    with call.platform.db.writing() as conn:
        held = tracking.run(conn, tenant_of(call), asked.run_id, to_write=True)
        if asked.status is not None:
            values["status"] = asked.status
        if asked.end_time is not None:
            values["ended_ms"] = asked.end_time or None
        if asked.run_name:
            values |= {"name": asked.run_name, "tags": {**held.tags, "mlflow.runName": asked.run_name}}
        if values:
            tracking.change_run(conn, held.id, **values)
        return {"run_info": _info(tracking.run(conn, tenant_of(call), held.id))}


def _lifecycle(state: str, call: Call[Which]) -> Item:
    with call.platform.db.writing() as conn:
        held = tracking.run(conn, tenant_of(call), call.asked.run_id)
        tracking.change_run(conn, held.id, lifecycle=state)
        audit.record(conn, actor=call.actor, action=f"run.{state}", subject=held.id)
    return {}


delete = partial(_lifecycle, tracking.DELETED)
restore = partial(_lifecycle, tracking.ACTIVE)


def _logged(call: Call[Any], **what: Any) -> Item:
    with call.platform.db.writing() as conn:
        tracking.log(conn, tenant_of(call), call.asked.run_id, **what)
    return {}


def log_metric(call: Call[OneMetric]) -> Item:
    return _logged(call, points=[call.asked.point()])


def log_param(call: Call[Param]) -> Item:
    return _logged(call, params={call.asked.key: call.asked.value})


def set_tag(call: Call[Tag]) -> Item:
    return _logged(call, tags={call.asked.key: call.asked.value})


def delete_tag(call: Call[Tag]) -> Item:
    """Take a tag away. Raises NotFound."""
    with call.platform.db.writing() as conn:
        held = tracking.run(conn, tenant_of(call), call.asked.run_id, to_write=True)
        tags = {key: value for key, value in held.tags.items() if key != call.asked.key}
        tracking.change_run(conn, held.id, tags=tags)
    return {}


def log_batch(call: Call[Batch]) -> Item:
    """All of it, or none."""
    asked = call.asked
    params: dict[str, str] = {}
    for one in asked.params:
        if params.get(one.key, one.value) != one.value:
            raise Invalid(
                f"Duplicate parameter keys have been submitted: {one.key}", where="params", remedy="send each once"
            )
        params[one.key] = one.value
    return _logged(
        call, points=[one.point() for one in asked.metrics], params=params,
        tags={one.key: one.value for one in asked.tags},
    )  # fmt: skip


def history(call: Call[History]) -> Item:
    """Every point of a metric, in the order of time."""
    asked = call.asked
    after = rows.place(asked.page_token, 3) if asked.page_token else None
    with call.platform.db.reading() as conn:
        held = tracking.run(conn, tenant_of(call), asked.run_id)
        found = tracking.history(conn, held.id, asked.metric_key, after=after, limit=asked.max_results + 1)
    page = found[: asked.max_results]
    rest = {}
    if len(found) > len(page):
        rest = {"next_page_token": rows.cursor([page[-1].at_ms, page[-1].step, repr(page[-1].value)])}
    return {"metrics": [_metric(one.key, repr(one.value), one.at_ms, one.step) for one in page], **rest}


def search(call: Call[Search]) -> Item:
    """Runs that fit, newest first or as asked."""
    asked = call.asked
    wanted = conditions.parse(asked.filter, entities=ENTITIES)
    by = conditions.orders(asked.order_by, entities=ENTITIES)
    usual = not by or (len(by) == 1 and by[0].key in ("start_time", "Created") and by[0].falling)
    with call.platform.db.reading() as conn:
        found = _fitting(conn, call, wanted, after=_after(asked) if usual else None)
        if usual:
            page = [run for _, run in zip(range(asked.max_results + 1), found, strict=False)]
            last = page[asked.max_results - 1] if len(page) > asked.max_results else None
            rest = {"next_page_token": rows.cursor([last.started_ms, last.id])} if last else {}
            return {"runs": [shown(run) for run in page[: asked.max_results]], **rest}
        every = _bounded(found)
    ordered = conditions.ordered(every, by, lambda run: run.look)
    at = int(rows.place(asked.page_token, 1)[0]) if asked.page_token else 0
    rest = {"next_page_token": rows.cursor([at + asked.max_results])} if len(ordered) > at + asked.max_results else {}
    return {"runs": [shown(run) for run in ordered[at : at + asked.max_results]], **rest}


def _after(asked: Search) -> tuple[int, str] | None:
    if not asked.page_token:
        return None
    started, identifier = rows.place(asked.page_token, 2)
    return int(started), str(identifier)


def _fitting(
    conn: sa.Connection, call: Call[Search], wanted: tuple[conditions.Condition, ...], *, after: tuple[int, str] | None
) -> Iterator[Run]:
    """Runs that fit, newest first, read a piece at a time."""
    asked = call.asked
    while piece := tracking.page(conn, tenant_of(call), asked.experiment_ids, after=after, limit=PIECE):
        for run in piece:
            if is_seen(run.lifecycle, asked.run_view_type) and conditions.holds(wanted, run.look):
                yield run
        after = (piece[-1].started_ms, piece[-1].id)


def _bounded(found: Iterator[Run]) -> list[Run]:
    every = [run for _, run in zip(range(SORTED + 1), found, strict=False)]
    if len(every) > SORTED:
        raise Invalid(
            f"over {SORTED:,} runs fit, too many to be sorted", where="order_by",
            remedy="narrow the search, or leave the order to start_time DESC",
        )  # fmt: skip
    return every


def _metric(key: str, value: str, at_ms: int, step: int) -> Item:
    """A point as MLflow's JSON has it, where what is no number is a text."""
    number = float(value)
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(value)
    return {"key": key, "value": special or number, "timestamp": at_ms, "step": step}


def _info(run: Run) -> Item:
    return {
        "run_id": run.id, "run_uuid": run.id, "run_name": run.name, "experiment_id": str(run.experiment), "user_id": run.user,
        "status": run.status, "start_time": run.started_ms, **({"end_time": run.ended_ms} if run.ended_ms else {}),
        "artifact_uri": f"mlflow-artifacts:/{run.experiment}/{run.id}/artifacts", "lifecycle_stage": run.lifecycle,
    }  # fmt: skip


def shown(run: Run) -> Item:
    """A run as MLflow has it."""
    newest = [_metric(key, *held) for key, held in run.metrics.items()]
    return {"info": _info(run), "data": {"metrics": newest, "params": pairs(run.params), "tags": pairs(run.tags)}}
