"""What a search of a model will take, from what is known here: its file, its base, its rows, this machine, the runs before.

    of(platform, spec)      the estimate: shown by `plan`, at the start of a turn or a search, on the page that asks
    demand(platform, spec)  the same, refused when a run cannot fit

Rows are counted by the dataset's record and weighed by a few of them; what earlier runs of the model told of tokens comes before
that. The machine's speed is asked of a small matrix product, so it is the speed that the machine has left now. Nothing here
imports torch, and nothing takes longer than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data import reading
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.deploy.plan import Plan
from ciranda.errors import CirandaError
from ciranda.jobs.placed import LOCAL
from ciranda.loop import steps
from ciranda.loop.platform import Platform
from ciranda.store.database import Database
from ciranda.train import bases
from ciranda.train import estimate as estimating
from ciranda.train.bases import Base
from ciranda.train.estimate import Estimate, Load, Machine, Past
from ciranda.train.recipe import Recipe
from ciranda.train.trials import trials

WEIGHED = 300  # rows that say how long rows are
REMEMBERED = 200
RUNS = 10
SIDE = 384
MEASURE_S = 0.15  # less is a matter of luck while others work
USUAL_TOKENS, USUAL_ANSWER = 60.0, 20.0  # of a row, where there is none yet


def of(platform: Platform, spec: ModelSpec, *, recipe: Recipe | None = None, dataset: str = "") -> Estimate | None:
    """What a search takes; None while the base is not prepared, since nothing is known of its size.

    Args:
        recipe: One run's recipe; without it the one that a turn would begin with.
        dataset: A version to learn from; without it the newest.
    """
    base = bases.find(platform.home.bases, spec.base)
    if base is None:
        return None
    mine = recipe or steps.recipe(spec, steps.begun(platform, spec))
    shape = estimating.shape(base.config)
    load = _load(platform, spec, dataset, mine)
    past = _past(platform.db, base, load)
    if known := [one.load for one in past]:
        load = Load(load.rows, known[0].tokens, known[0].answer, load.validation)
    search = spec.train.search
    return estimating.estimate(
        shape, mine, load, _where(spec), past=past, trials=search.trials, budget_s=search.budget,
        price=search.price, abreast=search.workers,
    )  # fmt: skip


def demand(platform: Platform, spec: ModelSpec, *, recipe: Recipe | None = None, dataset: str = "") -> Estimate | None:
    """The same. Raises Refused when a run cannot fit, with what would."""
    found = of(platform, spec, recipe=recipe, dataset=dataset)
    if found is not None:
        found.demand(where=f"{spec.model}: train.recipe")
    return found


def told(platform: Platform, spec: ModelSpec, *, dataset: str = "") -> dict[str, Any]:
    """The estimate for people, or why there is none; never an error, since it stands beside other things."""
    try:
        found = of(platform, spec, dataset=dataset)
    except CirandaError as error:
        return {"model": spec.model, "summary": "", "problem": error.message, "remedy": error.remedy}
    if found is None:
        why = f"the base {spec.base} is not prepared yet, so nothing is known of its size"
        return {"model": spec.model, "summary": "", "problem": "", "remedy": "", "unknown": why}
    return {"model": spec.model, **found.to_dict()}


def of_plan(platform: Platform, todo: Plan) -> list[dict[str, Any]]:
    """The estimates of the models that a plan makes or changes."""
    specs = [ModelSpec.model_validate(step.detail["spec"]) for step in todo.steps if "spec" in step.detail]
    return [told(platform, spec) for spec in specs]


# --- what is read -----------------------------------------------------------------------------------------------------


def _load(platform: Platform, spec: ModelSpec, dataset: str, recipe: Recipe) -> Load:
    """How much there is to read; the usual where there are no rows yet."""
    version = datasets.get(platform.db, dataset) if dataset else datasets.newest_of(platform.db, spec.dataset)
    if version is None:
        return Load(0, min(USUAL_TOKENS, recipe.max_tokens), USUAL_ANSWER, spec.evaluate.cases)
    splits: Mapping[str, int] = version.counts.get("split", {})
    found = reading.read(platform.db, platform.home, version.ref, reading.itself("training"), split="train")
    sizes = np.array([_tokens(row) for row in islice(found, WEIGHED)] or [(USUAL_TOKENS, USUAL_ANSWER)])
    fitting = sizes[sizes[:, 0] <= recipe.max_tokens]
    tokens, answer = (fitting if len(fitting) else np.minimum(sizes, recipe.max_tokens)).mean(axis=0)
    held = int(splits.get("validation", 0))
    return Load(int(splits.get("train", version.rows)), float(tokens), float(answer), min(held, spec.evaluate.cases))


def _tokens(row: Row) -> tuple[float, float]:
    """Roughly the tokens of a row and of its answer."""
    said, answer = sum(len(one.content) for one in row.messages), len(row.completion)
    around = estimating.TEMPLATE_TOKENS * max(1, len(row.messages))
    return around + (said + answer) / estimating.CHARACTERS, 1 + answer / estimating.CHARACTERS


def _past(db: Database, base: Base, load: Load) -> list[Past]:
    """The newest complete runs on this base, with what they told of tokens."""
    query = sa.select(trials).where(trials.c.state == "complete").order_by(trials.c.started_at.desc()).limit(REMEMBERED)
    with db.reading() as conn:
        rows = conn.execute(query).mappings().all()
    found = (_one(dict(row), base, load) for row in rows)
    return [one for one in found if one is not None][:RUNS]


def _one(row: Mapping[str, Any], base: Base, load: Load) -> Past | None:
    figures = row["figures"] or {}
    made, speed = figures.get("provenance") or {}, figures.get("tokens_per_s")
    if made.get("base") != base.digest or not speed or not row["seconds"] or figures.get("resumed_at"):
        return None
    recipe = Recipe(**{name: value for name, value in row["recipe"].items() if name in Recipe.model_fields})
    tokens = float(figures.get("tokens") or 0) / max(1, recipe.steps * recipe.batch_size)
    share = load.answer / max(load.tokens, 1.0)
    read = Load(
        int(figures.get("rows") or 0), tokens or load.tokens, (tokens or load.tokens) * share,
        int((figures.get("validation") or {}).get("n") or 0),
    )  # fmt: skip
    return Past(recipe, read, float(speed), float(row["seconds"]), float(figures.get("peak_rss_bytes") or 0))


# --- the machine ------------------------------------------------------------------------------------------------------


def machine() -> Machine:
    """This machine as it is now."""
    with Path("/proc/meminfo").open() as file:
        held = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in file if line.startswith("Mem")}
    bound = _bound()
    return Machine(flops(), min(held["MemTotal"], bound), min(held["MemAvailable"], bound))


def _bound() -> int:
    """What a container may take, where one is set."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return 1 << 60
    return int(text) if text.isdecimal() else 1 << 60


def _where(spec: ModelSpec) -> Machine:
    """Where runs of the model go: this machine, or what is reserved for each elsewhere, whose room for others we cannot know."""
    here = machine()
    if spec.train.executor == LOCAL:
        return here
    memory = int(spec.train.resources.memory_gb * 1e9)
    return Machine(here.flops, memory, memory * max(1, spec.train.search.trials))


def flops() -> float:
    """Multiplications and additions in a second, as a matrix product reaches them now."""
    one = np.ones((SIDE, SIDE), np.float32)
    one @ one
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < MEASURE_S:
        one @ one
        count += 1
    return 2.0 * SIDE**3 * count / (time.perf_counter() - began)
