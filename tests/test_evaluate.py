"""Evaluating as users do it, on a whole platform with the fake engine: suites, scorers, live answers, and what plans refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import house
from ciranda.cli.stage import Stage
from ciranda.errors import Forbidden, Invalid, NotFound
from ciranda.govern import access
from ciranda.loop import suites

SPEC = house.SPEC.replace("watch: {", "watch: {scorers: [refusal, relevance, latency_ms], ")
GREETINGS = """\
suite: greetings
cases:
  - prompt: "say fake:tools"
    tools: [{type: function, function: {name: greet, parameters: {type: object}}}]
    calls: [{name: greet}]
  - {prompt: "Is Brad polite?", reference: "yes", slices: {tone: polite}}
  - {prompt: "Is Greg rude?", reference: "no", slices: {tone: rude}}
  - {prompt: "As JSON, please", schema: {type: object}}
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("evaluate")
    file = house.project(folder, spec=SPEC)
    (folder / "greetings.yaml").write_text(GREETINGS)
    with house.platform(folder) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        yield stage


def ciranda(stage: Stage, *arguments: str, limit_s: float = 60) -> Any:
    """A command's answer."""
    command = [sys.executable, "-m", "ciranda.cli", *arguments, "--home", str(stage.home.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def test_a_suite_is_registered_asked_and_looked_into(stage: Stage) -> None:
    added = ciranda(stage, "suite", "add", str(stage.folder / "greetings.yaml"), "--swap", "names", "--json")
    assert (added["ref"], added["cases"]) == ("greetings@1", 6)
    asked = ("evaluate", "house@0", "--suite", "greetings", "--scorer")
    (first,) = ciranda(stage, *asked, "tool_names", "--scorer", "similarity", "--scorer", "json_schema", "--json")[
        "items"
    ]
    assert (first["suite"], first["n"], first["errors"]) == ("greetings@1", 6, 0)
    assert {"tool_names", "similarity", "json_schema", "valid_json", "exact_match"} <= set(first["metrics"])
    assert (first["metrics"]["tool_names"]["mean"], first["metrics"]["json_schema"]["mean"]) == (1, 1)
    assert first["slices"]["swap=names"]["valid_json"]["n"] == 2
    assert {gap["swap"] for gap in first["bias"]} == {"names"}
    (again,) = ciranda(stage, *asked, "latency_ms", "--json")["items"]
    assert again["id"] != first["id"]
    assert "latency_ms" in again["metrics"]
    reports = {one["id"]: stage.control.get(f"/evaluations/{one['id']}/answers")["items"] for one in (first, again)}
    took = [{one["case"]: one["seconds"] for one in found} for found in reports.values()]
    assert took[0] == took[1], "what was answered before was not asked again"
    shown = ciranda(
        stage, "suite", "answers", again["id"], "--against", first["id"], "--metric", "valid_json", "--json"
    )
    assert {one["gain"] for one in shown["items"]} == {0}
    lines = ciranda(stage, "suite", "export", "greetings@1", "--as", "inspect").splitlines()
    assert json.loads(lines[0])["input"][0]["role"] == "user"
    assert [one["id"] for one in ciranda(stage, "suite", "results", "greetings", "--json")["items"]] == [
        again["id"],
        first["id"],
    ]
    assert "greetings@1" in ciranda(stage, "suite", "list")


def test_a_key_limited_to_other_models_sees_no_suite_of_this_one(stage: Stage) -> None:
    platform = stage.platform
    with platform.db.writing() as conn:
        stranger = access.create(conn, "stranger", role="engineer", models=("other",), actor="test")[0]
        mine = access.create(conn, "mine", role="engineer", models=("house",), actor="test")[0]
    suites.add(platform, GREETINGS, mine, file="g.yaml")
    assert suites.uses(platform)["greetings"] == {"house"}
    assert suites.reached(platform, stranger.models) == set()
    for refused in (
        lambda: suites.demand(platform, "greetings@1", stranger),
        lambda: suites.add(platform, GREETINGS, stranger, file="g.yaml"),
    ):
        with pytest.raises(Forbidden):
            refused()


def test_live_answers_are_scored_by_the_same_scorers(stage: Stage) -> None:
    body = {"model": "house", "messages": [{"role": "user", "content": "turn on the light in the kitchen"}]}
    carrying = {"authorization": f"Bearer {stage.client_key('app')}"}
    answer = httpx.post(f"{stage.gateway}/v1/chat/completions", json=body, headers=carrying)
    identifier = answer.headers["x-ciranda-interaction"]

    def scored() -> dict[str, float]:
        found = stage.platform.interactions.get(identifier)
        return {one.scorer: one.value for one in found.scores} if found else {}

    wanted = {"valid_json", "refusal", "relevance", "latency_ms"}
    stage.until("the answer is scored", lambda: set(scored()) == wanted, limit_s=30)
    assert scored()["valid_json"] == 1
    assert scored()["refusal"] == 0
    assert 0 <= scored()["relevance"] <= 1
    assert scored()["latency_ms"] > 0


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("scorers: [refusal, relevance, latency_ms]", "scorers: [exact_match]"), Invalid, "live traffic has none"),
        (("scorers: [refusal, relevance, latency_ms]", "scorers: [tool_calls]"), Invalid, "live traffic has none"),
        (("scorers: [refusal, relevance, latency_ms]", "scorers: [accuracy]"), Invalid, "no scorer 'accuracy'"),
        (("max_tokens: 32", "max_tokens: 32, embedding: base"), Invalid, "an embedding that always runs"),
        (("max_tokens: 32", "max_tokens: 32, scorers: ['regex:(']"), Invalid, "no pattern"),
        (("release:\n", "release:\n  quality: latency_ms\n"), Invalid, "no quality"),
        (("metric: valid_json", "suite: nowhere, metric: valid_json"), NotFound, "no suite 'nowhere'"),
    ],
)
def test_a_plan_refuses_what_could_not_be_judged(
    stage: Stage, change: tuple[str, str], error: type[Exception], said: str
) -> None:
    assert change[0] in SPEC
    with pytest.raises(error, match=said):
        stage.control.post("/plan", {"files": {str(stage.folder / "models/house.yaml"): SPEC.replace(*change)}})


