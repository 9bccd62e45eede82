"""What a name means to an MLflow client: a line of ours, or a record of its own; and versions in the shape that it knows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ciranda.errors import Forbidden, Invalid, NotFound
from ciranda.registry import aliases as labels
from ciranda.registry import models as lines
from ciranda.registry import registered, versions
from ciranda.registry.registered import Named, Registered
from ciranda.registry.versions import Version
from ciranda.store import clock
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow.door import tenant_of
from ciranda.web.mlflow.experiments import pairs

LIVE = "live"
OURS = "ciranda:/"
UNSAID = {"mlflow.prompt.is_prompt": "false"}  # a tag that every search of the client's asks for, and no model has
STAGES = {
    "live": "Production",
    "approved": "Staging",
    "retired": "Archived",
    "refused": "Archived",
    "candidate": "None",
}


def line_of(conn: sa.Connection, call: Call[Any], name: str) -> lines.Model | None:
    """The model of ours that a name means, or None. One out of the key's reach is no name at all. Raises Forbidden."""
    found = lines.find(conn, name)
    if found is not None and not call.reaches(name):
        raise Forbidden(
            f"this key does not reach the model {name}", where="name", remedy="ask an admin for a key that does"
        )
    return found


def named_of(conn: sa.Connection, call: Call[Any], name: str, *, to_write: bool = False) -> Named:
    """What is said of a name; of a model of ours nothing need have been said. Raises NotFound."""
    line, found = line_of(conn, call, name), registered.find(conn, tenant_of(call), name)
    if found is None and line is not None:
        if to_write:
            return registered.create(conn, tenant_of(call), name, actor=call.actor)
        at = moment(line.applied_at)
        return Named(tenant_of(call), name, line.spec.purpose, {}, {}, 0, at, at)
    return found or registered.get(conn, tenant_of(call), name)


def theirs_of(conn: sa.Connection, call: Call[Any], name: str, what: str) -> Named:
    """A name of the client's own. Raises Invalid for a model of ours."""
    if line_of(conn, call, name) is not None:
        raise Invalid(
            f"{name} is a model of this installation and cannot be {what} here", where="name",
            remedy="its file says what it is; `ciranda apply` changes it",
        )  # fmt: skip
    return registered.get(conn, tenant_of(call), name)


def aliases_of(conn: sa.Connection, call: Call[Any], named: Named) -> dict[str, int]:
    """Versions by their labels; those of ours are the registry's own, and `live`."""
    if line_of(conn, call, named.name) is None:
        return named.aliases
    live = versions.live(conn, named.name)
    held = {one.name: one.number for one in labels.of(conn, named.name)}
    return {**held, **({LIVE: live.number} if live else {})}


def versions_of(conn: sa.Connection, call: Call[Any], named: Named) -> list[Item]:
    """All versions under a name, newest first."""
    said = {one.number: one for one in registered.versions(conn, named.tenant, named.name)}
    aliases = aliases_of(conn, call, named)
    if line_of(conn, call, named.name) is None:
        return [_theirs_shown(one, aliases) for one in said.values()]
    return [_ours_shown(one, said.get(one.number), aliases) for one in versions.of(conn, named.name) if one.number]


def version_of(conn: sa.Connection, call: Call[Any], named: Named, number: int) -> Item:
    """One of them. Raises NotFound."""
    aliases, said = aliases_of(conn, call, named), registered.version(conn, named.tenant, named.name, number)
    if line_of(conn, call, named.name) is not None:
        found = versions.find(conn, f"{named.name}@{number}")
        if found is not None and number:
            return _ours_shown(found, said, aliases)
    elif said is not None:
        return _theirs_shown(said, aliases)
    raise NotFound(
        f"Model Version (name={named.name}, version={number}) not found", where="versions", remedy="search the versions"
    )


def _theirs_shown(one: Registered, aliases: dict[str, int]) -> Item:
    return _whole(one.name, one.number, one.stage, one.source, one.run, one.description, one.tags, aliases,
                  one.created_ms, one.updated_ms, one.created_by)  # fmt: skip


def _ours_shown(one: Version, said: Registered | None, aliases: dict[str, int]) -> Item:
    """A version of ours: what it is made of stands in its tags."""
    if said is not None and said.ref != one.ref and not said.source.startswith(OURS):
        said = None  # of a name that was the client's own before a model here was called so
    turn = (said.turn if said else "") or one.turn
    facts = {
        "ciranda.ref": one.ref, "ciranda.stage": one.stage, "ciranda.digest": one.digest, "ciranda.dataset": one.dataset,
        "ciranda.base": one.base, "ciranda.trial": one.trial, "ciranda.turn": turn,
    }  # fmt: skip
    tags = {**(said.tags if said else {}), **{name: value for name, value in facts.items() if value}}
    at = moment(one.created_at)
    return _whole(
        one.model, one.number, STAGES[one.stage], said.source if said else f"{OURS}{one.ref}", said.run if said else "",
        said.description if said else "", tags, aliases, at, said.updated_ms if said else at, one.created_by,
    )  # fmt: skip


def _whole(
    name: str, number: int, stage: str, source: str, run: str, description: str, tags: dict[str, str],
    aliases: dict[str, int], created_ms: int, updated_ms: int, user: str,
) -> Item:  # fmt: skip
    """A version as MLflow has it."""
    return {
        "name": name, "version": str(number), "creation_timestamp": created_ms, "last_updated_timestamp": updated_ms,
        "user_id": user, "current_stage": stage, "description": description, "source": source, "run_id": run, "status": "READY",
        "tags": pairs(tags), "aliases": [alias for alias, of in aliases.items() if of == number],
    }  # fmt: skip


def moment(text: str) -> int:
    """A time as MLflow has it, in milliseconds."""
    return int(clock.parse(text).timestamp() * 1000)
