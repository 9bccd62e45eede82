"""From a model's file and a dataset version to the whole plan of a search: bases, rows by method and mix, recipe, bounds.

A mix is the same rows in other shares: a row of weight 3 stands there three times, one of 0.5 in half of all mixes, chosen by its
key. Mixes are made of one dataset version alone, so that lineage still leads from any answer to its rows; rows of several sets
become one version first (`ciranda data`). What a mix says of languages counts, so its rows carry none: training draws languages
evenly where they are told apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.data import reading
from ciranda.data.rows import Row
from ciranda.errors import Refused
from ciranda.loop import picks, staging, steps
from ciranda.loop.platform import Platform
from ciranda.loop.staging import Staged
from ciranda.store import files
from ciranda.train import bases, plans, spaces
from ciranda.train.plans import Place, Plan

PLAIN = ""  # the rows as they are


def names(spec: ModelSpec) -> tuple[str, ...]:
    """The bases that a search of the model may start from."""
    return tuple(str(name) for name in spec.train.search.space.get(spaces.BASE, (spec.base,)))


def ready(platform: Platform, spec: ModelSpec) -> bool:
    """Whether every base is prepared; the jobs that prepare the others are under way."""
    done = [
        steps.prepared(platform, spec.model_copy(update={"base": name})) for name in names(spec)
    ]  # begins every job
    return all(done)


def config(platform: Platform, base: str) -> dict[str, Any]:
    """A prepared base's configuration."""
    return bases.need(platform.home.bases, base).config


def planned(
    platform: Platform, spec: ModelSpec, dataset: str, *, name: str, turn: str = "", bounds: Mapping[str, Any] | None = None
) -> Plan:  # fmt: skip
    """The whole plan of a search whose bases are prepared.

    Args:
        name: The search's id.
        bounds: `limit`, `budget_s` and `money` in place of the file's.

    Raises:
        Refused: The model's engine could not serve what the recipe makes, or the rows are none that its method learns from.
    """
    file = spec.train.search
    start = None if spaces.afresh(spec) else steps.begun(platform, spec)
    recipe = steps.recipe(spec, start)
    prepared = {one: bases.need(platform.home.bases, one) for one in names(spec)}
    places = {one: Place(base.folder, base.config["num_hidden_layers"]) for one, base in prepared.items()}
    for base in prepared.values():
        picks.servable(spec, recipe, base.config)
    space = spaces.space(spec, recipe, layers=next(iter(places.values())).layers, going_on=start is not None)
    methods = tuple(str(one) for one in space.get("method", (recipe.method,)))  # type: ignore[union-attr]
    staged = {one: staging.staged(platform, dataset, name, one, spec.evaluate.cases) for one in methods}
    given = plans.raised({"limit": file.trials, "budget_s": file.budget, "money": file.money}, bounds or {})
    return Plan(
        id=name, model=spec.model, dataset=dataset, turn=turn, bases=places, recipe=recipe, space=space,
        rows={f"{method}/{mix}": path for method, found in staged.items()
              for mix, path in _mixes(platform, spec, dataset, method, found).items()},
        validation={method: found.validation for method, found in staged.items()},
        price=file.price, prune=file.prune, objectives=file.objectives, within=file.within, prefer=file.prefer or "",
        init_adapter=start.trained if start and start.tuning == "lora" else None,
        init_weights=start.trained if start and start.tuning == "full" else None,
        started_from=start.ref if start else "", policies=next(iter(staged.values())).policies, **given,
    )  # fmt: skip


def _mixes(platform: Platform, spec: ModelSpec, dataset: str, method: str, found: Staged) -> dict[str, Path]:
    """The file of each mix that may be drawn."""
    varied = spec.train.search.space.get(spaces.MIX, ()) or tuple(spec.train.search.mixes)
    if not varied or (spec.train.search.space and spaces.MIX not in spec.train.search.space):
        return {PLAIN: found.rows}
    shares = spec.train.search.mixes
    return {
        str(mix): mixed(platform, dataset, method, found, shares[str(mix)]) if shares[str(mix)] else found.rows
        for mix in varied
    }


def mixed(platform: Platform, dataset: str, method: str, found: Staged, shares: Mapping[str, float]) -> Path:
    """Rows in these shares, as a file beside the plain one; written once, whole.

    Raises:
        Refused: The shares leave nothing.
    """
    mark = hashlib.sha256(json.dumps(shares, sort_keys=True).encode()).hexdigest()[:12]
    path = found.rows.with_name(f"{found.rows.stem}-mix-{mark}.jsonl")
    if path.exists():
        return path
    rows = reading.read(platform.db, platform.home, dataset, staging.TRAINING, split="train")
    lines = [line for row in rows for line in _lines(row, method, shares, mark)]
    if not any(staging.fits(json.loads(line), method) for line in lines):
        raise Refused(f"the mix {dict(shares)} leaves no row of {dataset}", where="train.search.mixes",
                      remedy="raise a share, or correct the names of languages and sources")  # fmt: skip
    files.write_atomic(path, "".join(lines))
    return path


def _lines(row: Row, method: str, shares: Mapping[str, float], mark: str) -> Iterator[str]:
    told = {name: value for name, value in staging.line(row).items() if name != "language"}
    if not staging.taken(told, method):
        return
    text = json.dumps(told, ensure_ascii=False) + "\n"
    yield from [text] * times(row, shares, mark)


def times(row: Row, shares: Mapping[str, float], mark: str) -> int:
    """How often a row stands in a mix: the product of the shares that name it; a part of one is decided by its key."""
    weight = 1.0
    for part, share in shares.items():
        kind, _, value = part.partition(":")
        if getattr(row, kind) == value:
            weight *= share
    chance = int(hashlib.sha256(f"{mark} {row.key}".encode()).hexdigest()[:12], 16) / 16**12
    return int(weight) + (chance < weight % 1)
