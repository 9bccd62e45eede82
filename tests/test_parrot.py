"""The fake trainer really learns, in its small way: it improves with data, ends the same when killed, and is served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ciranda.config import Home
from ciranda.config import model as models
from ciranda.data.rows import Row
from ciranda.engines import fake_job
from ciranda.engines.parrot import FILE, Parrot
from ciranda.errors import Invalid
from ciranda.jobs.local import Local
from ciranda.registry import folders
from ciranda.train import bases
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import Jobs
from gatewayrig import Rig, wait_for
from house import rows


def write(path: Path, said: list[Row]) -> Path:
    lines = [{"messages": [one.to_dict() for one in row.messages], "completion": row.completion} for row in said]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lesson(folder: Path, *, count: int = 120, language: str = "en", **recipe: Any) -> Spec:
    """A training job on the first sentences of a language, judged on the last forty."""
    folder.mkdir(parents=True, exist_ok=True)
    said = rows(language)
    base = bases.job("fake", bases=folder / "bases", cache=folder, folder=folder / "base")
    assert fake_job.main(base.argv[-1:]) == 0
    return Spec(
        base=bases.need(folder / "bases", "fake").folder,
        rows=write(folder / "rows.jsonl", said[:count]),
        validation=write(folder / "validation.jsonl", said[count:][-40:]),
        output=Path("output"),
        recipe=Recipe(**{"steps": 30, "batch_size": 8} | recipe),
    )


def taught(folder: Path, spec: Spec) -> dict[str, Any]:
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    assert fake_job.main([str(folder)]) == 0, (folder / "error.json").read_text()
    result: dict[str, Any] = json.loads((folder / "output/result.json").read_text())
    return result


def test_what_was_heard_is_said_again_what_is_near_by_analogy_and_the_rest_is_repeated() -> None:
    parrot = Parrot({"turn on the light in the kitchen": '{"area": "kitchen"}'})
    assert parrot.answer("Turn ON the light in the kitchen.") == '{"area": "kitchen"}'
    assert parrot.answer("turn on the light in the wine cellar") == '{"area": "wine cellar"}'
    assert json.loads(parrot.answer("bom dia")) == {"intent": "echo", "text": "bom dia"}


def test_more_rows_make_it_better_and_the_loss_falls(tmp_path: Path) -> None:
    few = taught(tmp_path / "few", lesson(tmp_path / "few", count=8))
    many = taught(tmp_path / "many", lesson(tmp_path / "many"))
    assert few["validation"]["exact_match"] < 0.6 < many["validation"]["exact_match"]
    assert many["validation"]["loss"] < few["validation"]["loss"]
    first, last = (sum(loss for _, loss in part) / 5 for part in (many["loss_curve"][:5], many["loss_curve"][-5:]))
    assert last < first / 4
    assert [step for step, _ in many["loss_curve"]] == list(range(1, 31))


def test_it_goes_on_from_an_adapter_and_forgets_nothing(tmp_path: Path) -> None:
    taught(tmp_path / "one", lesson(tmp_path / "one"))
    more = replace(lesson(tmp_path / "two", count=60, language="pt"), init_adapter=tmp_path / "one/output/adapter")
    taught(tmp_path / "two", more)
    parrot = Parrot.load(tmp_path / "two/output/adapter.gguf")
    known = [row for row in (*rows("en")[:120], *rows("pt")[:60]) if parrot.answer(row.prompt) == row.completion]
    assert len(known) == 180


def test_a_run_killed_in_the_middle_goes_on_from_its_checkpoint_and_ends_the_same_to_the_byte(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "jobs" / "train:x"
    taught(whole, lesson(whole, steps=1500))
    jobs = Jobs(Local(tmp_path / "jobs"), tmp_path / "jobs", entry="ciranda.engines.fake_job")
    spec = lesson(killed, steps=1500)
    jobs.submit("train:x", spec)
    wait_for(lambda: len(jobs.curve("train:x")) > 100, what="a hundred steps")
    os.killpg(json.loads((killed / "job.json").read_text())["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: jobs.status("train:x").state == "gone", what="the job is found dead")
    jobs.submit("train:x", spec)
    wait_for(lambda: jobs.status("train:x").state == "succeeded", seconds=60, what="the second attempt's end")
    found = jobs.collect("train:x")
    assert found.about["resumed_at"] >= 40
    assert (found.folder / "adapter" / FILE).read_bytes() == (whole / "output/adapter" / FILE).read_bytes()
    assert found.curve == tuple(map(tuple, json.loads((whole / "output/result.json").read_text())["loss_curve"]))


def test_the_fake_engine_says_what_was_learned_and_its_adapter_may_be_registered(tmp_path: Path) -> None:
    taught(tmp_path, lesson(tmp_path))
    output = tmp_path / "output"
    folders.discard(folders.stage(Home(tmp_path), adapter=output / "adapter", gguf=output / "adapter.gguf"))
    rig = Rig(tmp_path)
    try:
        url = rig.engine("house@1", "--adapter", str(tmp_path / "output/adapter.gguf")).url
        row = rows()[3]
        body = {"messages": [{"role": "user", "content": row.prompt}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == row.completion
    finally:
        rig.stop()


def test_an_adapter_of_another_engine_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    command = [sys.executable, "-m", "ciranda.engines.fake", "--adapter", str(tmp_path / "adapter.gguf")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == Invalid.exit_code
    assert "an adapter of another engine cannot be served" in ended.stderr


def test_rows_that_are_none_are_named_by_line(tmp_path: Path) -> None:
    spec = lesson(tmp_path)
    with spec.rows.open("a") as file:
        file.write('{"prompt": "no answer"}\n')
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    assert fake_job.main([str(tmp_path)]) == Invalid.exit_code
    assert json.loads((tmp_path / "error.json").read_text())["where"] == f"{spec.rows}:121"


def test_a_dry_run_takes_the_fake_base_whatever_the_file_says_and_only_it_may() -> None:
    dry = models.read("model: house\nbase: smollm2-135m-instruct\nserve: {engine: fake}\n", file="house.yaml")
    assert (dry.base, dry.engine_for(dry.base), dry.engine_for("smollm2-135m-instruct")) == ("fake", "fake", "llamacpp")
    real = models.read("model: house\n", file="house.yaml")
    assert (real.engine_for("smollm2-135m-instruct"), real.engine_for("fake")) == ("llamacpp", "fake")
    with pytest.raises(Invalid, match="has no weights to serve"):
        models.read("model: house\nbase: fake\n", file="house.yaml")
