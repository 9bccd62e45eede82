"""What people (and the pages, the REST API, the command line) ask of the loop. Each verb is one short transaction, then routing.

A verb that starts heavy work writes a row and returns; the leader does the work. Every verb writes its own audit event.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ciranda.config import model as specs
from ciranda.config.model import ModelSpec
from ciranda.config.source import Source
from ciranda.data import feeds
from ciranda.data.sources import label
from ciranda.deploy import plan as plans
from ciranda.deploy import rollout, routing
from ciranda.deploy.plan import Plan
from ciranda.errors import Conflict, Invalid
from ciranda.evals.scorers import scorers as named
from ciranda.govern import erasures
from ciranda.loop import estimates, exam, papers, places, planning, steps, turns
from ciranda.loop.demands import demand
from ciranda.loop.platform import Platform
from ciranda.registry import aliases, models, versions
from ciranda.store import ids
from ciranda.train import bases, spaces
from ciranda.train import recipe as recipes


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
        for base in planning.names(spec):
            bases.source(base)
        spaces.check(spec)
        places.check(platform.settings, spec)
        demand(platform, spec)
        recipes.recipe({**spec.train.recipe, "method": spec.train.method}, where=f"{file}: train.recipe")
        wanted[spec.model] = spec
    with platform.db.reading() as conn:
        applied, lives = plans.current(conn)
    return plans.plan(applied, wanted, live=lives)


def _rooted(spec: ModelSpec, folder: Path, root: Path) -> ModelSpec:
    """File globs are relative to the model's file; from here on they are absolute, and none leads out of the data root."""
    gates = tuple(
        gate.model_copy(update={"suite": _confined(folder / gate.suite, root)}) if papers.is_file(gate.suite) else gate
        for gate in spec.gates
    )
    data = spec.data.model_copy(update={"sources": placed(spec.data.sources, folder, root)})
    return spec.model_copy(update={"data": data, "gates": gates})


def placed(sources: Sequence[Source], folder: Path, root: Path) -> tuple[Source, ...]:
    """Sources whose globs are absolute and confined; no two may have one label, since their cursors would be one."""
    found = []
    for source in sources:
        moved = {
            kind: _confined(folder / glob, root)
            for kind, glob in (("files", source.files), ("folder", source.folder))
            if glob is not None
        }
        found.append(source.model_copy(update=moved))
    doubled = [name for name, count in Counter(map(label, found)).items() if count > 1]
    if doubled:
        raise Invalid(
            f"two sources are called {doubled[0]!r}", where="data: sources", remedy="give each a `name` of its own"
        )
    return tuple(found)


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
        for model in models.every(conn):
            if model.spec.data.sources and feeds.find(conn, model.spec.dataset):
                raise Conflict(
                    f"{model.spec.dataset} is fed by a file of its own", where=model.name,
                    remedy=f"leave `sources` out of the model, or `ciranda sources remove {model.spec.dataset}` first",
                )  # fmt: skip
    steps.found(platform)


def start_turn(
    platform: Platform, model: str, *, cause: str = "asked", event: str = "", reason: str = "", actor: str
) -> str:
    """Ask for one run of the loop; the leader starts it within a second. Returns the turn's id.

    Raises:
        Conflict: Another turn of this model is under way.
        Refused: A trial of it would not fit into the memory there is; says what would.
    """
    with platform.db.reading() as conn:
        spec = models.get(conn, model).spec
    estimates.demand(platform, spec)
    with platform.db.writing() as conn:
        return turns.ask(
            conn, model, cause=cause, event=event or ids.new("ask"), actor=actor, reason=reason or f"asked by {actor}"
        )


def promote(platform: Platform, ref: str, actor: str) -> dict[str, Any]:
    """Make a version live now; its verdict and its approvals are demanded all the same. An alias names the version too."""
    with platform.db.writing() as conn:
        change = rollout.promote(conn, aliases.resolve(conn, ref), actor=actor)
    publish(platform)
    return asdict(change)


def rollback(platform: Platform, model: str, actor: str, to: str | None = None) -> dict[str, Any]:
    """Back to the version that was live before (or to `to`), or end the rollout that is under way."""
    with platform.db.writing() as conn:
        change = rollout.rollback(conn, model, to=aliases.resolve(conn, to) if to else None, actor=actor)
    publish(platform)
    return asdict(change)


def evaluate(
    platform: Platform, ref: str, actor: str, *, suites: Sequence[str] = (), scorers: Sequence[str] = ()
) -> str:
    """Evaluate a version again, and have its gates judged by that; returns the job's key, whose result becomes an evaluation.

    The live version, which it is compared with, is asked too where it was not asked these cases yet.

    Args:
        suites: `test`, or registered suites; without any, those that the model's gates name. With some, no gate is judged.
        scorers: Scorers to ask beside those of the gates.

    Raises:
        Invalid: A scorer that there is not, a suite that is a file of control's machine, or no suite at all.
        NotFound: A suite that nobody registered.
    """
    for name in suites:
        if papers.is_file(name):
            raise Invalid(f"{name} is a file", where="suites", remedy=f"register it: `ciranda suite add {name}`")
    named(scorers)
    with platform.db.reading() as conn:
        version = versions.get(conn, aliases.resolve(conn, ref))
        spec = models.get(conn, version.model).spec
    if not suites and not spec.gates:
        raise Invalid(f"{version.model} has no gates, so no suite is named", where="suites",
                      remedy=f"name some: `ciranda evaluate {ref} --suite test`")  # fmt: skip
    if suites:
        return exam.examine(platform, spec, version, actor=actor, extra=suites, scorers=scorers)
    return exam.ask(platform, spec, version, actor=actor, scorers=scorers)


def erase(platform: Platform, subject: str, *, mentions: bool, actor: str) -> str:
    """Have a person forgotten; the leader begins within a second. Returns the erasure's id: of the one under way, if there is one.

    Raises:
        Invalid: The name says nothing.
    """
    with platform.db.writing() as conn:
        return erasures.ask(conn, platform.home, subject, mentions=mentions, actor=actor)


def publish(platform: Platform) -> None:
    """Write the routing that gateways read, if it changed, and wait until they go by it: who was told "done" can rely on it."""
    routing.taken(platform.home, routing.refresh(platform.db, platform.home))
