"""The process tree under `up`, with real processes: kills, hangs, crash loops, order, and a home that is up already."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ciranda.config import Home
from ciranda.config.model import ModelSpec
from ciranda.deploy import apply, child, rollout, routing, stages, supervise
from ciranda.deploy.apply import Deployment
from ciranda.deploy.child import ChildSpec
from ciranda.deploy.supervise import Running, diff
from ciranda.errors import Conflict
from ciranda.jobs import process
from ciranda.registry import models, versions
from ciranda.store.database import Database, metadata

SERVING = str(Path(__file__).parent / "serving.py")


def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def serving(home: Home, name: str, *extra: str, **settings: Any) -> ChildSpec:
    ready = home.run / f"{name}.ready"
    argv = (sys.executable, SERVING, "--ready-file", str(ready), *extra)
    return ChildSpec(name, argv, ready_file=ready, health="/healthz", **settings)


class Engines:
    """A runtime whose replicas are small serving processes; a deployment whose version ends with @9 cannot be served."""

    def command(self, deployment: Deployment, *, ready_file: Path) -> Sequence[str]:
        extra = ["--exit", "1"] if deployment.version.endswith("@9") else []
        return [sys.executable, SERVING, "--ready-file", str(ready_file), *extra]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    db = Database(f"sqlite:///{home.database}")
    metadata.create_all(db.engine)
    yield db
    db.close()


class Up:
    """A supervisor in a process of its own, as `ciranda up` is."""

    def __init__(self, home: Home) -> None:
        self.home, self.pid = home, 0

    def start(self, *static: ChildSpec, drain_s: float = 0.2) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                supervise.run(
                    self.home, static, Engines(), Database(f"sqlite:///{self.home.database}"), drain_s=drain_s
                )
                code = 0
            finally:
                os._exit(code)

    def status(self) -> dict[str, dict[str, Any]]:
        try:
            said = json.loads((self.home.run / "supervisor.json").read_text())
        except FileNotFoundError:
            return {}
        return {one["name"]: one for one in said["children"]} if said["pid"] == self.pid else {}

    def ready(self, *names: str) -> dict[str, dict[str, Any]]:
        def all_ready() -> dict[str, dict[str, Any]]:
            now = self.status()
            return now if all(now.get(name, {}).get("state") == "ready" for name in names) else {}

        return dict(until(all_ready))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if not self.pid:
            return 0
        os.kill(self.pid, number)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code


@pytest.fixture
def up(home: Home, db: Database) -> Iterator[Up]:
    up = Up(home)
    yield up
    if up.pid:
        up.stop(signal.SIGKILL)
    child.end_leftovers(home.run / "pids", grace_s=1)


def deploy(db: Database, home: Home, *, replicas: int = 1) -> str:
    """A model with its bare base live."""
    with db.writing() as conn:
        models.put(
            conn, ModelSpec.model_validate({"model": "smart-home", "serve": {"replicas": replicas}}), actor="test"
        )
    base = versions.register_base(db, home, model="smart-home", base="tiny", base_digest="sha256:0", actor="test")
    with db.writing() as conn:
        rollout.promote(conn, base.ref, actor="test")
    return base.ref


def replicas(db: Database) -> list[apply.Replica]:
    with db.reading() as conn:
        return apply.replicas(conn)


def ready_replicas(db: Database, number: int) -> list[apply.Replica]:
    def those() -> list[apply.Replica]:
        found = [one for one in replicas(db) if one.state == "ready"]
        return found if len(found) == number and len(replicas(db)) == number else []

    return list(until(those))


def test_children_become_ready_log_and_stop_in_order(home: Home, up: Up) -> None:
    order = home.path / "order"
    up.start(
        serving(home, "control", "--note", str(order), "control", stop=20),
        serving(home, "gateway-0", "--note", str(order), "gateway", stop=10),
        serving(home, "collector", "--note", str(order), "collector", stop=30),
    )
    now = up.ready("control", "gateway-0", "collector")
    assert now["control"]["url"].startswith("http://127.0.0.1:")
    assert "serving" in (home.logs / "control.log").read_text()
    assert up.stop() == 0
    assert order.read_text().split() == ["gateway", "control", "collector"]
    assert not list((home.run / "pids").iterdir())


def test_a_killed_child_is_back_within_two_seconds(home: Home, up: Up) -> None:
    up.start(serving(home, "control"))
    before = up.ready("control")["control"]
    killed = time.monotonic()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: up.status()["control"]["pid"] not in (0, before["pid"]))
    after = up.ready("control")["control"]
    assert after["restarts"] == 1
    assert time.monotonic() - killed < 2.0


def test_a_hung_child_is_replaced(home: Home, up: Up) -> None:
    up.start(serving(home, "control", interval_s=0.05, timeout_s=0.3))
    before = up.ready("control")["control"]
    os.kill(before["pid"], signal.SIGSTOP)
    until(lambda: up.status()["control"]["pid"] not in (0, before["pid"]))
    until(lambda: up.status()["control"]["state"] == "ready")
    assert not Path(f"/proc/{before['pid']}").exists()


def test_a_crash_loop_backs_off_and_harms_nobody_else(home: Home, up: Up) -> None:
    up.start(serving(home, "broken", "--exit", "3"), serving(home, "control"))
    until(lambda: up.status().get("broken", {}).get("restarts", 0) >= 3)
    assert up.status()["broken"]["reason"] == "it ended with exit code 3"
    assert up.ready("control")["control"]["restarts"] == 0
    assert up.stop() == 0


def test_a_command_that_does_not_exist_is_reported(home: Home, up: Up) -> None:
    up.start(ChildSpec("missing", ("/no/such/command",)))
    until(lambda: "No such file" in up.status().get("missing", {}).get("reason", ""))


def test_a_child_that_never_gets_ready_is_started_again(home: Home, up: Up) -> None:
    up.start(serving(home, "control", "--never-ready", start_s=0.3))
    until(lambda: up.status().get("control", {}).get("reason") == "it was not ready within 0.3 s")


def test_a_stubborn_child_is_killed_when_its_grace_is_over(home: Home, up: Up) -> None:
    up.start(serving(home, "control", "--stubborn", grace_s=0.3))
    up.ready("control")
    began = time.monotonic()
    assert up.stop() == 0
    assert time.monotonic() - began < 3


def test_when_the_supervisor_is_killed_its_children_go_and_the_next_one_starts(home: Home, up: Up) -> None:
    up.start(serving(home, "control"), serving(home, "deaf", "--stubborn"))
    now = up.ready("control", "deaf")
    control, deaf = (process.identify(now[name]["pid"]) for name in ("control", "deaf"))
    up.stop(signal.SIGKILL)
    until(lambda: not process.alive(control))  # the kernel told it
    assert process.alive(deaf)  # it ignores SIGTERM
    up.start(serving(home, "control"))
    up.ready("control")
    assert not process.alive(deaf)


def test_a_second_supervisor_is_refused(home: Home, db: Database, up: Up) -> None:
    up.start(serving(home, "control"))
    up.ready("control")
    with pytest.raises(Conflict, match=f"up already, by process {up.pid}"):
        supervise.run(home, [], Engines(), db)


def test_a_port_in_use_is_named_before_anything_starts(home: Home, db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spec = serving(home, "control", listens=("127.0.0.1", port))
        with pytest.raises(Conflict, match=f"port {port} is in use") as caught:
            supervise.run(home, [spec], Engines(), db)
    assert "control" in caught.value.where
    assert not (home.logs / "control.log").exists()


def test_replicas_follow_the_desired_state_and_the_routing_follows_them(home: Home, db: Database, up: Up) -> None:
    ref = deploy(db, home, replicas=2)
    up.start()
    first = ready_replicas(db, 2)
    routing.refresh(db, home)
    arm = routing.current(home.routing)["models"]["smart-home"]["arms"][0]
    assert (arm["version"], arm["weight"]) == (ref, 100.0)
    assert sorted(one["url"] for one in arm["replicas"]) == sorted(one.url for one in first)
    with db.writing() as conn:
        models.put(conn, ModelSpec.model_validate({"model": "smart-home", "serve": {"replicas": 1}}), actor="test")
        rollout.settle(conn, "smart-home")
    ready_replicas(db, 1)
    with db.reading() as conn:
        assert apply.get(conn, ref).status == "1 of 1 ready"


def test_a_killed_replica_is_replaced_and_leaves_the_routing_meanwhile(home: Home, db: Database, up: Up) -> None:
    deploy(db, home)
    up.start()
    (before,) = ready_replicas(db, 1)
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: [one.restarts for one in replicas(db)] == [1])
    (after,) = ready_replicas(db, 1)
    assert after.url != before.url

    def routed() -> bool:
        arms = routing.current(home.routing)["models"]["smart-home"]["arms"]
        return bool([one["url"] for arm in arms for one in arm["replicas"]] == [after.url])

    until(routed)


def test_a_changed_spec_replaces_processes_new_ones_first(home: Home, db: Database, up: Up) -> None:
    deploy(db, home)
    up.start()
    (before,) = ready_replicas(db, 1)
    with db.writing() as conn:
        models.put(conn, ModelSpec.model_validate({"model": "smart-home", "serve": {"slots": 2}}), actor="test")
        rollout.settle(conn, "smart-home")
    seen = []

    def replaced() -> bool:
        now = replicas(db)
        seen.append(sum(one.state == "ready" for one in now))
        return len(now) == 1 and now[0].id != before.id and now[0].state == "ready"

    until(replaced)
    assert min(seen) >= 1  # there was one that answered at every moment


def test_a_supervisor_that_comes_back_finds_no_ghosts(home: Home, db: Database, up: Up) -> None:
    deploy(db, home)
    up.start()
    (before,) = ready_replicas(db, 1)
    up.stop(signal.SIGKILL)
    up.start()
    until(lambda: [one.id for one in replicas(db)] not in ([], [before.id]))
    (after,) = ready_replicas(db, 1)
    assert after.pid != before.pid
    assert up.stop() == 0
    assert replicas(db) == []


def test_logs_are_copied_away_and_cut(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    with log.open("ab") as file:
        file.write(b"x" * 100)
        file.flush()
        child.rotate(log, limit=50)
        file.write(b"next")
    assert log.read_bytes() == b"next"
    assert (tmp_path / "control.log.1").read_bytes() == b"x" * 100


def deployment(name: str, *, replicas: int, generation: int = 1) -> Deployment:
    return Deployment(name, "m", f"m@{name}", "", "fake", "live", replicas, {}, generation, "", "")


def test_diff_starts_what_is_missing_a_few_at_a_time() -> None:
    wanted = deployment("a", replicas=6)
    assert diff([wanted], []).start == (wanted,) * supervise.STARTS_AT_ONCE
    one = Running("r1", "a", 1, ready=True, young=False)
    assert len(diff([deployment("a", replicas=2)], [one]).start) == 1


def test_diff_takes_the_unready_first_and_old_generations_only_when_the_new_is_ready() -> None:
    good, bad = Running("r1", "a", 1, True, False), Running("r0", "a", 1, False, False)
    assert diff([deployment("a", replicas=1)], [bad, good]).drain == ("r0",)
    old, new = Running("r1", "a", 1, True, False), Running("r2", "a", 2, False, True)
    assert diff([deployment("a", replicas=1, generation=2)], [old, new]).drain == ()
    ready = Running("r2", "a", 2, True, False)
    assert diff([deployment("a", replicas=1, generation=2)], [old, ready]).drain == ("r1",)
    assert diff([], [good]).drain == ("r1",)


def test_a_rollout_state_is_never_unknown_to_the_tables() -> None:
    assert set(stages.OPEN) <= set(stages.STATES)


def test_nothing_in_the_test_process_was_left_running() -> None:
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "serving.py"], capture_output=True, check=False)
    assert children.stdout == b""
