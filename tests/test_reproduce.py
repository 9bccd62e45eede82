"""A version trained again: weights compared number by number, and what was not as then is named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save_file
from tests import smallmodel

import house
from ciranda import loop
from ciranda.config import Home, Settings
from ciranda.errors import Invalid, Refused
from ciranda.jobs import process
from ciranda.loop import intake, reproduce, searching, steps
from ciranda.registry import models
from ciranda.train import likeness, reproductions
from registry_world import MODEL, World


def weights(folder: Path, **tensors: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@given(
    arrays(np.float32, array_shapes(max_dims=2, max_side=4), elements=st.floats(-1, 1, width=32)), st.floats(0.25, 1)
)
def test_how_far_weights_are_apart_is_measured(place: Path, one: Any, by: float) -> None:
    same = likeness.compare(weights(place / "a", w=one), weights(place / "b", w=one.copy()))
    assert (same.equal, same.files, same.largest) == (True, (), 0.0)
    off = likeness.compare(weights(place / "a", w=one), weights(place / "c", w=one + np.float32(by)))
    assert off.files == ("adapter_model.safetensors",)
    assert off.largest == pytest.approx(by, rel=1e-3)
    assert off.before != off.after


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    one = np.ones((2, 2), np.float32)
    before = weights(tmp_path / "a", w=one)
    with pytest.raises(Invalid, match="other tensors"):
        likeness.compare(before, weights(tmp_path / "b", w=np.ones(3, np.float32)))
    odd = likeness.compare(before, weights(tmp_path / "c", w=one * np.nan))
    assert (odd.equal, odd.largest) == (False, None)
    (tmp_path / "c/adapter_model.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(Invalid, match="no file of weights"):
        likeness.compare(before, tmp_path / "c")


def test_half_precision_is_compared_by_value(tmp_path: Path) -> None:
    def bf16(folder: Path, first: int) -> Path:
        folder.mkdir()
        head = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        numbers = np.array([first, 0x3F80], np.uint16).tobytes()
        (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + numbers)
        return folder

    found = likeness.compare(bf16(tmp_path / "a", 0x3F80), bf16(tmp_path / "b", 0x4000))
    assert found.largest == 1.0
    assert found.relative == pytest.approx(2**-0.5)


def test_a_verdict_says_how_near_and_what_was_other() -> None:
    before = {
        "validation": {"exact_match": 0.8, "loss": 0.10},
        "provenance": {"rows": "a", "environment": {"torch": "2.12"}},
    }
    after = {
        "validation": {"exact_match": 0.7, "loss": 0.12, "n": 40},
        "provenance": {"rows": "b", "environment": {"torch": "2.13"}},
    }
    near = likeness.Likeness(False, "x", "y", ("w",), 0.5, 0.01)
    found = reproduce.verdict(near, before, after)
    assert found["scores"] == {"exact_match": [0.8, 0.7], "loss": [0.10, 0.12]}
    assert found["differences"] == ["rows", "torch: 2.12 then, 2.13 now"]
    assert (
        found["summary"]
        == "not the same weights, 0.01 of their length apart; exact_match 0.8 then, 0.7 now; loss 0.1 then, 0.12 now"
    )


def test_what_was_not_trained_here_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, base="tiny", serve={"engine": "fake"})
    world.register(1)
    platform = loop.Platform(world.home, Settings(), world.db)
    for ref in (f"{MODEL}@0", f"{MODEL}@1"):
        with pytest.raises(Refused, match="was not trained here"):
            reproduce.ask(platform, ref, actor="ana")


# --- the real small model -------------------------------------------------------------------------------------------------

REAL = """\
model: house
data: {sources: [{files: ../data/*.jsonl}]}
train:
  search: {trials: 1, budget: 10m, workers: 1}
  recipe: {steps: 48, layers: 2}
evaluate: {cases: 12, max_tokens: 32}
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_version_of_the_real_small_model_comes_out_bit_by_bit_the_same_also_after_a_kill(tmp_path: Path) -> None:
    platform = loop.open(Home(tmp_path / ".ciranda"))
    file = house.project(tmp_path, spec=REAL)
    loop.apply(platform, loop.plan(platform, {str(file): file.read_text()}), "test")
    with platform.db.reading() as conn:
        spec = models.get(conn, house.MODEL).spec
    intake.take(platform, spec, actor="test", patient=True)
    best = searching.best(platform, spec, "house@1", turn="turn:house:first", tell=lambda _: None)
    version = steps.register(platform, spec, {"dataset": "house@1"}, best, turn="")

    whole = followed(platform, version.ref)
    assert whole.state == "complete", whole.reason
    assert (whole.verdict["summary"], whole.verdict["differences"]) == ("bit by bit the same", [])

    killed = followed(platform, version.ref, at=lambda told: 42 in told)  # the checkpoint of step 40 is there
    assert killed.state == "complete", killed.reason
    assert platform.jobs.status(killed.job).attempt == 2
    assert killed.verdict["equal"], "a run that went on from its checkpoint ends as the whole one"
    platform.close()


def followed(
    platform: loop.Platform, ref: str, *, at: Callable[[list[int]], bool] = lambda _: False
) -> reproductions.Reproduction:
    """Ask for a reproduction and do the leader's part; its trainer is killed once, when the steps that it told say so."""
    leader, asked, left = reproduce.Reproducing(platform), reproduce.ask(platform, ref, actor="ana"), 1
    while True:
        leader.look()
        with platform.db.reading() as conn:
            one = reproductions.get(conn, asked.id)
        if not one.open:
            return one
        if left and at(smallmodel.steps_done(platform.home.jobs / one.job)):
            for process_ in process.marked(f"CIRANDA_JOB={platform.home.jobs / one.job}"):
                process.kill(process_)
            left = 0
        time.sleep(0.05)
