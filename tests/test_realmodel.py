"""The doors with the packaged base behind them: fine-tuning by OpenAI's client, a judge, and other evaluators. All of it is slow.

The base answers by llama.cpp, and learns by PEFT for a few steps. What is asserted is that everything is done and told, never that
a model of 135M parameters is any good: as a judge it is not, and calibration has to say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import yaml

import house
import test_evaluate
import test_finetuning
from ciranda.cli.stage import Stage
from ciranda.evals import judge
from ciranda.evals.judge import Judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SPEC = """\
model: house
base: smollm2-135m-instruct
data: {sources: [{files: ../data/*.jsonl}]}
train:
  search: {trials: 1, budget: 20m}
  recipe: {steps: 6, batch_size: 2, layers: 2, warmup_steps: 1}
evaluate: {cases: 12, max_tokens: 24}
gates: [{metric: valid_json, rule: ">= 0", least: 5}]
release: {shadow: 100, steps: [50, 100]}
serve: {engine: llamacpp}
watch: {cooldown: 0s, budget: {turns_per_week: 0}}
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("real")
    file = house.project(folder, spec=SPEC)
    with house.platform(folder) as stage:
        house.apply(stage, file)
        stage.control.post("/models/house/ingest", {})
        house.live(stage, "house@0", limit_s=600)
        yield stage


def trained(stage: Stage, asking: openai.OpenAI, records: list[Any], method: dict[str, Any]) -> str:
    """A job to its end; the model's name that comes back."""
    file = test_finetuning.sent(asking, records)
    job = asking.fine_tuning.jobs.create(model="house", training_file=file, method=method, seed=5)  # type: ignore[arg-type]
    seen: list[str] = []
    deadline = time.monotonic() + 1200
    while (now := asking.fine_tuning.jobs.retrieve(job.id)).status not in test_finetuning.ENDED:
        seen += [
            one.message for one in asking.fine_tuning.jobs.list_events(job.id, limit=100) if one.message not in seen
        ]
        assert time.monotonic() < deadline, seen
        time.sleep(1)
    assert now.status == "succeeded", (now.error, seen)
    story = test_finetuning.messages(asking, job.id)
    assert story[0] == "The job has successfully completed"
    assert any("training loss=" in one for one in story)
    (checkpoint,) = asking.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.fine_tuned_model_checkpoint == now.fine_tuned_model
    assert now.fine_tuned_model
    return now.fine_tuned_model


def answers(stage: Stage, asking: openai.OpenAI, version: str, prompt: str) -> str:
    """What a version says through the gateway, once it is deployed."""

    def look() -> str | None:
        try:
            said = asking.chat.completions.create(
                model=version, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=24
            )
        except (openai.NotFoundError, openai.APIStatusError):
            return None
        return said.choices[0].message.content

    return stage.until(f"{version} answers", look, limit_s=300)


def test_openais_client_trains_the_packaged_base_and_talks_to_what_it_made(stage: Stage) -> None:
    asking = test_finetuning.client(stage)
    rows = test_finetuning.own(stage, "train")
    parameters = {"hyperparameters": {"n_epochs": 1, "batch_size": 16}}
    made = trained(
        stage, asking, [test_finetuning.said(row) for row in rows], {"type": "supervised", "supervised": parameters}
    )
    assert answers(stage, asking, made, rows[0].prompt)
    recipe = stage.control.get(f"/versions/{made}")["recipe"]
    assert (recipe["method"], recipe["seed"]) == ("sft", 5)
    test_finetuning.lay_aside(stage)
    pairs = [
        {"input": {"messages": test_finetuning.said(row)["messages"][:-1]},
         "preferred_output": [test_finetuning.said(row)["messages"][-1]],
         "non_preferred_output": [{"role": "assistant", "content": "no idea"}]}
        for row in rows[:24]
    ]  # fmt: skip
    made = trained(
        stage,
        asking,
        pairs,
        {"type": "dpo", "dpo": {"hyperparameters": {**parameters["hyperparameters"], "beta": 0.2}}},
    )
    assert stage.control.get(f"/versions/{made}")["recipe"]["method"] == "dpo"
    assert answers(stage, asking, made, rows[0].prompt)
    test_finetuning.lay_aside(stage)


def test_the_packaged_base_is_a_bad_judge_and_calibration_says_so(stage: Stage) -> None:
    rows = test_finetuning.own(stage, "train")[:36]
    cases = [
        {"prompt": row.prompt, "labels": {"answer": row.completion if n % 2 else "I like trains.",
                                          "verdict": "right" if n % 2 else "wrong"}}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    file = stage.folder / "labelled.yaml"
    file.write_text(yaml.safe_dump({"suite": "labelled", "cases": cases}, allow_unicode=True))
    test_evaluate.ciranda(stage, "suite", "add", str(file))
    small = Judge("small", "house", "It is one line of JSON that names an intent.", scale=2, max_tokens=48)
    with stage.platform.db.writing() as conn:
        judge.register(conn, small, actor="test")
    asked = ("judges", "calibrate", "small", "--suite", "labelled", "--model", "house", "--json")
    (worth,) = test_evaluate.ciranda(stage, *asked, limit_s=900)["worth"]
    print(f"\nthe base as a judge: {worth['refusal']}; {worth['figures']}")
    assert not worth["believed"]
    assert "not believed: it had no opinion on" in worth["refusal"] or "from wrong to right" in worth["refusal"]


FACTS = {
    "What is the capital of France?": "Paris", "What is the capital of Italy?": "Rome", "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid", "What is the capital of Germany?": "Berlin",
    "What is the capital of Egypt?": "Cairo", "What is the opposite of hot?": "Cold", "What is the opposite of big?": "Small",
    "What colour is the sky by day?": "Blue", "What colour is grass?": "Green", "How many legs has a dog?": "Four",
    "What do bees make?": "Honey",
}  # fmt: skip
SYSTEM = "Answer with one word and nothing else, as in: Paris"


def test_inspect_ai_and_lm_eval_ask_the_packaged_base(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same model at the same door as in our own exam."""
    cases = [{"system": SYSTEM, "prompt": asked, "reference": answer} for asked, answer in FACTS.items()]
    suite = yaml.safe_dump({"suite": "known", "cases": cases})
    found = {}
    for name, run in (("inspect-ai", test_evaluate.inspected), ("lm-eval", test_evaluate.measured)):
        began = time.monotonic()
        share, count = run(stage, tmp_path_factory.mktemp(name), suite)
        found[name] = share
        print(f"\n{name}: {count} cases in {time.monotonic() - began:.1f} s, right: {share:.3f}")
        assert count == len(FACTS)
    asked = ("evaluate", "house@0", "--suite", "known", "--scorer", "exact_match", "--json")
    (ours,) = test_evaluate.ciranda(stage, *asked, limit_s=600)["items"]
    print(f"\nciranda evaluate: right {ours['metrics']['exact_match']['mean']:.3f}")
    assert ours["metrics"]["exact_match"]["mean"] <= found["lm-eval"] <= 1  # which leaves capitals and full stops aside
    assert 0 <= found["inspect-ai"] <= 1
