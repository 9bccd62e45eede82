"""What people (and the pages, the REST API, the command line) ask of the loop. Each verb is one short transaction, then routing.

A verb that starts heavy work writes a row and returns; the leader does the work. Every verb writes its own audit event.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ciranda.config import model as specs
from ciranda.config.model import ModelSpec
from ciranda.data.sources import Window, runs
from ciranda.deploy import plan as plans
from ciranda.deploy import rollout, routing
from ciranda.deploy.plan import Plan
from ciranda.errors import Conflict, Invalid
from ciranda.govern import audit
from ciranda.loop import exam, intake, steps, turns
from ciranda.loop.platform import Platform
from ciranda.registry import models, versions
from ciranda.store import ids
from ciranda.train import bases


def plan(platform: Platform, files: Mapping[str, str]) -> Plan:
    """What `apply` would do with these model files (name of the file -> its text); nothing is changed.

    Raises:
        Invalid: A file is wrong (file, line, key, remedy), or two files name the same model.
        NotFound: A base that is not there; says how to get it.
    """
    wanted: dict[str, ModelSpec] = {}
    root = platform.root
    for file, text in files.items():
        spec = _rooted(specs.read(text, file=file), Path(file).parent, root)
        if spec.model in wanted:
            raise Invalid(
                f"two files describe the model {spec.model!r}", where=file, remedy="keep one, or rename the model"
            )
        bases.source(spec.base)
        wanted[spec.model] = spec
    with platform.db.reading() as conn:
        applied, lives = plans.current(conn)
    return plans.plan(applied, wanted, live=lives)


def _rooted(spec: ModelSpec, folder: Path, root: Path) -> ModelSpec:
    """File globs are relative to the model's file; from here on they are absolute, and none leads out of the data root."""
    sources = tuple(
        source.model_copy(update={"files": _confined(folder / source.files, root)}) if source.files else source
        for source in spec.data.sources
    )
    gates = tuple(
        gate.model_copy(update={"suite": _confined(folder / gate.suite, root)})
        if gate.suite.endswith((".yaml", ".yml"))
        else gate
        for gate in spec.gates
    )
    return spec.model_copy(update={"data": spec.data.model_copy(update={"sources": sources}), "gates": gates})


def _confined(path: Path, root: Path) -> str:
    """The path, made absolute; whoever may apply a model may not read any file of this machine with it."""
    plain = Path(*itertools.takewhile(lambda part: not set(part) & set("*?["), path.parts))
    if not plain.resolve().is_relative_to(root):
        raise Invalid(
            f"{path} lies outside of {root}",
            where="data: sources: files",
            remedy=f"move the files below {root}, or set `data_root` in the home's config.toml",
        )
    return str(plain.resolve() / path.relative_to(plain)) if plain != path else str(plain.resolve())


def apply(platform: Platform, todo: Plan, actor: str) -> None:
    """Do exactly the steps of a plan, or none of them. The bases of new models are prepared at once, as jobs.

    Raises:
        Conflict: Somebody changed a model since the plan was made.
    """
    with platform.db.writing() as conn:
        plans.perform(conn, todo, actor=actor)
    steps.found(platform)


def ingest(
    platform: Platform,
    name: str,
    actor: str,
    *,
    only: Sequence[str] = (),
    window: Window = Window(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Bring in what the sources of a model (or of a dataset of its own) have, as a dataset version with its check report.

    Args:
        only: Labels of the sources to read; the rows of others are taken over. None of them named: all.
        window: What to read again, whatever the cursors say.

    Raises:
        Refused: A check or a bad row said no; nothing is kept.
        Conflict: A turn of the model is ingesting by itself, or another ingestion is under way.
    """
    spec = _fed(platform, name)
    with platform.db.writing() as conn:
        running = [turn.id for turn in turns.in_state(conn, "running") if turn.model == intake.model_of(spec)]
        if running:
            raise Conflict(f"{running[0]} is under way and ingests by itself", where=name, remedy="wait for its end")
        told = {"sources": list(only), "since": window.since, "until": window.until}
        audit.record(conn, actor=actor, action="ingestion.asked", subject=spec.dataset, detail=told)
    return intake.take(platform, spec, actor=actor, only=intake.named(spec, only), window=window)


def ask_ingestion(
    platform: Platform,
    name: str,
    actor: str,
    *,
    only: Sequence[str] = (),
    window: Window = Window(),  # noqa: B008
) -> str:
    """The same, soon and without waiting: the leader does it. Returns the dataset's name."""
    spec = _fed(platform, name)
    intake.named(spec, only)
    with platform.db.writing() as conn:
        runs.ask(conn, spec.dataset, sources=only, window=window, actor=actor)
        told = {"sources": list(only), "since": window.since, "until": window.until}
        audit.record(conn, actor=actor, action="ingestion.asked", subject=spec.dataset, detail=told)
    return spec.dataset


def _fed(platform: Platform, name: str) -> intake.Spec:
    with platform.db.reading() as conn:
        model = models.find(conn, name)
    return model.spec if model is not None else intake.feeder(platform, name)


def start_turn(
    platform: Platform, model: str, *, cause: str = "asked", event: str = "", reason: str = "", actor: str
) -> str:
    """Ask for one run of the loop; the leader starts it within a second. Returns the turn's id.

    Raises:
        Conflict: Another turn of this model is under way.
    """
    with platform.db.writing() as conn:
        models.get(conn, model)
        return turns.ask(
            conn, model, cause=cause, event=event or ids.new("ask"), actor=actor, reason=reason or f"asked by {actor}"
        )


def promote(platform: Platform, ref: str, actor: str) -> dict[str, Any]:
    """Make a version live now; its gates are demanded all the same."""
    with platform.db.writing() as conn:
        change = rollout.promote(conn, ref, actor=actor)
    publish(platform)
    return asdict(change)


def rollback(platform: Platform, model: str, actor: str, to: str | None = None) -> dict[str, Any]:
    """Back to the version that was live before (or to `to`), or end the rollout that is under way."""
    with platform.db.writing() as conn:
        change = rollout.rollback(conn, model, to=to, actor=actor)
    publish(platform)
    return asdict(change)


def approve(platform: Platform, model: str, actor: str, note: str = "") -> dict[str, Any]:
    """A person says yes to what waits for one."""
    with platform.db.writing() as conn:
        after = rollout.approve(conn, model, actor=actor, note=note)
    publish(platform)
    return {"rollout": after.id, "candidate": after.candidate, "state": after.state, "stage": after.stage}


def evaluate(platform: Platform, ref: str, actor: str) -> str:
    """Evaluate a version again on its model's suites; returns the job's key, whose result becomes an evaluation."""
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        spec = models.get(conn, version.model).spec
    return exam.examine(platform, spec, version, actor=actor)


def publish(platform: Platform) -> None:
    """Write the routing that gateways read, if it changed, and wait until they go by it: who was told "done" can rely on it."""
    routing.taken(platform.home, routing.refresh(platform.db, platform.home))