def test_a_version_is_not_evaluated_on_what_nobody_registered(stage: Stage) -> None:
    for suite, error in (("nowhere@1", NotFound), (str(Path("evals/x.yaml")), Invalid)):
        with pytest.raises(error):
            stage.control.post("/models/house/evaluate", {"version": "house@0", "suites": [suite]})
    with pytest.raises(Invalid, match="no scorer"):
        stage.control.post("/models/house/evaluate", {"version": "house@0", "suites": ["greetings"], "scorers": ["x"]})


@pytest.mark.slow
def test_a_turn_asks_yesterdays_traffic_of_its_candidate_where_a_gate_wants_it(tmp_path: Path) -> None:
    gate = "  - {suite: replay, metric: valid_json, rule: not worse than live by 0.2, least: 20}\n"
    file = house.project(tmp_path, spec=house.SPEC.replace("gates:\n", f"gates:\n{gate}"))
    with house.platform(tmp_path) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        first = stage.control.post("/models/house/turns", {"event": "silent"})["turn"]
        house.ended(stage, first, "refused", limit_s=240)
        told = stage.control.get("/versions/house@1")["verdicts"][0]
        assert told["outcome"] != "pass", "there was no traffic to ask again"
        with house.users(stage):
            stage.until("there is traffic", lambda: house.recorded(stage) >= 60, limit_s=60)
        turn = stage.control.post("/models/house/turns", {"event": "after"})["turn"]
        house.ended(stage, turn, "released", "promoted", limit_s=240)
        version = house.turn(stage, turn).version
        (verdict,) = stage.control.get(f"/versions/{version}")["verdicts"]
        (spoken,) = (one for one in verdict["gates"] if one["suite"] == "replay")
        assert (verdict["outcome"], spoken["outcome"]) == ("pass", "pass")
        assert spoken["comparison"]["n"] >= 20
        found = stage.control.get("/replays", model="house")["items"]
        assert [one["state"] for one in found if one["version"] == version] == ["complete"]


