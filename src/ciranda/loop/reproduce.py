"""A version trained again, to see how near it comes: the same rows, base, recipe, seed and threads, compared with what was kept.

    ask(platform, "smart-home@2", actor)     a row; asked again while one is under way, that one
    Reproducing(platform).look()             the leader: begin what was asked for, follow it, compare, write the verdict
    cancel(platform, identifier, actor)

What was trained stands in the folder of the version's run; where its rows are gone (they were cleaned up, or a person was erased
since), they are staged again, and the verdict says that they differ. Weights that come out bit by bit the same prove the record:
the version is what its card says. Where they do not, the verdict names what was not as then (code, rows, a package, the
processor) and how far weights and scores are apart. Nothing is registered, and the new weights are removed.

It refuses the bare base and versions that were trained elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.errors import CirandaError, Conflict, NotFound, Refused
from ciranda.govern import audit
from ciranda.loop import estimates, planning, runs, staging
from ciranda.loop.platform import Platform
from ciranda.registry import models, versions
from ciranda.registry.versions import Version
from ciranda.store import clock, ids
from ciranda.train import bases, endings, likeness, provenance, reproductions, trials
from ciranda.train import recipe as recipes
from ciranda.train.recipe import Spec
from ciranda.train.reproductions import Reproduction
from ciranda.train.run import Jobs, Result
from ciranda.train.trials import Trial

SCORES = ("exact_match", "loss")


def ask(platform: Platform, ref: str, *, actor: str) -> Reproduction:
    """Ask for a version to be trained again; the leader begins within a second.

    Raises:
        Refused: Nothing of it was trained here, or it would not fit into memory.
        NotFound: No such version, or its base is not prepared here.
    """
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        spec = models.get(conn, version.model).spec
    trial = _trial(platform, version)
    bases.need(platform.home.bases, version.base)
    estimates.demand(platform, spec, recipe=trial.recipe, dataset=version.dataset)
    with platform.db.writing() as conn:
        models.lock(conn, version.model)
        known = next((one for one in reproductions.of(conn, version.ref) if one.open), None)
        if known:
            return known
        identifier = ids.new("repro")
        conn.execute(
            reproductions.reproductions.insert().values(
                id=identifier, model=version.model, version=version.ref, state="waiting", job=f"reproduce:{identifier}",
                verdict={}, reason="", asked_at=clock.iso(), asked_by=actor,
            )
        )  # fmt: skip
        audit.record(
            conn, actor=actor, action="version.reproduction_asked", subject=version.ref, detail={"id": identifier}
        )
        return reproductions.get(conn, identifier)


def _trial(platform: Platform, version: Version) -> Trial:
    """The run that made a version."""
    try:
        if not version.tuning or not version.trial:
            raise NotFound("", where="", remedy="")
        return trials.find(platform.db, version.trial)
    except NotFound:
        raise Refused(
            f"{version.ref} was not trained here, so it cannot be trained again", where=version.ref,
            remedy="reproduce a version that a turn of this installation made",
        ) from None  # fmt: skip


def cancel(platform: Platform, identifier: str, *, actor: str) -> Reproduction:
    """End one that is under way. Raises Conflict when it ended by itself."""
    with platform.db.writing() as conn:
        reproductions.get(conn, identifier)
        closed = reproductions.change(
            conn, identifier, state="cancelled", reason=endings.say("cancelled", actor=actor), ended_at=clock.iso()
        )
        after = reproductions.get(conn, identifier)
        if closed:
            audit.record(conn, actor=actor, action="version.reproduction_cancelled", subject=after.version)
    if after.state != "cancelled":
        raise Conflict(
            f"it is {after.state} already", where=identifier, remedy="only what is under way can be cancelled"
        )
    runs.trainer(platform, after.model).cancel(after.job)
    return after


class Reproducing:
    """The leader's look at reproductions."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._ended: set[str] = set()

    def look(self) -> None:
        """One move of each that is under way; what still runs of a cancelled one is ended."""
        with self.platform.db.reading() as conn:
            found = reproductions.unfinished(conn)
        for one in found:
            if one.id in self._ended:
                continue
            if one.open:
                self._follow(one)
            else:
                runs.trainer(self.platform, one.model).cancel(one.job)
                self._ended.add(one.id)

    def _follow(self, one: Reproduction) -> None:
        try:
            self._move(one, runs.trainer(self.platform, one.model))
        except CirandaError as error:
            if error.retry:
                raise
            self._close(one, "failed", reason=f"{error.message}; do: {error.remedy}")

    def _move(self, one: Reproduction, trainer: Jobs) -> None:
        status = trainer.status(one.job)
        if status.state == "gone":
            trainer.submit(one.job, self._spec(one))
            with self.platform.db.writing() as conn:
                reproductions.change(conn, one.id, state="running")
        elif status.state == "failed":
            self._close(one, "failed", reason=status.reason)
        elif status.state == "succeeded":
            self._close(one, "complete", verdict=self._judged(one, trainer.collect(one.job)))
            shutil.rmtree(trainer.folder(one.job) / "output", ignore_errors=True)

    def _close(self, one: Reproduction, state: str, **values: Any) -> None:
        with self.platform.db.writing() as conn:
            if reproductions.change(conn, one.id, state=state, ended_at=clock.iso(), **values):
                audit.record(
                    conn, actor="loop", action=f"version.reproduction_{state}", subject=one.version,
                    detail={"id": one.id, **{name: value for name, value in values.items() if name == "verdict"}},
                )  # fmt: skip

    def _spec(self, one: Reproduction) -> Spec:
        """The job as it was, with its rows staged again where they are gone."""
        with self.platform.db.reading() as conn:
            version = versions.get(conn, one.version)
            model = models.get(conn, one.model).spec
        trial = _trial(self.platform, version)
        base = bases.need(self.platform.home.bases, version.base)
        spec = self._held(trial, base.folder)
        if spec is not None and spec.rows.exists() and spec.validation.exists():
            return spec
        return self._staged(
            one, version, model, trial, spec or Spec(base.folder, Path(), Path(), Path("output"), trial.recipe)
        )

    def _held(self, trial: Trial, base: Path) -> Spec | None:
        """What the run's own folder says, on this home's base."""
        path = self.platform.home.jobs / trial.job / "spec.json"
        try:
            return replace(
                recipes.spec(json.loads(path.read_text()), where=str(path)), base=base, output=Path("output")
            )
        except (OSError, ValueError):
            return None

    def _staged(self, one: Reproduction, version: Version, model: ModelSpec, trial: Trial, spec: Spec) -> Spec:
        """The rows of the dataset version, as policies leave them now; the version to go on from, as it was."""
        method, named = trial.recipe.method, version.recipe.get("mix") or {}
        found = staging.staged(self.platform, version.dataset, one.job, method, model.evaluate.cases)
        shares: Mapping[str, float] = next(iter(named.values()), {}) if isinstance(named, dict) else {}
        rows = planning.mixed(self.platform, version.dataset, method, found, shares) if shares else found.rows
        start = str(version.recipe.get("started_from") or "")
        if start and not (spec.init_adapter or spec.init_weights):
            with self.platform.db.reading() as conn:
                before = versions.get(conn, start)
            adapter = before.tuning == "lora"
            spec = replace(
                spec, init_adapter=before.trained if adapter else None, init_weights=None if adapter else before.trained
            )
        return replace(spec, rows=rows, validation=found.validation)

    def _judged(self, one: Reproduction, result: Result) -> dict[str, Any]:
        """How near it came."""
        with self.platform.db.reading() as conn:
            version = versions.get(conn, one.version)
        kept = version.trained
        if kept is None or not kept.is_dir():
            raise Refused(
                f"the files of {version.ref} are gone", where=version.folder, remedy="restore them from a backup"
            )
        before = _trial(self.platform, version).figures
        return verdict(likeness.compare(kept, result.folder / kept.name), before, result.about)


def verdict(near: likeness.Likeness, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The weights' likeness, the scores of both, and what was not as then. Pure."""
    was, now = before.get("validation") or {}, after.get("validation") or {}
    return {
        **near.to_dict(),
        "scores": {name: [was.get(name), now.get(name)] for name in SCORES},
        "cases": now.get("n"),
        "differences": provenance.differences(before.get("provenance") or {}, after.get("provenance") or {}),
        "seconds": after.get("seconds"),
        "summary": _summary(near, was, now),
    }


def _summary(near: likeness.Likeness, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if near.equal:
        return "bit by bit the same"
    apart = "" if near.relative is None else f", {near.relative:.2g} of their length apart"
    scores = "; ".join(f"{name} {was[name]:.4g} then, {now[name]:.4g} now" for name in SCORES
                       if was.get(name) is not None and now.get(name) is not None)  # fmt: skip
    return f"not the same weights{apart}" + (f"; {scores}" if scores else "")
