"""Versions of registered models.

Under a name of ours they are the registry's, whatever made them. `add` takes a PEFT adapter out of a run's artefacts as a
candidate, which a turn evaluates and judges; Production is live, and asking for it is asking to promote, with every gate demanded.
Under a name of the client's own they name artefacts, and their stage is what the client says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field

from ciranda import loop
from ciranda.errors import Invalid
from ciranda.loop import registering
from ciranda.registry import models as lines
from ciranda.registry import registered
from ciranda.train import conditions, logged, tracking
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow import artifacts
from ciranda.web.mlflow.door import tenant_of
from ciranda.web.mlflow.experiments import Pair, paged
from ciranda.web.mlflow.models import Number, Search, Text, Which
from ciranda.web.mlflow.names import UNSAID, line_of, named_of, theirs_of, version_of, versions_of

RUN = re.compile(r"runs:/+(?P<owner>[0-9a-f]{1,64})(?:/(?P<path>.*))?")
MODEL = re.compile(r"models:/+(?P<owner>m-[0-9a-f]{32})(?:/(?P<path>.*))?")
PROXIED = re.compile(
    r"mlflow-artifacts:/+\d{1,10}/(?:models/(?=m-))?(?P<owner>m-[0-9a-f]{32}|[0-9a-f]{1,64})/artifacts(?:/(?P<path>.*))?"
)


class New(Which):
    source: str = Field(max_length=2000)
    run_id: str = Field("", max_length=64)
    description: Text = ""
    tags: tuple[Pair, ...] = Field((), max_length=500)


class One(Which):
    version: Number


class Told(One):
    description: Text = ""


class Tagged(One):
    key: str = Field(max_length=tracking.KEY)
    value: str = Field("", max_length=tracking.TAG)


class Stage(One):
    stage: Literal["None", "Staging", "Production", "Archived"]


def add(call: Call[New]) -> Item:
    """Register artefacts of a run as a version; under a model of ours an adapter becomes a candidate."""
    asked = call.asked
    with call.platform.db.reading() as conn:
        line = line_of(conn, call, asked.name)
        run, folder, source = _found(conn, call)
    ref: str | None = None
    if line is not None:
        call.require(asked.name, right="train")
        facts = {"by": "mlflow", "run": run, "source": asked.source[:500]}
        made = registering.take(call.platform, line.spec, folder, facts=facts, actor=call.actor)
        ref, number = made.ref, made.number
    with call.platform.db.writing() as conn:
        named = named_of(conn, call, asked.name, to_write=True)
        if ref is None:
            number = named.last + 1
            registered.change(conn, named, last=number)
        registered.add(
            conn, named.tenant, named.name, number, source=source, run=run, description=asked.description,
            tags={one.key: one.value for one in asked.tags}, ref=ref, actor=call.actor,
        )  # fmt: skip
        return {"model_version": version_of(conn, call, registered.get(conn, named.tenant, named.name), number)}


def _found(conn: sa.Connection, call: Call[New]) -> tuple[str, Path, str]:
    """The run, the folder of artefacts and the full source that a client names. Raises Invalid, NotFound."""
    source = call.asked.source
    match = RUN.fullmatch(source) or MODEL.fullmatch(source) or PROXIED.fullmatch(source)
    if match is None:
        raise Invalid(
            f"no source of a version: {source[:200]!r}", where="source",
            remedy="name artefacts of a run or a logged model: runs:/<run id>/<path>, models:/<model id>",
        )  # fmt: skip
    owner, path = match["owner"], artifacts.below((match["path"] or "").strip("/"))
    if owner.startswith("m-"):
        model = logged.get(conn, tenant_of(call), owner)
        run, place = model.run, f"{model.experiment}/models/{model.id}"
    else:
        held = tracking.run(conn, tenant_of(call), owner)
        run, place = held.id, f"{held.experiment}/{held.id}"
    return run, artifacts.folder_of(call.platform.home, owner) / path, f"mlflow-artifacts:/{place}/artifacts/{path}"


def version(call: Call[One]) -> Item:
    with call.platform.db.reading() as conn:
        named = named_of(conn, call, call.asked.name)
        return {"model_version": version_of(conn, call, named, call.asked.version)}


def download(call: Call[One]) -> Item:
    """Where a version's artefacts are; one of ours that no client brought has none here."""
    with call.platform.db.reading() as conn:
        found = version_of(conn, call, named_of(conn, call, call.asked.name), call.asked.version)
    return {"artifact_uri": found["source"]}


