"""`ciranda up`: kill -9 of each of its processes under load costs no answer; and what bad input gets, through the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import house
from ciranda.cli.stage import Stage
from ciranda.errors import Conflict, Invalid, NotFound, Refused, Unauthenticated
from load import Load

CLI = [sys.executable, "-m", "ciranda.cli"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform with a model that answers; shared, since every test here leaves it as it was."""
    folder = tmp_path_factory.mktemp("up")
    file = house.project(folder)
    with house.platform(folder) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        yield stage


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def children(stage: Stage) -> dict[str, dict[str, Any]]:
    """What the supervisor says of its processes, by name; the engine's is `engine`."""
    told = json.loads((stage.home.run / "supervisor.json").read_text())["children"]
    return {"engine" if one["name"].startswith("rep_") else one["name"]: one for one in told}


def kill(stage: Stage, name: str) -> None:
    """kill -9, then wait until another process does its work."""
    pid = children(stage)[name]["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        now = children(stage).get(name, {})
        return now.get("state") == "ready" and now["pid"] != pid

    stage.until(f"{name} is back", back, limit_s=60)


def test_any_process_may_be_killed_under_load_and_no_answer_is_lost(stage: Stage) -> None:
    with Load(stage, stage.client_key("load")) as load:
        load.more()
        for name in ("collector", "control"):
            kill(stage, name)
            load.more()
            assert load.failed == 0, f"nobody should notice that {name} was away: {load.refused} {load.broken}"
        kill(stage, "engine")
        load.more()
        assert load.failed == 0, f"they wait for the engine that takes its place: {load.refused} {load.broken}"
        kill(stage, "gateway-1")
        load.more()
        print(f"{load.failed} requests failed while the gateway was away")
    for status, text in load.refused:
        error = json.loads(text)["error"]
        assert status in (502, 503)
        assert {"message", "type", "code", "param"} <= set(error)

    def recorded() -> set[str]:
        return {one.id for one in stage.platform.interactions.page(model=house.MODEL, status=200, limit=10_000)}

    stage.until("every answer is on record", lambda: set(load.answered) <= recorded(), limit_s=30)
    surplus = len(recorded()) - len(load.answered)
    assert 0 <= surplus <= 4, "at most the answers that were under way at the gateway when it was killed"
    assert stage.control.get("/audit/verify")["ok"]


# --- what bad input gets ----------------------------------------------------------------------------------------------


def ciranda(stage: Stage, *words: str, code: int, **environment: str) -> str:
    """Run a command as a user does; it must end with this code. Returns what it said."""
    command = [*CLI, *words, "--home", str(stage.home.path)]
    ended = subprocess.run(
        command,
        cwd=stage.folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == code, said
    assert "Traceback" not in said
    return said


def model(stage: Stage, name: str, text: str) -> str:
    file = stage.folder / "models" / f"{name}.yaml"
    file.write_text(text)
    return str(file)


def test_a_second_up_in_the_same_home_is_refused(stage: Stage) -> None:
    said = ciranda(stage, "up", code=Conflict.exit_code, CIRANDA_CONTROL_PORT="0", CIRANDA_GATEWAY_PORT="0")
    assert "this home is up already, by process" in said
    assert "`ciranda down` ends it" in said
    assert stage.control.get("/status")


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    elsewhere = Stage(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = ciranda(elsewhere, "up", code=Conflict.exit_code, CIRANDA_CONTROL_PORT=port, CIRANDA_GATEWAY_PORT="0")
    assert f"port {port} is in use" in said
    assert "control" in said
    assert not list((elsewhere.home.run).glob("pids/*"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: bad\n  serve: {engine: fake\n", ":2"),
        ("model: bad\nserve:\n  engin: fake\n", "did you mean 'engine'"),
        ("model: bad\nserve:\n  engine: vllm\n", ":3"),
    ],
)
def test_a_broken_model_file_is_named_by_file_and_line(stage: Stage, text: str, told: str) -> None:
    file = model(stage, "bad", text)
    said = ciranda(stage, "apply", file, code=Invalid.exit_code)
    assert f"{file}:" in said
    assert told in said
    assert "  do: " in said
    ciranda(stage, "status", "bad", code=NotFound.exit_code)


def test_a_wrong_key_is_refused_everywhere(stage: Stage) -> None:
    said = ciranda(stage, "status", "--key", "sk-wrong", code=Unauthenticated.exit_code)
    assert "key" in said
    ciranda(stage, "chat", "house", "hello", "--key", "sk-wrong", code=Unauthenticated.exit_code)


@pytest.mark.parametrize(
    ("base", "error", "told"),
    [
        ("gpt-17", Invalid, "no base is called 'gpt-17'"),
        ("./nowhere/model", NotFound, "no base at './nowhere/model'"),
        ("hf:no-slash", Invalid, "'hf:no-slash' is no hub name"),
    ],
)
def test_a_base_that_is_not_there_is_refused_with_what_there_is(
    stage: Stage, base: str, error: type[Invalid | NotFound], told: str
) -> None:
    said = ciranda(stage, "apply", model(stage, "bad", f"model: bad\nbase: {base}\n"), code=error.exit_code)
    assert told in said
    assert "hf:org/name" in said


def test_a_base_that_cannot_be_loaded_is_told_by_alert_and_turn_with_the_remedy(stage: Stage) -> None:
    weights = stage.folder / "broken.gguf"
    weights.write_bytes(b"no weights at all")
    file = model(stage, "heavy", f"model: heavy\nbase: {weights}\ndata: {{sources: [{{files: ../data/*.jsonl}}]}}\n")
    ciranda(stage, "apply", file, code=0)

    def alert() -> dict[str, Any] | None:
        found = stage.control.get("/alerts", model="heavy")["items"]
        return next((one for one in found if one["kind"] == "base"), None)

    raised = stage.until("the alert", alert, limit_s=60)
    assert str(weights) in raised["title"]
    assert f"ciranda base prepare {weights}" in json.dumps(raised["body"])
    said = ciranda(stage, "train", "heavy", "--follow", code=1)
    assert "could not be prepared" in said
    assert f"ciranda base prepare {weights}" in said


def test_bad_rows_are_named_by_line_and_nothing_is_kept(stage: Stage) -> None:
    (stage.folder / "rows").mkdir()
    rows = stage.folder / "rows" / "mixed.jsonl"
    good = [json.dumps({"prompt": f"sentence number {n}", "completion": "{}"}) for n in range(50)]
    bad = ['{"prompt": "no answer"}', "not JSON", '{"prompt": 1, "completion": "x"}']
    rows.write_text("\n".join([*good[:25], *bad, *good[25:]]) + "\n")
    spec = "model: mixed\ndata: {{sources: [{{files: ../rows/*.jsonl, bad_rows: {}}}]}}\nserve: {{engine: fake}}\n"
    ciranda(stage, "apply", model(stage, "mixed", spec.format("block")), code=0)
    said = ciranda(stage, "ingest", "mixed", code=Refused.exit_code)
    for line, reason in ((26, "completion is missing"), (27, "JSON"), (28, "prompt is a int")):
        assert f"rows/mixed.jsonl:{line}: " in said
        assert reason in said
    assert "bad_rows: quarantine" in said
    assert "mixed" not in [one["name"] for one in stage.control.get("/datasets")["items"]]
    ciranda(stage, "apply", model(stage, "mixed", spec.format("drop")), code=0)
    made = json.loads(ciranda(stage, "ingest", "mixed", "--json", code=0))
    assert (made["dataset"], made["rows"]) == ("mixed@1", 50)


def test_a_platform_that_is_not_up_is_told_with_how_to_start_it(tmp_path: Path) -> None:
    elsewhere = Stage(tmp_path)
    elsewhere.home.make()
    said = ciranda(elsewhere, "status", "--key", "sk-any", code=8)
    assert "ciranda up" in said


def test_the_supervisor_killed_takes_everything_along_and_the_next_up_is_clean(tmp_path: Path) -> None:
    """No orphan is left, and what was applied and answered before is there again."""
    file = house.project(tmp_path)
    with house.platform(tmp_path) as first:
        house.apply(first, file)
        house.live(first, "house@0")
        pids = [one["pid"] for one in children(first).values()]
        assert first._process is not None
        first._process.kill()
        first._process.wait()
        deadline = time.monotonic() + 30
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < deadline, [pid for pid in pids if _runs(pid)]
            time.sleep(0.05)
    with house.platform(tmp_path) as second:
        house.live(second, "house@0")
        with Load(second, second.client_key("again")) as load:
            load.more(5)
        assert second.control.get("/audit/verify")["ok"]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
