"""Methods and tunings: each trains by its own rows, leaves what is served, and goes on where it was killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests import smallmodel

from ciranda import loop
from ciranda.config import Home
from ciranda.config.model import ModelSpec
from ciranda.data import versions as datasets
from ciranda.data.rows import SPLITS, Row, parse
from ciranda.engines import llamacpp
from ciranda.errors import Invalid, Refused
from ciranda.loop import searching, staging, steps
from ciranda.registry import folders, models
from ciranda.train import bases
from ciranda.train.recipe import Recipe, Spec

WRONG = "Sorry, I cannot do that."


def pairs() -> list[dict[str, Any]]:
    return [{**row, "rejected": WRONG} for row in smallmodel.lights()]


def thumbs() -> list[dict[str, Any]]:
    """Each prompt with a liked and a disliked answer."""
    both = [({**row, "thumb": 1}, {**row, "completion": WRONG, "thumb": -1}) for row in smallmodel.lights()]
    return [row for pair in both for row in pair]


def texts() -> list[dict[str, Any]]:
    return [{"messages": [], "completion": f"The light in the {room} is on. " * 12} for room in smallmodel.ROOMS]


def tiny(folder: Path, **recipe: Any) -> Spec:
    """A job of some steps on the tiny base."""
    values = {"steps": 12, "batch_size": 4, "layers": 3, "learning_rate": 1e-2, "warmup_steps": 1} | recipe
    return smallmodel.spec(folder, on=smallmodel.tiny(), **values)


def told(folder: Path) -> list[dict[str, Any]]:
    """What a job said of validation."""
    lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    return [line["validation"] for line in lines if "validation" in line]


# --- what is preferred ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rows", "measure"), [("dpo", pairs(), "preferred"), ("kto", thumbs(), "ranked")])
def test_answers_that_people_prefer_gain_on_the_others(
    tmp_path: Path, method: str, rows: list[dict[str, Any]], measure: str
) -> None:
    spec = tiny(tmp_path, rows=rows, method=method, validate_every=4, anchor=0)
    result = smallmodel.trained(tmp_path, spec)
    assert result["method"] == method
    assert result["validation"]["measure"] == measure
    assert result["validation"]["exact_match"] >= 0.9
    assert result["validation"]["likelier"] >= result["validation"]["before"]
    curve = [loss for _, loss in result["loss_curve"]]
    assert len(curve) == 12
    assert curve[-1] < curve[0] * 0.7
    assert [one["step"] for one in told(tmp_path)] == [4, 8, 12]
    held = {path.name for path in (tmp_path / "output").iterdir()}
    assert held == {"adapter", "adapter.gguf", "result.json"}
    names = load_file(tmp_path / "output/adapter/adapter_model.safetensors")
    assert len(names) == 3 * 7 * 2, "the reference that it is compared with is no part of it"


def test_a_killed_run_of_pairs_goes_on_from_its_last_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ciranda.jobs import inside

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = smallmodel.trained(tmp_path / "whole", tiny(tmp_path / "whole", rows=pairs(), method="dpo", steps=8))
    spec = replace(tiny(tmp_path / "killed", rows=pairs(), method="dpo", steps=8), checkpoint_steps=2)
    tell = inside.Progress.__call__

    def dies(self: inside.Progress, values: Any) -> None:
        tell(self, values)
        if values.get("step") == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inside.Progress, "__call__", dies)
        with pytest.raises(KeyboardInterrupt):
            smallmodel.run(tmp_path / "killed", spec)
    (torn,) = (tmp_path / "killed/output").glob("trl-*")
    (torn / "checkpoint-6").mkdir()  # what a kill in the middle of saving leaves
    result = smallmodel.trained(tmp_path / "killed", spec)
    assert result["resumed_at"] == 4
    assert [loss for _, loss in result["loss_curve"]] == pytest.approx(
        [loss for _, loss in whole["loss_curve"]], rel=1e-3
    )
    assert result["validation"]["loss"] == pytest.approx(whole["validation"]["loss"], rel=1e-2)
    assert not list((tmp_path / "killed/output").glob("trl-*"))


def test_preference_goes_on_from_an_adapter_and_measures_against_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    smallmodel.trained(tmp_path / "first", tiny(tmp_path / "first"))
    spec = tiny(tmp_path / "second", rows=pairs(), method="dpo", anchor=0)
    spec = replace(spec, init_adapter=tmp_path / "first/output/adapter")
    result = smallmodel.trained(tmp_path / "second", spec)
    assert result["loss_curve"][0][1] == pytest.approx(np.log(2), rel=1e-3), "at the start it is its own reference"
    assert result["validation"]["exact_match"] >= 0.9


@pytest.mark.parametrize(
    ("method", "rows", "column"), [("dpo", pairs(), "chosen_ids"), ("kto", thumbs(), "completion_ids")]
)
def test_what_is_preferred_is_learnt_in_the_tokens_that_answers_are_taught_and_asked_in(
    tmp_path: Path, method: str, rows: list[dict[str, Any]], column: str
) -> None:
    from ciranda.engines import peft

    spec = tiny(tmp_path, rows=rows, method=method)
    tokenizer = peft.transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    school = peft.prepared(spec, tokenizer)
    taught, _ = peft.read_rows(spec.rows, tokenizer, spec.recipe.max_tokens)  # as `sft` does
    for place, number in enumerate(school.order):
        told = school.trainer.train_dataset[place]
        assert (tuple(told["prompt_ids"]), tuple(told[column])) == (taught[number].prompt, taught[number].answer)
        assert told[column][-1] == tokenizer.eos_token_id


def test_the_anchor_holds_the_better_answers_up(tmp_path: Path) -> None:
    reached = {}
    for method, rows in (("dpo", pairs()), ("kto", thumbs())):
        for anchor in (0.0, 2.0):
            folder = tmp_path / f"{method}-{anchor}"
            folder.mkdir()
            spec = tiny(folder, rows=rows, method=method, anchor=anchor)
            liked = smallmodel.write_rows(folder / "liked.jsonl", smallmodel.lights()[:12])
            smallmodel.trained(folder, spec)
            reached[method, anchor] = loss_of(spec, liked)
    assert reached["dpo", 2.0] < reached["dpo", 0.0]
    assert reached["kto", 2.0] < reached["kto", 0.0]


@pytest.mark.parametrize(("method", "compared"), [("dpo", {"rejected": WRONG}), ("kto", {"thumb": 1})])
def test_right_answers_that_nobody_compared_are_rehearsed(
    tmp_path: Path, method: str, compared: dict[str, Any]
) -> None:
    lights, reached = smallmodel.lights(), {}
    rows = [{**row, **compared} if n % 2 else row for n, row in enumerate(lights)]
    for rehearse in (0, 4):
        folder = tmp_path / str(rehearse)
        folder.mkdir()
        spec = tiny(folder, rows=rows, method=method, rehearse=rehearse)
        result = smallmodel.trained(folder, spec)
        assert (result["rows"], result["rows_rehearsed"], result["validation"]["n"]) == (6, 6, 2)
        reached[rehearse] = loss_of(spec, smallmodel.write_rows(folder / "plain.jsonl", lights[0:12:2]))
    assert reached[4] < reached[0]


def loss_of(spec: Spec, rows: Path) -> float:
    """The loss of a job's result on some answers."""
    from ciranda.engines import peft, peft_shape

    model = peft_shape.shaped(replace(spec, init_adapter=spec.output / "adapter"))
    tokenizer = peft.transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    return float(peft.evaluate(model, peft.read_rows(rows, tokenizer, 256)[0])["loss"])


