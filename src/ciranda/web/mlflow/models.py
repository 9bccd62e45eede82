"""Registered models by their names: a model of ours is its line of versions, any other name is a record of the client's.

Tags, aliases and descriptions are the client's in both; the alias `live` always says what is true. A model of ours is made, renamed
and taken away by its file alone.
"""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from ciranda.errors import Conflict, NotFound
from ciranda.registry import aliases as labels
from ciranda.registry import models as lines
from ciranda.registry import registered
from ciranda.registry.registered import Named
from ciranda.train import conditions, tracking
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow.door import Lenient, tenant_of
from ciranda.web.mlflow.experiments import Pair, paged, pairs
from ciranda.web.mlflow.names import UNSAID, aliases_of, line_of, named_of, theirs_of, version_of, versions_of

Text = Annotated[str, Field(max_length=5000)]
Name = Annotated[str, Field(max_length=registered.NAME)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class Create(Lenient):
    name: Name
    tags: tuple[Pair, ...] = Field((), max_length=500)
    description: Text = ""


class Which(Lenient):
    name: Name


class Update(Which):
    description: Text = ""


class Rename(Which):
    new_name: Name


class Tag(Which):
    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.TAG)


class Alias(Which):
    alias: str = Field(min_length=1, max_length=255)


class Placed(Alias):
    version: Number


class Latest(Which):
    stages: tuple[str, ...] = Field((), max_length=10)


class Search(Lenient):
    filter: str = ""
    max_results: int = Field(100, ge=1, le=10_000)
    order_by: tuple[str, ...] | str = ()
    page_token: str = Field("", max_length=500)


def create(call: Call[Create]) -> Item:
    """A new name. A model of ours exists already, and is made by its file alone."""
    asked = call.asked
    with call.platform.db.writing() as conn:
        if line_of(conn, call, asked.name) is not None:
            raise Conflict(
                f"Registered Model (name={asked.name}) already exists: it is a model of this installation", where="name",
                remedy="register versions under it",
            )  # fmt: skip
        made = registered.create(
            conn, tenant_of(call), asked.name, description=asked.description,
            tags={one.key: one.value for one in asked.tags}, actor=call.actor,
        )  # fmt: skip
        return {"registered_model": _shown(conn, call, made)}


def one(call: Call[Which]) -> Item:
    with call.platform.db.reading() as conn:
        return {"registered_model": _shown(conn, call, named_of(conn, call, call.asked.name))}


def update(call: Call[Update]) -> Item:
    with call.platform.db.writing() as conn:
        named = named_of(conn, call, call.asked.name, to_write=True)
        registered.change(conn, named, description=call.asked.description)
        return {"registered_model": _shown(conn, call, registered.get(conn, named.tenant, named.name))}


def rename(call: Call[Rename]) -> Item:
    with call.platform.db.writing() as conn:
        named = theirs_of(conn, call, call.asked.name, "renamed")
        if line_of(conn, call, call.asked.new_name) is not None:
            raise Conflict(f"{call.asked.new_name} exists already", where="new_name", remedy="choose another name")
        made = registered.rename(conn, named, call.asked.new_name, actor=call.actor)
        return {"registered_model": _shown(conn, call, made)}


def delete(call: Call[Which]) -> Item:
    with call.platform.db.writing() as conn:
        registered.remove(conn, theirs_of(conn, call, call.asked.name, "deleted"), actor=call.actor)
    return {}


def set_tag(call: Call[Tag]) -> Item:
    with call.platform.db.writing() as conn:
        named = named_of(conn, call, call.asked.name, to_write=True)
        registered.change(conn, named, tags={**named.tags, call.asked.key: call.asked.value})
    return {}


def delete_tag(call: Call[Tag]) -> Item:
    with call.platform.db.writing() as conn:
        named = named_of(conn, call, call.asked.name, to_write=True)
        registered.change(conn, named, tags={key: one for key, one in named.tags.items() if key != call.asked.key})
    return {}


