"""Estimates: what a search will take, put right by what was measured; and what cannot fit is refused before anything begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda import loop
from ciranda.config import Settings
from ciranda.config.model import ModelSpec
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.errors import Refused
from ciranda.loop import estimates
from ciranda.registry import models
from ciranda.store import clock
from ciranda.train import bases, estimate
from ciranda.train.estimate import Load, Machine, Past
from ciranda.train.recipe import Recipe
from ciranda.train.trials import searches, trials
from registry_world import MODEL, World

SMOL = {
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
}
SHAPE = estimate.shape(SMOL)
LOAD = Load(rows=800, tokens=44, answer=16, validation=4)
ROOMY = Machine(flops=40e9, memory_bytes=16 << 30, free_bytes=12 << 30)

recipes = st.builds(
    lambda layers, batch, tuning, method: Recipe(layers=layers, batch_size=batch, tuning=tuning, method=method),
    st.integers(1, 30),
    st.integers(1, 64),
    st.sampled_from(["lora", "full"]),
    st.sampled_from(["sft", "dpo", "kto"]),
)


@pytest.mark.parametrize(
    ("layers", "batch", "measured_mb"), [(12, 2, 1125), (30, 2, 1242), (12, 8, 1392), (30, 8, 1744)]
)
def test_memory_is_near_what_was_measured_on_the_packaged_base(layers: int, batch: int, measured_mb: float) -> None:
    said = estimate.memory(SHAPE, Recipe(layers=layers, batch_size=batch), LOAD) / 1e6
    assert 0.9 * measured_mb <= said <= 1.25 * measured_mb


@pytest.mark.parametrize(
    ("recipe", "measured_mb"),
    [
        (Recipe(), 1366), (Recipe(layers=30, batch_size=8), 1987), (Recipe(method="dpo"), 2537),
        (Recipe(method="kto"), 2151), (Recipe(method="pretrain"), 1574),
    ],
)  # fmt: skip
def test_no_method_takes_more_memory_than_is_said(recipe: Recipe, measured_mb: float) -> None:
    found = estimate.estimate(SHAPE, recipe, Load(800, 57, 19, 30), ROOMY)  # bench/estimates.py
    assert 1.0 <= found.memory_bytes / 1e6 / measured_mb <= 1.5


@given(recipes)
def test_more_to_do_takes_no_less(recipe: Recipe) -> None:
    more = recipe.model_copy(update={"batch_size": recipe.batch_size + 1, "layers": min(30, recipe.layers + 1)})
    assert estimate.memory(SHAPE, more, LOAD) >= estimate.memory(SHAPE, recipe, LOAD)
    step, longer = (one.batch_size * estimate.work(SHAPE, one, LOAD) for one in (recipe, more))
    assert longer >= step
    pairs = recipe.model_copy(update={"method": "dpo"})
    assert estimate.work(SHAPE, pairs, LOAD) > estimate.work(SHAPE, recipe.model_copy(update={"method": "sft"}), LOAD)


def test_earlier_runs_are_believed_before_arithmetic() -> None:
    recipe = Recipe(steps=240, batch_size=2)
    past = Past(recipe, LOAD, tokens_per_s=100.0, seconds=250.0, peak_rss_bytes=2e9)
    found = estimate.estimate(SHAPE, recipe, LOAD, ROOMY, past=[past])
    assert found.seconds == pytest.approx(250, rel=0.05)
    assert found.memory_bytes == pytest.approx(2e9, rel=0.01)
    assert found.basis == "1 runs measured here"
    deeper = estimate.estimate(SHAPE, recipe.model_copy(update={"layers": 30}), LOAD, ROOMY, past=[past])
    assert found.seconds < deeper.seconds < 3 * found.seconds


def test_a_search_counts_trials_places_budget_and_money() -> None:
    recipe = Recipe(steps=240, batch_size=2)
    one = estimate.estimate(SHAPE, recipe, LOAD, ROOMY)
    many = estimate.estimate(SHAPE, recipe, LOAD, ROOMY, trials=8, abreast=2, price=0.5)
    assert many.search_s == pytest.approx(4 * one.seconds, rel=0.01)
    assert many.cost == pytest.approx(8 * one.seconds / 3600 * 0.5, rel=0.01)
    bounded = estimate.estimate(SHAPE, recipe, LOAD, ROOMY, trials=100, abreast=1, budget_s=2.5 * one.seconds)
    assert bounded.trials == 3
    narrow = replace(ROOMY, free_bytes=2 * one.memory_bytes)
    assert estimate.estimate(SHAPE, recipe, LOAD, narrow, trials=8).abreast == 2


@given(recipes, st.integers(1 << 29, 1 << 34))
def test_what_cannot_fit_is_refused_with_what_would(recipe: Recipe, there: int) -> None:
    found = estimate.estimate(SHAPE, recipe, LOAD, Machine(40e9, there, there))
    if not found.problem:
        assert estimate.memory(SHAPE, recipe, LOAD) <= there
        return
    with pytest.raises(Refused, match="GB of memory") as caught:
        found.demand(where="m: train.recipe")
    assert caught.value.remedy.startswith(("write `recipe: {", "take a smaller base"))


def test_a_base_without_weights_takes_a_moment() -> None:
    found = estimate.estimate(estimate.shape({"num_hidden_layers": 12}), Recipe(), LOAD, ROOMY)
    assert found.seconds < 5
    assert not found.problem


# --- from a home ------------------------------------------------------------------------------------------------------


def home(path: Path, config: dict[str, int]) -> loop.Platform:
    """A home whose model stands on a base of this shape, with rows."""
    (path / "made").mkdir()
    base = str(path / "made")
    world = World(path, base=base, train={"recipe": {"steps": 100}, "search": {"trials": 3, "budget": "10h"}})
    prepared = world.home.bases / bases.slug(base)
    (prepared / "hf").mkdir(parents=True)
    (prepared / "base.json").write_text(json.dumps({"format": bases.FORMAT, "digest": "sha256:made"}))
    (prepared / "hf/config.json").write_text(json.dumps(config))
    rows = [
        Row.of(f"turn on light {n}", '{"intent": "On"}', split=("train", "validation")[n % 4 == 0]) for n in range(80)
    ]
    datasets.commit(world.db, world.home, MODEL, rows, transformation={}, actor="test")
    return loop.Platform(world.home, Settings(), world.db)


def spec_of(platform: loop.Platform) -> ModelSpec:
    with platform.db.reading() as conn:
        return models.get(conn, MODEL).spec


def test_a_turn_of_what_cannot_fit_does_not_begin(tmp_path: Path) -> None:
    giant = {**SMOL, "hidden_size": 16_384, "intermediate_size": 53_248, "num_hidden_layers": 126}
    platform = home(tmp_path, giant)
    with pytest.raises(Refused, match=r"the machine has \d"):
        loop.start_turn(platform, MODEL, actor="ana")
    told = estimates.told(platform, spec_of(platform))
    assert "smaller base" in told["remedy"]


def test_what_runs_told_before_is_taken_from_their_rows(tmp_path: Path) -> None:
    platform = home(tmp_path, SMOL)
    first = estimates.of(platform, spec_of(platform))
    assert first is not None
    assert (first.rows, first.trials, first.runs) == (60, 3, 0)
    assert loop.start_turn(platform, MODEL, actor="ana").startswith(f"turn:{MODEL}:")
    now = clock.iso()
    figures = {
        "tokens_per_s": 10.0, "tokens": 8800, "peak_rss_bytes": 3e9, "rows": 60, "validation": {"n": 20},
        "provenance": {"base": "sha256:made"},
    }  # fmt: skip
    with platform.db.writing() as conn:
        conn.execute(searches.insert().values(_search(now)))
        conn.execute(trials.insert().values(
            id="s.0", search="s", number=0, state="complete", recipe={"steps": 100, "batch_size": 2}, objective=0.5, loss=1.0,
            loss_curve=[], seconds=900.0, job="train:s:0", folder="", reason="", figures=figures, started_at=now, ended_at=now,
        ))  # fmt: skip
    second = estimates.of(platform, spec_of(platform))
    assert second is not None
    assert second.runs == 1
    assert second.tokens == 44.0
    assert second.seconds == pytest.approx(900, rel=0.05)


def _search(now: str) -> dict[str, object]:
    known = {
        "id": "s", "model": MODEL, "dataset": f"{MODEL}@1", "turn": "", "state": "complete", "objective": "exact match",
        "plan": {}, "best": 0, "reason": "", "started_at": now, "ended_at": now,
    }  # fmt: skip
    return {name: value for name, value in known.items() if name in searches.c}
