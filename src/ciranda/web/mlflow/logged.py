"""Logged models: what `log_model` of MLflow 3 makes beside a run. They are records, with artefacts of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field

from ciranda.errors import Invalid
from ciranda.train import conditions, logged, tracking
from ciranda.train.logged import Logged
from ciranda.web.api import rows
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow.door import Lenient, Undone, tenant_of
from ciranda.web.mlflow.experiments import Number, Pair, pairs

ENTITIES = ("attributes", "metrics", "params", "tags")
PIECE, SORTED = 500, 20_000
Status = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]


class Param(Lenient):
    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.PARAM)


class Create(Lenient):
    experiment_id: Number
    name: str = Field("", max_length=tracking.NAME)
    model_type: str = Field("", max_length=tracking.NAME)
    source_run_id: str = Field("", max_length=64)
    params: tuple[Param, ...] = Field((), max_length=tracking.MOST_KEYS)
    tags: tuple[Pair, ...] = Field((), max_length=tracking.MOST_KEYS)


class Which(Lenient):
    allow_deleted: bool = False


class Finalize(Lenient):
    status: Status


class Tags(Lenient):
    tags: tuple[Pair, ...] = Field((), max_length=tracking.MOST_KEYS)


class Params(Lenient):
    params: tuple[Param, ...] = Field((), max_length=tracking.MOST_KEYS)


class Order(Lenient):
    field_name: str = Field(max_length=tracking.KEY + 20)
    ascending: bool = True


class Search(Lenient):
    experiment_ids: tuple[Number, ...] = Field((), max_length=1000)
    filter: str = ""
    max_results: int = Field(100, ge=1, le=1000)
    order_by: tuple[Order, ...] = Field((), max_length=20)
    page_token: str = Field("", max_length=500)


class Use(Lenient):
    model_id: str = Field(max_length=64)
    step: int = 0


class Uses(Lenient):
    run_id: str = Field(max_length=64)
    models: tuple[Use, ...] = Field((), max_length=logged.MOST_USES)
    datasets: tuple[Any, ...] = Field((), max_length=1000)


def create(call: Call[Create]) -> Item:
    """A name and a place for files that come next."""
    asked = call.asked
    with call.platform.db.writing() as conn:
        made = logged.create(
            conn, tenant_of(call), asked.experiment_id, name=asked.name, kind=asked.model_type, run=asked.source_run_id,
            params={one.key: one.value for one in asked.params}, tags={one.key: one.value for one in asked.tags},
            actor=call.actor,
        )  # fmt: skip
    return {"model": shown(made)}


def one(call: Call[Which]) -> Item:
    with call.platform.db.reading() as conn:
        return {"model": shown(_held(conn, call, deleted=call.asked.allow_deleted))}


def _held(conn: sa.Connection, call: Call[Any], *, deleted: bool = False) -> Logged:
    return logged.get(conn, tenant_of(call), call.path["model"], deleted=deleted)


def finalize(call: Call[Finalize]) -> Item:
    """Its files are there, or did not come."""
    with call.platform.db.writing() as conn:
        logged.change(conn, _held(conn, call), status=call.asked.status)
        return {"model": shown(_held(conn, call))}


def delete(call: Call[Any]) -> Item:
    with call.platform.db.writing() as conn:
        logged.delete(conn, _held(conn, call), actor=call.actor)
    return {}


def set_tags(call: Call[Tags]) -> Item:
    with call.platform.db.writing() as conn:
        held = _held(conn, call)
        logged.change(conn, held, tags={**held.tags, **{one.key: one.value for one in call.asked.tags}})
        return {"model": shown(_held(conn, call))}


def delete_tag(call: Call[Any]) -> Item:
    with call.platform.db.writing() as conn:
        held = _held(conn, call)
        logged.change(conn, held, tags={key: one for key, one in held.tags.items() if key != call.path["key"]})
    return {}


def log_params(call: Call[Params]) -> Item:
    """Parameters, each once."""
    with call.platform.db.writing() as conn:
        held = _held(conn, call)
        given = {one.key: one.value for one in call.asked.params}
        if changed := next((key for key, value in given.items() if held.params.get(key, value) != value), ""):
            raise Invalid(
                f"Changing param values is not allowed: '{changed}'", where="params", remedy="use another key"
            )
        logged.change(conn, held, params={**held.params, **given})
    return {}


def outputs(call: Call[Uses]) -> Item:
    """The models that a run made."""
    return _used(call, logged.MADE)


def inputs(call: Call[Uses]) -> Item:
    """The models that a run worked with; data sets are not kept."""
    if call.asked.datasets:
        raise Undone(
            "data sets as inputs of a run are not kept here", where="MLflow's tracking door",
            remedy="log them as a parameter, a tag or an artefact; docs/mlflow.md",
        )  # fmt: skip
    return _used(call, logged.USED)


def _used(call: Call[Uses], kind: str) -> Item:
    said = {one.model_id: one.step for one in call.asked.models}
    with call.platform.db.writing() as conn:
        logged.use(conn, tenant_of(call), call.asked.run_id, said, kind=kind)
    return {}


def search(call: Call[Search]) -> Item:
    """Those that fit, newest first or as asked."""
    asked = call.asked
    wanted = conditions.parse(asked.filter, entities=ENTITIES)
    by = conditions.orders(
        [f"{one.field_name} {'ASC' if one.ascending else 'DESC'}" for one in asked.order_by], entities=ENTITIES
    )
    with call.platform.db.reading() as conn:
        found = list(islice(_fitting(conn, call, wanted), SORTED + 1))
    if len(found) > SORTED:
        raise Invalid(f"over {SORTED:,} logged models fit", where="filter", remedy="narrow the search")
    ordered = conditions.ordered(found, by, lambda one: one.look) if by else found
    at = int(rows.place(asked.page_token, 1)[0]) if asked.page_token else 0
    rest = {"next_page_token": rows.cursor([at + asked.max_results])} if len(ordered) > at + asked.max_results else {}
    return {"models": [shown(one) for one in ordered[at : at + asked.max_results]], **rest}


def _fitting(conn: sa.Connection, call: Call[Search], wanted: tuple[conditions.Condition, ...]) -> Iterator[Logged]:
    after = None
    while piece := logged.page(conn, tenant_of(call), call.asked.experiment_ids, after=after, limit=PIECE):
        yield from (one for one in piece if conditions.holds(wanted, one.look))
        after = (piece[-1].created_ms, piece[-1].id)


def shown(one: Logged) -> Item:
    """A logged model as MLflow has it."""
    info = {
        "model_id": one.id, "experiment_id": str(one.experiment), "name": one.name, "model_type": one.kind,
        "source_run_id": one.run, "status": one.status, "tags": pairs(one.tags), "creation_timestamp_ms": one.created_ms,
        "last_updated_timestamp_ms": one.updated_ms,
        "artifact_uri": f"mlflow-artifacts:/{one.experiment}/models/{one.id}/artifacts",
    }  # fmt: skip
    return {"info": info, "data": {"params": pairs(one.params), "metrics": []}}


def of_run(conn: sa.Connection, run: str) -> Item:
    """The models of a run, in the shape that a run has them in."""
    made = [{"model_id": model, "step": step} for model, step in logged.uses(conn, run, logged.MADE)]
    used = [{"model_id": model} for model, _ in logged.uses(conn, run, logged.USED)]
    return {"inputs": {"dataset_inputs": [], "model_inputs": used}, "outputs": {"model_outputs": made}}