def _written(conn: sa.Connection, call: Call[Any], **values: Any) -> Item:
    """Say something else of a version, which need not have been said anything of before."""
    asked = call.asked
    named = named_of(conn, call, asked.name, to_write=True)
    shown = version_of(conn, call, named, asked.version)
    held = registered.version(conn, named.tenant, named.name, asked.version)
    if held is None:  # a version of ours that a turn made: a note, of which no turn is asked
        ref = None
        held = registered.add(
            conn, named.tenant, named.name, asked.version, source=shown["source"], run="", description="", tags={}, ref=ref,
            actor=call.actor,
        )  # fmt: skip
    if "tags" in values:
        values["tags"] = values["tags"](held.tags)
    registered.change_version(conn, held, **values)
    return version_of(conn, call, named, asked.version)


def tell(call: Call[Told]) -> Item:
    with call.platform.db.writing() as conn:
        return {"model_version": _written(conn, call, description=call.asked.description)}


def tag_version(call: Call[Tagged]) -> Item:
    asked = call.asked
    with call.platform.db.writing() as conn:
        _written(conn, call, tags=lambda held: {**held, asked.key: asked.value})
    return {}


def untag_version(call: Call[Tagged]) -> Item:
    asked = call.asked
    with call.platform.db.writing() as conn:
        _written(conn, call, tags=lambda held: {key: one for key, one in held.items() if key != asked.key})
    return {}


def stage(call: Call[Stage]) -> Item:
    """Theirs: what the client says. Ours: Production asks to promote, with the right to; nothing else can be asked."""
    asked = call.asked
    with call.platform.db.reading() as conn:
        ours = line_of(conn, call, asked.name)
    if ours is None:
        with call.platform.db.writing() as conn:
            return {"model_version": _written(conn, call, stage=asked.stage)}
    if asked.stage != "Production":
        raise Invalid(
            f"the stage of {asked.name} follows from its gates and its release", where="stage",
            remedy="ask for Production to promote a version that passed, or use `ciranda rollback`",
        )  # fmt: skip
    call.require(asked.name, right="promote")
    loop.promote(call.platform, f"{asked.name}@{asked.version}", call.actor)
    return version(call)  # type: ignore[arg-type]


def remove(call: Call[One]) -> Item:
    """Take a version of theirs away."""
    with call.platform.db.writing() as conn:
        named = theirs_of(conn, call, call.asked.name, "robbed of versions")
        version_of(conn, call, named, call.asked.version)
        held = registered.version(conn, named.tenant, named.name, call.asked.version)
        if held is not None:
            registered.remove_version(conn, held, actor=call.actor)
        aliases = {alias: number for alias, number in named.aliases.items() if number != call.asked.version}
        registered.change(conn, named, aliases=aliases)
    return {}


def search(call: Call[Search]) -> Item:
    """Versions by name, run, source or tags."""
    asked = call.asked
    wanted = conditions.parse(asked.filter, entities=("attributes", "tags"))
    exact = next((one.value for one in wanted if one.key == "name" and one.sign == "="), None)
    with call.platform.db.reading() as conn:
        names = [exact] if isinstance(exact, str) else _names(conn, call)
        every = [
            one
            for name in names
            if _is_there(conn, call, name)
            for one in versions_of(conn, call, named_of(conn, call, name))
        ]
    fitting = [one for one in every if conditions.holds(wanted, _seen(one))]
    return paged("model_versions", fitting, asked.page_token, asked.max_results)


def _names(conn: sa.Connection, call: Call[Any]) -> list[str]:
    ours = {model.name for model in lines.every(conn)}
    said = {one.name for one in registered.every(conn, tenant_of(call))}
    return sorted(name for name in ours | said if name not in ours or call.reaches(name))


def _is_there(conn: sa.Connection, call: Call[Any], name: str) -> bool:
    return line_of(conn, call, name) is not None or registered.find(conn, tenant_of(call), name) is not None


def _seen(one: Item) -> conditions.Look:
    tags = UNSAID | {pair["key"]: pair["value"] for pair in one["tags"]}
    names = {"version_number": "version", "source_path": "source"}
    return lambda entity, key: tags.get(key) if entity == "tags" else one.get(names.get(key, key))