@pytest.mark.parametrize(("method", "named"), [("dpo", "rejected"), ("kto", "thumb")])
def test_rows_without_a_preference_are_named(tmp_path: Path, method: str, named: str) -> None:
    assert smallmodel.run(tmp_path, tiny(tmp_path, method=method)) == Invalid.exit_code
    error = json.loads((tmp_path / "error.json").read_text())
    assert named in error["message"] + error["remedy"]
    assert error["where"].endswith("rows.jsonl:1")


# --- text, whole weights, and other shapes of LoRA ----------------------------------------------------------------------


def test_text_is_cut_into_pieces_and_learnt_token_by_token(tmp_path: Path) -> None:
    result = smallmodel.trained(tmp_path, tiny(tmp_path, rows=texts(), method="pretrain", max_tokens=32, steps=30))
    assert result["rows"] > 6, "a long text is several rows"
    assert result["rows_left_out"] == 0
    assert result["validation"]["measure"] == "next_token"
    assert result["loss_curve"][-1][1] < result["loss_curve"][0][1] * 0.85


def test_full_tuning_leaves_whole_weights_to_go_on_from(tmp_path: Path) -> None:
    for name in ("full", "dpo", "lora"):
        (tmp_path / name).mkdir()
    result = smallmodel.trained(tmp_path / "full", tiny(tmp_path / "full", tuning="full", layers=0, learning_rate=3e-3))
    assert result["tuning"] == "full"
    assert result["loss_curve"][-1][1] < result["loss_curve"][0][1] * 0.7
    held = {path.name for path in (tmp_path / "full/output").iterdir()}
    assert held == {"weights", "model.gguf", "result.json"}
    assert not {path.suffix for path in (tmp_path / "full/output/weights").iterdir()} & {".bin", ".pt", ".pth"}

    # Preferences tune whole weights too; a LoRA on them is merged, since an adapter is served beside its base only.
    weights = tmp_path / "full/output/weights"
    spec = tiny(tmp_path / "dpo", rows=pairs(), method="dpo", tuning="full", learning_rate=1e-3, steps=8)
    result = smallmodel.trained(tmp_path / "dpo", replace(spec, init_weights=weights))
    assert result["tuning"] == "full"
    assert result["validation"]["exact_match"] >= 0.9
    result = smallmodel.trained(tmp_path / "lora", replace(tiny(tmp_path / "lora", steps=2), init_weights=weights))
    assert result["tuning"] == "full"


