"""The work behind each step of a turn. Every function here may be killed anywhere and called again: it then goes on, or finds
its result. What is heavy is a job under a key that follows from the turn, so a second call finds the first one's job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.data import erasure as erased
from ciranda.data import versions as datasets
from ciranda.deploy import rollout
from ciranda.errors import CirandaError
from ciranda.loop import registering
from ciranda.loop.heavy import POLL_S, failed
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import flags, folders, models, versions
from ciranda.registry.versions import Draft, Version
from ciranda.train import bases
from ciranda.train import recipe as recipes
from ciranda.train.recipe import Recipe

# --- the base, and version 0 ------------------------------------------------------------------------------------------


def found(platform: Platform) -> None:
    """Give every model without a live version its version 0, the bare base: the first champion to beat.

    Its base is prepared by a job first; until that is done, nothing happens and the next look goes on.
    """
    with platform.db.reading() as conn:
        missing = [model.spec for model in models.every(conn) if versions.live(conn, model.name) is None]
    for spec in missing:
        base = _base(platform, spec)
        if base is None:
            continue
        version = versions.register_base(
            platform.db, platform.home, model=spec.model, base=spec.base, base_digest=base.digest, actor="loop"
        )
        with platform.db.writing() as conn:
            if versions.live(conn, spec.model) is None:  # another thread may have been here meanwhile
                rollout.promote(conn, version.ref, actor="loop", reason="the bare base, until a version beats it")


def _base(platform: Platform, spec: ModelSpec) -> bases.Base | None:
    """The prepared base, or None: not yet, or not at all, which is an alert."""
    try:
        return bases.find(platform.home.bases, spec.base) if prepared(platform, spec) else None
    except CirandaError as error:
        with platform.db.writing() as conn:
            alerts.raise_(
                conn, f"base:{spec.model}:{spec.base}", model=spec.model, kind="base", severity="critical",
                title=f"{spec.model} has no base: {error.message}", body={"error": error.to_dict()},
                targets=spec.alerts, actor="loop",
            )  # fmt: skip
        return None


def prepared(platform: Platform, spec: ModelSpec) -> bool:
    """Whether the model's base is ready in this home; when it is not, the job that prepares it is under way.

    Raises:
        NotFound: There is no such base, or its package is not installed; says how to get it.
        Failed: Its preparation failed; says where the log is.
    """
    if bases.find(platform.home.bases, spec.base) is not None:
        return True
    key = f"base:{bases.slug(spec.base)}"
    state = platform.jobs.status(key)
    if state.state == "failed":
        remedy = f"mend what the log says, then `ciranda base prepare {spec.base}`"
        raise failed(platform, key, f"the base {spec.base!r} could not be prepared", remedy=remedy)
    if state.state != "running":
        folder = platform.home.jobs / key
        cache = Path(platform.settings.cache)
        platform.jobs.submit(key, bases.job(spec.base, bases=platform.home.bases, cache=cache, folder=folder))
    return bases.find(platform.home.bases, spec.base) is not None


def prepare(platform: Platform, spec: ModelSpec) -> bases.Base:
    """The model's base, once it is ready; waits for its job."""
    while not prepared(platform, spec):
        time.sleep(POLL_S)
    return bases.need(platform.home.bases, spec.base)


# --- training ---------------------------------------------------------------------------------------------------------


def recipe(spec: ModelSpec, start: Version | None) -> Recipe:
    """The recipe as given: what the file says, then what the version to go on from had, then what is usual.

    Of a version made by another method only the shape is kept, of one tuned otherwise nothing.
    """
    written: dict[str, Any] = {"tuning": "lora", **spec.train.recipe, "method": spec.train.method}
    held = {name: value for name, value in (start.recipe if start else {}).items() if name in Recipe.model_fields}
    if held.get("tuning", "lora") != written["tuning"]:
        held = {}
    elif held.get("method", "sft") != written["method"]:
        held = {name: value for name, value in held.items() if name in recipes.SHAPE}
    return recipes.recipe({**held, **written}, where=f"{spec.model}: train.recipe")


def begun(platform: Platform, spec: ModelSpec) -> Version | None:
    """The live version, when it was trained from the same base: what it learned need not be learned again.

    One that learnt from a person who was erased is nothing to go on from.
    """
    with platform.db.reading() as conn:
        live = versions.live(conn, spec.model)
        flagged = {one["ref"] for one in flags.of(conn, spec.model)}
    mine = live is not None and live.tuning and live.base == spec.base and live.ref not in flagged
    if live is not None and registering.ELSEWHERE in live.recipe:
        return None  # in which shape it was trained is not known
    return live if mine else None


def register(
    platform: Platform, spec: ModelSpec, data: Mapping[str, Any], best: Mapping[str, Any], *, turn: str
) -> Version:
    """Make the best trial a version; the same trial again is the same version.

    The dataset is the one that the search learnt from, which for one that was asked for before the turn may be an older version.
    """
    folder, whole, base = Path(best["folder"]), best["tuning"] == "full", best.get("base") or spec.base
    learnt = datasets.get(platform.db, best.get("dataset") or data["dataset"])
    noted = {name: best[name] for name in ("started_from", "mix") if best.get(name)}
    draft = Draft(
        model=spec.model,
        base=base,
        base_digest=bases.need(platform.home.bases, base).digest,
        dataset=learnt.ref,
        dataset_digest=learnt.digest,
        recipe={**best["recipe"], **noted},
        adapter=None if whole else folder / folders.ADAPTER,
        weights=folder / folders.WEIGHTS if whole else None,
        gguf=folder / (folders.MODEL_GGUF if whole else folders.ADAPTER_GGUF),
        environment=best["environment"],
        trial=best["trial"],
        turn=turn,
        policies=best.get("policies") or {},
    )
    version = versions.register(platform.db, platform.home, draft, actor="loop")
    with platform.db.writing() as conn:
        for erasure in erased.since(conn, draft.dataset, draft.dataset_digest):
            flags.flag(conn, erasure, [version])
    return version
