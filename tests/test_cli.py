"""The command line through `main`, against a real control API, a real gateway and the fake engine."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import uvicorn
import yaml
from starlette.applications import Starlette

from ciranda import cli, loop
from ciranda.cli import client, screen
from ciranda.cli.verb import Desk as Seat
from ciranda.config import Home, Settings
from ciranda.config.model import FAKE, ModelSpec
from ciranda.data import checks
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.deploy import rollout
from ciranda.errors import CirandaError
from ciranda.govern import access, audit
from ciranda.interactions import seals
from ciranda.monitor import alerts
from ciranda.registry import models, versions
from ciranda.train import bases
from ciranda.web import api
from gatewayrig import Rig, arm, model, wait_for
from registry_world import MODEL, World


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """One home with control's API in this process, and the command line pointed at it."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = World(path, base="tiny", serve={"engine": "fake"})
        seals.segments.create(self.world.db.engine, checkfirst=True)
        self.home: Home = self.world.home
        self.capsys = capsys
        self.platform = loop.Platform(self.home, Settings(), self.world.db)
        with self.world.db.writing() as conn:
            self.secret = access.create(conn, "first admin", role="admin", actor="test")[1]
        self.home.admin_key.write_text(self.secret)
        self.serve()

    def serve(self) -> None:
        app = Starlette(routes=list(api.routes(self.platform)))
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started, what="control")
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        (self.home.run / "control.json").write_text(json.dumps({"url": self.url, "pid": os.getpid()}))

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def run(self, *arguments: str) -> Said:
        return run(self.capsys, "--home", str(self.home.path), *arguments)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    said = capsys.readouterr()
    code = left.value.code
    assert isinstance(code, int)
    return Said(code, said.out, said.err)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in [name for name in os.environ if name.startswith("CIRANDA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = Desk(tmp_path, capsys)
    yield made
    made.stop()


# --- the command line as such -----------------------------------------------------------------------------------------


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from leaves(found, (*path, name))
    else:
        yield path, command


COMMANDS = dict(leaves(cli.cli))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    text = command.get_help(click.Context(command, info_name=path[-1]))
    assert "Examples:" in text
    assert f"ciranda {' '.join(path)}" in text
    assert {"--home", "--url", "--key", "--json"} <= set(re.findall(r"--\w+", text))
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_command_line_imports_in_under_300_ms_and_nothing_heavy() -> None:
    code = "import sys, time; a = time.perf_counter(); import ciranda.cli; print(time.perf_counter() - a, *sys.modules)"
    taken = []
    for _ in range(3):
        seconds, *modules = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        taken.append(float(seconds))
        assert not {"rich", "sqlalchemy", "pydantic", "httpx", "starlette", "torch", "pyarrow"} & set(modules)
    assert min(taken) < 0.3


def test_help_topics_cover_settings_model_files_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert "CIRANDA_CONTROL_PORT" in run(capsys, "help", "settings").out
    assert re.search(r"train\.search\.trials\s+number\s+2", run(capsys, "help", "model").out)
    assert re.search(r"LimitReached\s+429\s+7\s+yes", run(capsys, "help", "errors").out)
    assert "ciranda rollback smart-home" in run(capsys, "help", "rollback").out
    assert run(capsys, "help", "nonsense").code == 4
    assert run(capsys, "nonsense").code == 2
    assert run(capsys, "--version").out.startswith("ciranda ")


def test_an_error_is_what_where_and_remedy_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(capsys, "status", "--home", str(tmp_path), "--key", "cir_x")
    assert said.code == 8
    assert said.out == ""
    assert "error: control is not running here" in said.err
    assert f"where: {tmp_path}" in said.err
    assert "ciranda up" in said.err
    assert "Traceback" not in said.err
    told = json.loads(run(capsys, "status", "--home", str(tmp_path), "--key", "cir_x", "--json").err)
    assert told["error"]["code"] == "Unavailable"


@pytest.mark.parametrize("error", list(client.tree()), ids=lambda error: error.__name__)
def test_an_error_of_the_server_is_the_same_error_here(error: type[CirandaError]) -> None:
    sent = error("what", where="there", remedy="do this")
    received = client.rebuilt(sent.to_dict(), sent.status)
    assert type(received) is error
    assert (received.message, received.where, received.remedy) == ("what", "there", "do this")


def test_a_gateway_error_keeps_its_kind_by_its_status() -> None:
    told = client.rebuilt({"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}, 404)
    assert told.exit_code == 4
    assert client.rebuilt({"message": "bad gateway"}, 502).retry


def test_nobody_at_the_address_is_unavailable(desk: Desk) -> None:
    said = desk.run("status", "--url", "http://127.0.0.1:1")
    assert said.code == 8
    assert "nobody answers at http://127.0.0.1:1" in said.err
    assert desk.run("status", "--url", "ftp://x").code == 2


def test_a_wrong_key_is_told_and_ends_with_its_code(desk: Desk) -> None:
    assert desk.run("status", "--key", "cir_wrong").code == 3
    desk.home.admin_key.unlink()
    said = desk.run("status")
    assert said.code == 3
    assert "CIRANDA_KEY" in said.err


def test_text_of_strangers_cannot_steer_the_terminal() -> None:
    assert screen.safe("a\x1b[2Jb\nc\x9b") == "a [2Jb c "
    assert screen.aligned(("a", "b"), [["語", "x"], ["o", "y"]]) == ["a   b", "語  x", "o   y"]
    assert screen.spark([0, 1, 2, 4]) == "▁▂▄█"
    assert screen.spark([0, 0]) == "▁▁"
    assert [screen.lasting(seconds) for seconds in (3, 75, 3700, 90_000)] == ["3s", "1m 15s", "1h 1m", "1d 1h"]


# --- commands of a home -----------------------------------------------------------------------------------------------


def test_init_writes_examples_that_plan_accepts_and_never_overwrites(desk: Desk, tmp_path: Path) -> None:
    said = desk.run("init", "project")
    assert said.code == 0
    written = tmp_path / "project/models/smart-home.yaml"
    assert written.exists()
    assert "ciranda up" in said.err
    planned = desk.run("plan", "project/models", "--json")
    assert planned.code == 0, planned.err
    assert {step["subject"] for step in planned.json["steps"]} == {MODEL, "support-router"}
    written.write_text("model: mine\n")
    again = desk.run("init", "project", "--json").json
    assert again["written"] == []
    assert written.read_text() == "model: mine\n"
    (tmp_path / "file").write_text("")
    assert desk.run("init", "file/inside").code == 2


def test_down_ends_whoever_holds_the_home_and_nobody_else(desk: Desk) -> None:
    assert "it was not up" in desk.run("down").out
    lock = desk.home.run / "supervisor.lock"
    lock.write_text("1")  # a number that a dead supervisor left
    assert "it was not up" in desk.run("down").out
    code = "import fcntl, os, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX); f.write(str(os.getpid())); f.truncate(); f.flush(); print('held', flush=True); time.sleep(60)"  # fmt: skip # noqa: E501
    lock.write_text("")
    child = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert desk.run("down", "--json").json["ended"] is True
    assert child.wait(10) == -signal.SIGTERM


def test_the_audit_chain_is_verified_offline(desk: Desk) -> None:
    desk.stop()
    (desk.home.run / "control.json").unlink()
    good = desk.run("audit", "verify", "--json")
    assert good.code == 0
    assert good.json["ok"] is True
    assert desk.run("audit", "verify", "--head", good.json["head"]).code == 0
    with desk.world.db.writing() as conn:
        conn.execute(audit.audit_events.update().where(audit.audit_events.c.number == 1).values(actor="mallory"))
    bad = desk.run("audit", "verify")
    assert bad.code == 6
    assert "event 1" in bad.err
    assert run(desk.capsys, "audit", "verify", "--home", "nowhere").code == 4


def test_the_audit_log_is_taken_out_and_checked_without_the_home(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    assert desk.run("audit", "export", str(file)).code == 0
    told = desk.run("audit", "verify", "--file", str(file), "--json").json
    assert (told["ok"], told["expected"]) == (True, False)
    assert "expected signer" in desk.run("audit", "verify", "--file", str(file), "--signer", told["signer"]).out
    file.write_bytes(file.read_bytes().replace(b'"actor":"', b'"actor":"x', 1))
    bad = desk.run("audit", "verify", "--file", str(file))
    assert (bad.code, "was changed" in bad.err) == (6, True)
    assert desk.run("audit", "verify", "--file", str(tmp_path / "none")).code == 4


def test_bases_are_listed(desk: Desk) -> None:
    assert {"base": "smollm2-135m-instruct", "prepared": False} in desk.run("base", "--json").json["items"]
    assert desk.run("base", "prepare", "no-such-base").code == 2


# --- commands of control ----------------------------------------------------------------------------------------------


def prepared(desk: Desk) -> None:
    folder = desk.home.bases / bases.slug("tiny")
    folder.mkdir(parents=True)
    (folder / "base.json").write_text(json.dumps({"digest": "sha256:base", "format": bases.FORMAT}))


def test_plan_and_apply_name_the_line_that_is_wrong(desk: Desk, tmp_path: Path) -> None:
    prepared(desk)
    file = tmp_path / "models" / "new.yaml"
    file.parent.mkdir()
    file.write_text("model: new\ntrian: {}\n")
    wrong = desk.run("apply")
    assert wrong.code == 2
    assert f"where: {file}:2" in wrong.err
    assert "did you mean 'train'" in wrong.err
    file.write_text("model: new\nserve: {engine: fake}\n")
    assert "+ model new: new, on " in desk.run("plan").out
    assert "applied 1 step" in desk.run("apply", "models/new.yaml").out
    assert "nothing to do" in desk.run("plan", "models").out
    file.write_text("model: new\nserve: {engine: fake, replicas: 2}\n")
    assert "serve.replicas: 1 -> 2" in desk.run("plan").out
    assert desk.run("plan", "missing.yaml").code == 4
    file.write_bytes(b"\xff\xfe")
    assert desk.run("plan").code == 2


def test_the_jobs_of_a_model_are_printed_before_any_is_sent(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("model: m\nbase: tiny\nserve: {engine: fake}\ntrain: {executor: kubernetes}\n")
    told = desk.run("plan", "m.yaml", "--manifests")
    assert (told.code, "setting jobs_url" in told.err) == (2, True)
    settings = Settings(
        jobs_url="s3://b/jobs",
        kubernetes_image="ciranda:test",
        kubernetes_queue="trainers",
        ray_url="http://127.0.0.1:9",
    )
    object.__setattr__(desk.platform, "settings", settings)
    job = yaml.safe_load(desk.run("plan", "m.yaml", "--manifests").out)
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "trainers"
    told = desk.run("executors", "--json")
    assert {one["name"]: one["state"] for one in json.loads(told.out)["items"]} == {
        "local": "ready", "ray": "trouble", "kubernetes": "off",
    }  # fmt: skip
    assert (told.code, "ray cannot be used now" in told.err) == (8, True)


def test_a_release_is_promoted_and_rolled_back(desk: Desk) -> None:
    version = desk.world.passed(1)
    with desk.world.db.writing() as conn:
        rollout.promote(conn, f"{MODEL}@0", actor="test")
    assert f"{MODEL}@0 -> {version.ref}" in desk.run("promote", version.ref).out
    told = desk.run("status", MODEL)
    assert re.search(rf"live\s+{version.ref}", told.out)
    assert re.search(rf"{version.ref}\s+live", told.out)
    back = desk.run("rollback", MODEL, "--json")
    assert back.json["after"] == f"{MODEL}@0"
    refused = desk.run("rollback", MODEL, "--to", f"{MODEL}@9")
    assert refused.code == 4
    assert desk.run("promote", "smart-home").code == 2
    nothing = desk.run("approve", MODEL)
    assert nothing.code == 5
    assert "nothing of smart-home waits" in nothing.err


def test_train_asks_for_a_turn_once_per_event_and_follow_ends_with_its_verdict(desk: Desk) -> None:
    first = desk.run("train", MODEL, "--event", "nightly")
    assert first.out.strip() == f"turn:{MODEL}:nightly"
    assert desk.run("train", MODEL, "--event", "nightly").out == first.out
    assert desk.run("train", MODEL).code == 5
    with desk.world.db.writing() as conn:
        loop.turns.note(conn, f"turn:{MODEL}:nightly", "gate", "running", summary="exact_match is not better")
        loop.turns.end(conn, f"turn:{MODEL}:nightly", "refused")
    followed = desk.run("train", MODEL, "--event", "nightly", "--follow")
    assert followed.code == 6
    assert "exact_match is not better" in followed.err
    assert "gate" in followed.out


def test_status_is_a_plain_table_and_the_same_as_json(desk: Desk) -> None:
    plain = desk.run("status").out
    assert plain.startswith("model")
    assert MODEL in plain
    assert "\x1b" not in plain
    told = desk.run("status", "--json").json
    assert [one["model"] for one in told["models"]] == [MODEL]


def test_keys_are_made_listed_and_revoked(desk: Desk) -> None:
    made = desk.run("keys", "create", "app", "--role", "viewer", "--model", MODEL)
    secret = made.out.strip()
    assert secret.startswith("cir_")
    assert desk.run("status", "--key", secret).code == 0
    assert desk.run("keys", "--key", secret).code == 3
    (key,) = [one["id"] for one in desk.run("keys", "--json").json["items"] if one["name"] == "app"]
    assert desk.run("keys", "revoke", key).code == 0
    assert "revoked" in desk.run("keys").out
    assert desk.run("keys", "create", "x", "--role", "king").code == 2


def test_alerts_and_the_audit_log_are_listed(desk: Desk) -> None:
    with desk.world.db.writing() as conn:
        made = alerts.raise_(
            conn, "drift:1", model=MODEL, kind="drift", severity="warning", title="input moved to pt-BR"
        )
    assert "input moved to pt-BR" in desk.run("alerts").out
    assert desk.run("alerts", "acknowledge", made.id).out.strip() == f"{made.id} is acknowledged"
    assert desk.run("alerts", "list", "--state", "open").out.strip() == "no alert"
    assert "alert.acknowledged" in desk.run("audit", "list", "--action", "alert.").out
    assert desk.run("drift", MODEL).code == 0
    assert desk.run("drift", "nobody").code == 4


def test_a_terminal_gets_colours_and_no_color_is_honoured(desk: Desk) -> None:
    coloured, plain = terminal(desk, {}), terminal(desk, {"NO_COLOR": "1"})
    assert "\x1b[" in coloured
    assert MODEL in plain
    assert not re.search(
        r"\x1b\[\d*(;\d+)*m", plain.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "")
    )


def terminal(desk: Desk, more: dict[str, str]) -> str:
    """What `status` prints to a terminal of its own."""
    main, other = pty.openpty()
    argv = [sys.executable, "-m", "ciranda.cli", "status", MODEL, "--home", str(desk.home.path)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", **more}
    child = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, env=environment)
    os.close(other)
    seen, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.2)[0]:
            try:
                seen += os.read(main, 65536)
            except OSError:
                break
    os.close(main)
    assert child.wait(10) == 0
    return seen.decode()


# --- through the gateway ----------------------------------------------------------------------------------------------


@pytest.fixture
def gateway(desk: Desk) -> Iterator[Rig]:
    rig = Rig(desk.home.path)
    rig.add_key(desk.secret, role="admin")
    engine = rig.engine(f"{MODEL}@1")
    rig.route({MODEL: model(arm("live", f"{MODEL}@1", engine.url))})
    (desk.home.run / "gateway-1.json").write_text(json.dumps({"url": rig.gateway(1).url}))
    yield rig
    rig.stop()


def test_chat_prints_the_answer_and_whose_it_was_and_feedback_reaches_the_record(desk: Desk, gateway: Rig) -> None:
    said = desk.run("chat", MODEL, "turn on the light", "--system", "Be brief.", "--user", "ana")
    assert said.code == 0, said.err
    assert said.out.strip()
    found = re.search(r"interaction (\S+) by (\S+):", said.err)
    assert found
    assert found[2] == f"{MODEL}@1"
    recorded = gateway.record(found[1])
    assert recorded["user"] == "ana"
    assert recorded["stream"] == 1
    thanks = desk.run("feedback", found[1], "down", "--correction", "{}", "--reason", "wrong")
    assert thanks.code == 0, thanks.err
    (voted,) = gateway.records("feedback")
    assert (voted["interaction"], voted["thumb"], voted["correction"], voted["reasons"]) == (
        found[1],
        -1,
        "{}",
        ["wrong"],
    )


def test_chat_with_json_is_one_object_and_an_unknown_model_is_not_found(desk: Desk, gateway: Rig) -> None:
    told = desk.run("chat", MODEL, "hello", "--json").json
    assert set(told) == {"interaction", "version", "answer"}
    missing = desk.run("chat", "nobody", "hello")
    assert missing.code == 4
    assert "nobody" in missing.err
    assert desk.run("feedback", "x", "sideways").code == 2


def test_a_cut_answer_is_an_error(desk: Desk, gateway: Rig) -> None:
    class Cut:
        def __init__(self) -> None:
            self.headers = {"x-request-id": "r"}
            self.response = iter([b'data: {"choices": [{"delta": {"content": "half"}}]}\n', b"\n"])

    from ciranda.cli import talk
    from ciranda.errors import Unavailable

    pieces = talk.pieces(Cut(), "http://gateway")  # type: ignore[arg-type]
    assert next(pieces) == "half"
    with pytest.raises(Unavailable, match="cut in the middle"):
        list(pieces)


def test_whoever_watches_outlives_a_restart_of_control(desk: Desk) -> None:
    desk.run("train", MODEL, "--event", "nightly")
    desk.stop()
    seat = Seat({"home": str(desk.home.path)})
    restart = threading.Timer(0.5, desk.serve)
    restart.start()
    told = seat.patiently(lambda: seat.control.get(f"/turns/turn:{MODEL}:nightly"))
    restart.join()
    assert told["id"] == f"turn:{MODEL}:nightly"


def test_a_dataset_is_described_and_a_term_defined(desk: Desk) -> None:
    assert (
        "cliente"
        in desk.run("glossary", "define", "Customer", "Who pays us", "--synonym", "cliente").out
        + desk.run("glossary").out
    )
    said = desk.run(
        "datasets", "describe", "tickets", "--owner", "ana", "--licence", "mit", "--every", "24h", "--tag", "pii"
    )
    assert re.search(r"licence\s+MIT", said.out)
    field = desk.run(
        "datasets", "describe", "tickets", "--field", "subject", "--tag", "pii", "--term", "cliente", "--json"
    )
    assert field.json["fields"]["subject"]["terms"] == ["Customer"]
    assert field.json["every_s"] == 86400
    assert re.search(r"on\s+tickets:subject", desk.run("glossary", "show", "cliente").out)
    assert desk.run("glossary", "remove", "Customer").code == 5
    assert desk.run("datasets", "describe", "tickets", "--field", "subject", "--tag", "", "--term", "").code == 0
    assert desk.run("glossary", "remove", "Customer").code == 0
    assert desk.run("datasets", "describe", "tickets", "--licence", "ours").code == 2
    assert desk.run("datasets", "show", "tickets").code == 4


def test_lines_of_dataset_versions_are_named_compared_branched_reverted_and_collected(desk: Desk) -> None:
    contents = ([1, 2], [2, 3], [3, 4], [4, 5])
    for numbers in contents:
        rows = [Row.of(f"question {n}", f"answer {n}", language="en") for n in numbers]
        with checks.judge([*rows, Row.of(" ", "x")], {"schema": "drop"}) as judged:
            datasets.commit(
                desk.world.db, desk.home, "tickets", judged.batches(), report=judged.report.to_dict(),
                findings=judged.findings, transformation={"kind": "test"}, actor="test",
            )  # fmt: skip
    assert "golden is tickets@1" in desk.run("datasets", "tag", "tickets@1", "golden").out
    assert desk.run("datasets", "tag", "tickets@2", "golden").code == 5
    assert desk.run("datasets", "tag", "tickets@3", "current", "--moving").code == 0
    told = json.loads(desk.run("datasets", "diff", "tickets@golden", "tickets@4", "--json").out)
    assert (told["added"], told["removed"], told["changed"]) == (2, 2, 0)
    assert {one["prompt"] for one in told["rows"]["added"]} == {"question 4", "question 5"}
    assert "the prompt is empty" in desk.run("datasets", "findings", "tickets@2", "--check", "schema").out
    assert "tickets@5: 2 rows, as in tickets@2" in desk.run("datasets", "revert", "tickets@2").out
    assert "short@1: 2 rows of tickets@2" in desk.run("datasets", "branch", "tickets@2", "short").out
    plan = json.loads(desk.run("datasets", "gc", "tickets", "--keep", "1", "--age", "0", "--json").out)
    assert (plan["dry"], plan["collected"]) == (True, ["tickets@4", "tickets@2"])
    assert "MB freed" in desk.run("datasets", "gc", "tickets", "--keep", "1", "--age", "0", "--yes").out
    listed = desk.run("datasets", "versions", "tickets").out
    assert listed.count("collected") == 2
    assert "golden" in listed
    moment = datasets.get(desk.world.db, "tickets@3").created_at
    (then,) = json.loads(desk.run("datasets", "versions", "tickets", "--at", moment, "--json").out)["items"]
    assert then["ref"] == "tickets@3"
    assert "is not called golden any more" in desk.run("datasets", "untag", "tickets@golden").out


# --- data: brought in, prepared, reviewed -----------------------------------------------------------------------------


RECIPE = """\
from: faq
into: faq-clean
steps:
  - filter: length(prompt) > 2
  - sample: {share: 0.9}
  - split: {by: hash}
"""


def test_a_set_is_imported_prepared_and_made_again(desk: Desk, tmp_path: Path) -> None:
    rows = [{"question": f"what is {n}?", "answer": f"{n}"} for n in range(50)]
    (tmp_path / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dry = desk.run("data", "import", "faq.jsonl", "--dataset", "faq", "--dry-run")
    assert "prompt (question as prompt, answer as completion)" in dry.out
    assert "nothing written" in dry.out
    done = desk.run("data", "import", "faq.jsonl", "--dataset", "faq", "--json").json
    assert (done["dataset"], done["report"]["rows"]) == ("faq@1", 50)
    (tmp_path / "bad.jsonl").write_text('{"question": "a"}\n{"nothing": 1}\n')
    refused = desk.run("data", "import", "bad.jsonl", "--dataset", "faq")
    assert refused.code == errors_of("Invalid")
    assert "bad.jsonl:2" in refused.err
    (tmp_path / "clean.yaml").write_text(RECIPE)
    made = desk.run("data", "prepare", "clean.yaml")
    assert "faq-clean@1" in made.out
    assert made.out.count("sample") == 1
    again = desk.run("data", "rebuild", "faq-clean@1", "--json").json
    assert again["same"] is True
    (tmp_path / "clean.yaml").write_text(RECIPE.replace("share", "shar"))
    wrong = desk.run("data", "prepare", "clean.yaml")
    assert f"{tmp_path}/clean.yaml:5" in wrong.err or "clean.yaml:5" in wrong.err
    assert "did you mean 'share'?" in wrong.err
    assert desk.run("data", "rebuild", "faq@1").code == errors_of("Refused")
    listed = desk.run("data", "--json").json["items"]
    assert [one["kind"] for one in listed] == ["rebuild", "prepare", "import", "import", "import"]
    assert listed[0]["job"] in desk.run("data", "job", listed[0]["job"]).out


def test_a_teacher_is_asked_from_the_command_line(desk: Desk, tmp_path: Path) -> None:
    with desk.world.db.writing() as conn:
        models.put(conn, ModelSpec.model_validate({"model": "big", "serve": {"engine": "fake"}}), actor="test")
    versions.register_base(desk.world.db, desk.home, model="big", base=FAKE, base_digest="sha256:p", actor="test")
    desk.home.engine_key.write_text("engines")
    (tmp_path / "ask.jsonl").write_text('{"prompt": "what is one?"}\n{"prompt": "what is two?"}\n')
    done = desk.run("data", "distil", "ask.jsonl", "--teacher", "big@0", "--dataset", "small", "--json").json
    assert (done["dataset"], done["asked"], done["teacher"]) == ("small@1", 2, "big@0")
    again = desk.run("data", "distil", "--rows", "small@1", "--teacher", "big@0", "--dataset", "small")
    assert "small@1\n" in again.out, "the same answers are the same version"
    nobody = desk.run("data", "distil", "ask.jsonl", "--teacher", "big", "--dataset", "small")
    assert "no teacher 'big'" in nobody.err
    private = desk.run("data", "distil", "ask.jsonl", "--teacher", "b", "--at", "http://127.0.0.1:1", "--dataset", "s")
    assert private.code == errors_of("Refused")


def errors_of(name: str) -> int:
    """The exit code of an error's class."""
    return next(one.exit_code for one in client.tree() if one.__name__ == name)


def test_rows_are_reviewed_from_the_command_line(desk: Desk) -> None:
    rows = [Row.of(f"question {n}", f"answer {n}") for n in range(8)]
    datasets.commit(desk.world.db, desk.home, "faq", rows, transformation={}, actor="test")
    assert desk.run("review", "create", "doubts").code == errors_of("Invalid")
    assert "for faq" in desk.run("review", "create", "doubts", "--dataset", "faq", "--twice", "0").out
    assert desk.run("review", "fill", "doubts", "--of", "rows", "--count", "3", "--json").json["added"] == 3
    first = desk.run("review", "next", "doubts", "--json").json["item"]
    assert first["messages"][0]["content"] in desk.run("review", "next", "doubts").out
    assert desk.run("review", "answer", "doubts", first["id"], "correct").code == errors_of("Invalid")
    assert (
        "correct, by first admin"
        in desk.run("review", "answer", "doubts", first["id"], "correct", "--correction", "x").out
    )
    assert first["id"] in desk.run("review", "undo", "doubts").out
    desk.run("review", "answer", "doubts", first["id"], "wrong")
    shown = desk.run("review", "show", "doubts", "--json").json
    assert (shown["items"]["open"], shown["items"]["done"]) == (2, 1)
    assert "first admin" in desk.run("review", "show", "doubts").out
    assert [one["verdict"] for one in desk.run("review", "labels", "doubts", "--json").json["items"]] == ["wrong"]
    told = desk.run("review", "commit", "doubts", "--json").json
    assert (told["dataset"], told["removed"]) == ("faq@2", 1)
    assert desk.run("review", "commit", "doubts").code == errors_of("Refused")
    assert "doubts" in desk.run("review").out


def test_data_is_found_its_chain_followed_and_its_card_printed(desk: Desk) -> None:
    datasets.commit(desk.world.db, desk.home, "tickets", [Row.of("hello", "hi")], transformation={}, actor="test")
    desk.run("datasets", "describe", "tickets", "--description", "Perguntas de clientes", "--tag", "br")
    assert "tickets" in desk.run("datasets", "list", "clientes", "--tag", "br").out
    assert "no dataset like that" in desk.run("datasets", "list", "invoices").out
    assert "dataset tickets@1" in desk.run("lineage", "dataset:tickets").out
    back = desk.run("lineage", desk.world.register(1).ref, "--back").out
    assert "base tiny" in back
    assert desk.run("lineage", "nobody@9").code == 4
    card = json.loads(desk.run("datasets", "card", "tickets@1").out)
    assert card["conformsTo"].endswith("croissant/1.1")
    assert card["description"] == "Perguntas de clientes"
