"""Experiments: names under which runs are logged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ciranda.train import conditions, tracking
from ciranda.web.api import rows
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow.door import Lenient, tenant_of

LINE = ("attributes", "tags")
Number = Annotated[int, Field(ge=0, lt=2**31)]
View = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]


class Pair(Lenient):
    """A tag, or a parameter."""

    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.TAG)


class Create(Lenient):
    name: str
    tags: tuple[Pair, ...] = Field((), max_length=1000)


class Named(Lenient):
    experiment_name: str


class Which(Lenient):
    experiment_id: Number


class Update(Which):
    new_name: str


class Tag(Which):
    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.TAG)


class Search(Lenient):
    view_type: View = "ACTIVE_ONLY"
    max_results: int = Field(1000, ge=1, le=50_000)
    filter: str = ""
    order_by: tuple[str, ...] = Field((), max_length=20)
    page_token: str = Field("", max_length=500)


def create(call: Call[Create]) -> Item:
    """A new experiment; its artefacts come through this door too."""
    asked = call.asked
    with call.platform.db.writing() as conn:
        number = tracking.create_experiment(
            conn, tenant_of(call), asked.name, tags={one.key: one.value for one in asked.tags}, actor=call.actor
        )
    return {"experiment_id": str(number)}


def one(call: Call[Which]) -> Item:
    with call.platform.db.reading() as conn:
        return {"experiment": shown(tracking.experiment(conn, tenant_of(call), call.asked.experiment_id))}


def by_name(call: Call[Named]) -> Item:
    with call.platform.db.reading() as conn:
        return {"experiment": shown(tracking.named(conn, tenant_of(call), call.asked.experiment_name))}


def _changed(call: Call[Any], **values: Any) -> Item:
    with call.platform.db.writing() as conn:
        tracking.change_experiment(conn, tenant_of(call), call.asked.experiment_id, actor=call.actor, **values)
    return {}


def update(call: Call[Update]) -> Item:
    return _changed(call, name=call.asked.new_name)


def delete(call: Call[Which]) -> Item:
    """Out of sight, with its runs; nothing is destroyed."""
    return _changed(call, lifecycle=tracking.DELETED)


def restore(call: Call[Which]) -> Item:
    return _changed(call, lifecycle=tracking.ACTIVE)


def set_tag(call: Call[Tag]) -> Item:
    asked = call.asked
    with call.platform.db.writing() as conn:
        held = tracking.experiment(conn, tenant_of(call), asked.experiment_id)
        tags = {**held["tags"], **tracking.checked({asked.key: asked.value}, tracking.TAG, "tag")}
        tracking.change_experiment(conn, tenant_of(call), asked.experiment_id, actor=call.actor, tags=tags)
    return {}


def delete_tag(call: Call[Tag]) -> Item:
    asked = call.asked
    with call.platform.db.writing() as conn:
        held = tracking.experiment(conn, tenant_of(call), asked.experiment_id)
        tags = {key: value for key, value in held["tags"].items() if key != asked.key}
        tracking.change_experiment(conn, tenant_of(call), asked.experiment_id, actor=call.actor, tags=tags)
    return {}


def search(call: Call[Search]) -> Item:
    """Experiments that fit, newest first or as asked."""
    asked = call.asked
    wanted = conditions.parse(asked.filter, entities=LINE)
    by = conditions.orders(asked.order_by, entities=LINE)
    with call.platform.db.reading() as conn:
        found = [
            one for one in tracking.experiments(conn, tenant_of(call)) if is_seen(one["lifecycle"], asked.view_type)
        ]
    fitting = [one for one in found if conditions.holds(wanted, _look(one))]
    ordered = conditions.ordered(fitting, by, _look)
    return paged("experiments", [shown(one) for one in ordered], asked.page_token, asked.max_results)


def paged(name: str, found: list[Item], token: str, limit: int) -> Item:
    """A page out of a list that is whole, and the token of the next one."""
    at = int(rows.place(token, 1)[0]) if token else 0
    rest = {"next_page_token": rows.cursor([at + limit])} if len(found) > at + limit else {}
    return {name: found[at : at + limit], **rest}


def is_seen(lifecycle: str, view: str) -> bool:
    return view == "ALL" or (lifecycle == tracking.ACTIVE) == (view == "ACTIVE_ONLY")


def _look(one: Item) -> conditions.Look:
    names = {"name": "name", "creation_time": "created_ms", "last_update_time": "updated_ms", "experiment_id": "number"}

    def look(entity: str, key: str) -> Any:
        return one["tags"].get(key) if entity == "tags" else one.get(names.get(key, ""))

    return look


def pairs(held: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in held.items()]


def shown(one: Item) -> Item:
    """An experiment as MLflow has it."""
    return {
        "experiment_id": str(one["number"]), "name": one["name"], "lifecycle_stage": one["lifecycle"],
        "artifact_location": f"mlflow-artifacts:/{one['number']}", "creation_time": one["created_ms"],
        "last_update_time": one["updated_ms"], "tags": pairs(one["tags"]),
    }  # fmt: skip