def test_upper_layers_alone_change_when_the_recipe_says_so(tmp_path: Path) -> None:
    smallmodel.trained(tmp_path, tiny(tmp_path, tuning="full", layers=1, steps=2))
    before = load_file(smallmodel.tiny().hf / "model.safetensors")
    after = load_file(tmp_path / "output/weights/model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("model.layers.2.") for name in changed)


def test_dora_is_served_merged_or_refused_before_training(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 3}
    with pytest.raises(Refused, match="DoRA") as caught:
        llamacpp.servable(Recipe(dora=True, layers=3), config)
    assert "merge: true" in caught.value.remedy
    llamacpp.servable(Recipe(dora=True, merge=True, layers=3), config)
    result = smallmodel.trained(tmp_path, tiny(tmp_path, dora=True, merge=True, steps=4))
    assert result["tuning"] == "full"
    assert (tmp_path / "output/model.gguf").read_bytes()[:4] == b"GGUF"


def test_rslora_and_chosen_projections_are_carried_over_by_their_scale(tmp_path: Path) -> None:
    from gguf import GGUFReader

    smallmodel.trained(tmp_path, tiny(tmp_path, rslora=True, rank=4, alpha=8, targets=("q_proj", "v_proj"), steps=2))
    held = GGUFReader(tmp_path / "output/adapter.gguf")
    assert held.fields["adapter.lora.alpha"].contents() == pytest.approx(16), "8 / root of 4, as llama.cpp divides by 4"
    assert len(held.tensors) == 3 * 2 * 2


# --- recipes and rows ---------------------------------------------------------------------------------------------------


def test_what_is_not_written_follows_from_method_and_tuning() -> None:
    assert Recipe().learning_rate == 3e-3
    assert Recipe(method="dpo").learning_rate < Recipe().learning_rate
    assert Recipe(tuning="full").layers == 0
    assert Recipe(tuning="full", learning_rate=0.01).learning_rate == 0.01
    assert Recipe(**Recipe(method="kto", steps=7).model_dump()) == Recipe(method="kto", steps=7)


@pytest.mark.parametrize(
    ("row", "methods"),
    [
        ({"messages": [1], "completion": "a"}, {"sft", "pretrain"}),
        ({"messages": [1], "completion": "a", "rejected": "b"}, {"sft", "dpo", "pretrain"}),
        ({"messages": [1], "completion": "a", "thumb": 1}, {"sft", "kto", "pretrain"}),
        ({"messages": [1], "completion": "a", "thumb": -1}, {"kto"}),
        ({"messages": [], "completion": "a"}, {"pretrain"}),
    ],
)
def test_each_method_learns_from_its_own_rows(row: dict[str, Any], methods: set[str]) -> None:
    assert {method for method in staging.WANTED if staging.fits(row, method)} == methods
    rehearsed = {"dpo", "kto"} if "sft" in methods else set()
    assert {method for method in staging.WANTED if staging.taken(row, method)} == methods | rehearsed


# --- as the loop does it ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rows"), [("sft", pairs()), ("dpo", pairs()), ("kto", thumbs()), ("pretrain", texts())]
)
def test_a_search_of_the_loop_trains_by_the_method_of_the_model_file(
    tmp_path: Path, method: str, rows: list[dict[str, Any]]
) -> None:
    """From a dataset's rows to a registered version, in the jobs that the loop starts."""
    platform = loop.open(Home(tmp_path / ".ciranda"))
    bases.link(platform.home.bases, "tiny", smallmodel.tiny().folder)
    recipe = {"layers": 3, "steps": 4, "batch_size": 2, "max_tokens": 512}
    spec = ModelSpec.model_validate(
        {"model": "m", "base": "tiny", "train": {"method": method, "recipe": recipe, "search": {"trials": 1}}}
    )
    with platform.db.writing() as conn:
        models.put(conn, spec, actor="test")
    kept = [parse(row, origin=f"r:{n}").with_(split=SPLITS[n % 2]) for n, row in enumerate(rows) if row["messages"]]
    kept += [Row((), row["completion"], split=SPLITS[n % 2]) for n, row in enumerate(rows) if not row["messages"]]
    datasets.commit(platform.db, platform.home, "m", kept, transformation={}, actor="test")
    best = searching.best(platform, spec, "m@1", turn="turn:m:1", tell=lambda _: None)
    assert best["recipe"]["method"] == method
    staged = next((platform.home.jobs / "rows").glob(f"*-{method}-train.jsonl")).read_text().splitlines()
    assert len(staged) == sum(row.split == "train" for row in kept)
    digest = datasets.get(platform.db, "m@1").digest
    version = steps.register(platform, spec, {"dataset": "m@1", "digest": digest}, best, turn="turn:m:1")
    assert version.tuning == "lora"
    assert folders.verify(Path(version.folder)) == []

    # A dataset without such rows is refused with what it has, before anything is trained.
    other = [Row.of(f"a {split}", "b", split=split) for split in SPLITS]
    if method in ("dpo", "kto"):
        datasets.commit(platform.db, platform.home, "plain", other, transformation={}, actor="test")
        with pytest.raises(Refused, match=f"no train rows for {method}.*1 chat"):
            searching.best(platform, spec, "plain@1", turn="turn:m:2", tell=lambda _: None)
    platform.close()