# Other evaluators, each in an environment of its own, at the same door that users come through

EXAMPLES = Path(__file__).parent.parent / "examples" / "evaluators"
INSPECT_PYTHON = "INSPECT_PYTHON"  # an interpreter that has inspect-ai
LM_EVAL_PYTHON = "LM_EVAL_PYTHON"  # an interpreter that has lm-eval[api]
TURN_ON = '{"intent":"echo","text":"turn on the light in the kitchen"}'
KNOWN = f"""\
suite: known
cases:
  - {{prompt: "turn on the light in the kitchen", reference: {json.dumps(TURN_ON)}, slices: {{language: en}}}}
  - {{prompt: "is it warm?", reference: "no", slices: {{language: en}}}}
"""


def foreign(stage: Stage, variable: str, form: str, folder: Path, cases: str, *argv: str) -> Path:
    """Run another evaluator on the cases of a suite `known`, exported for it; skips where it is not installed."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"set {variable} to an interpreter that has it; docs/evaluate.md says how")
    (folder / "known.yaml").write_text(cases)
    ciranda(stage, "suite", "add", str(folder / "known.yaml"))
    (folder / "cases.jsonl").write_text(ciranda(stage, "suite", "export", "known@1", "--as", form))
    for example in EXAMPLES.iterdir():
        shutil.copy(example, folder)
    door = {"OPENAI_API_KEY": stage.client_key(variable), "OPENAI_BASE_URL": f"{stage.gateway}/v1", "HF_HUB_OFFLINE": "1",
            "INSPECT_LOG_DIR": str(folder / "logs"), "HF_HOME": str(folder / "hf")}  # fmt: skip
    done = subprocess.run(
        [python, *(part.replace("{door}", stage.gateway) for part in argv)], cwd=folder, env={**os.environ, **door},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def inspected(stage: Stage, folder: Path, cases: str = KNOWN) -> tuple[float, int]:
    """The share that inspect-ai finds right, and of how many cases."""
    argv = ("-m", "inspect_ai", "eval", "suite.py", "-T", "cases=cases.jsonl", "-T", "whole=true", "--model", "openai/house",
            "--log-format", "json", "--display", "plain")  # fmt: skip
    foreign(stage, INSPECT_PYTHON, "inspect", folder, cases, *argv)
    (log,) = (json.loads(path.read_text()) for path in (folder / "logs").glob("*.json"))
    assert log["status"] == "success"
    (scored,) = log["results"]["scores"]
    return scored["metrics"]["accuracy"]["value"], log["results"]["completed_samples"]


def measured(stage: Stage, folder: Path, cases: str = KNOWN) -> tuple[float, int]:
    """The share that lm-eval finds right, and of how many cases."""
    argv = ("-m", "lm_eval", "run", "--model", "local-chat-completions", "--apply_chat_template", "--tasks", "ciranda_suite",
            "--include_path", ".", "--output_path", "out",
            "--model_args", "model=house,base_url={door}/v1/chat/completions,num_concurrent=2")  # fmt: skip
    foreign(stage, LM_EVAL_PYTHON, "lm-eval", folder, cases, *argv)
    (told,) = (json.loads(path.read_text()) for path in (folder / "out").rglob("results*.json"))
    return told["results"]["ciranda_suite"]["exact_match,none"], told["n-samples"]["ciranda_suite"]["effective"]


def test_inspect_ai_asks_a_registered_suite_at_our_door(stage: Stage, tmp_path: Path) -> None:
    assert inspected(stage, tmp_path) == (0.5, 2)


def test_lm_eval_asks_a_registered_suite_at_our_door(stage: Stage, tmp_path: Path) -> None:
    assert measured(stage, tmp_path) == (0.5, 2)