def set_alias(call: Call[Placed]) -> Item:
    """A label, which sends no traffic. Of a version of ours it is the registry's alias; what says what is true is not set."""
    asked = call.asked
    with call.platform.db.writing() as conn:
        if line_of(conn, call, asked.name) is not None:
            call.require(asked.name, right="train")
            labels.put(conn, f"{asked.name}@{asked.version}", asked.alias, actor=call.actor)
            return {}
        named = registered.get(conn, tenant_of(call), asked.name)
        version_of(conn, call, named, asked.version)
        registered.change(conn, named, aliases={**named.aliases, asked.alias: asked.version})
    return {}


def delete_alias(call: Call[Alias]) -> Item:
    """Take a label away. Raises NotFound for one of ours that is not there."""
    asked = call.asked
    with call.platform.db.writing() as conn:
        if line_of(conn, call, asked.name) is not None:
            call.require(asked.name, right="train")
            labels.remove(conn, asked.name, asked.alias, actor=call.actor)
            return {}
        named = registered.get(conn, tenant_of(call), asked.name)
        registered.change(conn, named, aliases={key: one for key, one in named.aliases.items() if key != asked.alias})
    return {}


def by_alias(call: Call[Alias]) -> Item:
    asked = call.asked
    with call.platform.db.reading() as conn:
        named = named_of(conn, call, asked.name)
        number = aliases_of(conn, call, named).get(asked.alias)
        if number is None:
            raise NotFound(f"Registered model alias {asked.alias} not found", where=asked.name, remedy="set it first")
        return {"model_version": version_of(conn, call, named, number)}


def search(call: Call[Search]) -> Item:
    """Names of ours that the key reaches, and the tenant's own."""
    asked = call.asked
    wanted = conditions.parse(asked.filter, entities=("attributes", "tags"))
    by = conditions.orders(
        [asked.order_by] if isinstance(asked.order_by, str) else asked.order_by, entities=("attributes",)
    )
    with call.platform.db.reading() as conn:
        ours = {model.name for model in lines.every(conn) if call.reaches(model.name)}
        said = {one.name: one for one in registered.every(conn, tenant_of(call))}
        hidden = {model.name for model in lines.every(conn)} - ours
        every = [named_of(conn, call, name) for name in sorted({*ours, *said} - hidden)]
        fitting = [one for one in every if conditions.holds(wanted, _look(one))]
        ordered = conditions.ordered(fitting, by, _look)
        page = paged("registered_models", list(range(len(ordered))), asked.page_token, asked.max_results)  # type: ignore[arg-type]
        page["registered_models"] = [_shown(conn, call, ordered[at]) for at in page["registered_models"]]
        return page


def _look(one: Named) -> conditions.Look:
    facts = {"name": one.name, "creation_timestamp": one.created_ms, "last_updated_timestamp": one.updated_ms,
             "timestamp": one.updated_ms}  # fmt: skip
    return lambda entity, key: {**UNSAID, **one.tags}.get(key) if entity == "tags" else facts.get(key)


def latest(call: Call[Latest]) -> Item:
    """The newest version of each stage."""
    with call.platform.db.reading() as conn:
        named = named_of(conn, call, call.asked.name)
        return {"model_versions": _latest(conn, call, named, call.asked.stages)}


def _latest(conn: sa.Connection, call: Call[Any], named: Named, stages: tuple[str, ...] = ()) -> list[Item]:
    newest: dict[str, Item] = {}
    for one in versions_of(conn, call, named):
        newest.setdefault(one["current_stage"], one)
    return [one for stage, one in newest.items() if not stages or stage in stages]


def _shown(conn: sa.Connection, call: Call[Any], named: Named) -> Item:
    """A name as MLflow has it."""
    aliases = [{"alias": alias, "version": str(number)} for alias, number in aliases_of(conn, call, named).items()]
    return {
        "name": named.name, "description": named.description, "tags": pairs(named.tags), "aliases": aliases,
        "creation_timestamp": named.created_ms, "last_updated_timestamp": named.updated_ms,
        "latest_versions": _latest(conn, call, named),
    }  # fmt: skip
