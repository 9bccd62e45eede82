"""The promise of a release, with real processes and under load: rollback takes less than a second, and no request fails.

Nor does one when an engine is killed meanwhile: the gateway asks the other replica. With a single replica there is nobody else
to ask until the routing names the version that is kept warm, a tenth of a second later.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from ciranda.deploy import apply, child, rollout, routing, supervise
from ciranda.deploy.apply import Deployment
from ciranda.deploy.child import ChildSpec
from ciranda.govern import access
from ciranda.store.database import Database
from registry_world import MODEL, World


class Fakes:
    """Every replica is the fake engine."""

    def __init__(self, key_file: Path) -> None:
        self.key_file = key_file

    def command(self, deployment: Deployment, *, ready_file: Path) -> Sequence[str]:
        module = [sys.executable, "-m", "ciranda.engines.fake", "--name", deployment.version, "--port", "0"]
        return [*module, "--ready-file", str(ready_file), "--key-file", str(self.key_file)]


def until(condition: Callable[[], Any], *, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


class Users:
    """Some who ask without a pause; what each answer was, and which version gave it."""

    def __init__(self, url: str, key: str, number: int = 3) -> None:
        self.url, self.key = url, key
        self.seen: list[tuple[float, int, str]] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(place,)) for place in range(number)]
        for thread in self._threads:
            thread.start()

    def _live(self, place: int) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "lights on"}], "stream": place % 2 == 0}
        with httpx.Client(timeout=10, headers={"authorization": f"Bearer {self.key}"}) as client:
            while not self._over.is_set():
                answer = client.post(f"{self.url}/v1/chat/completions", json=body)
                self.seen.append((time.monotonic(), answer.status_code, answer.headers.get("x-ciranda-version", "")))
                time.sleep(0.002)

    def first(self, version: str, *, after: float) -> float:
        """The moment of the first answer by that version."""
        return float(until(lambda: next((at for at, _, by in list(self.seen) if at > after and by == version), 0.0)))

    def leave(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, serve={"engine": "fake", "replicas": 2})
    yield world
    world.db.close()


@pytest.fixture
def gateway(world: World) -> Iterator[str]:
    """The platform's lower half: supervisor, gateway, engines. The URL of the gateway."""
    home = world.home
    home.engine_key.write_text(secrets.token_urlsafe(16))
    ready = home.run / "gateway-1.json"
    argv = (sys.executable, "-m", "ciranda.gateway", "--home", str(home.path), "--ready-file", str(ready))
    spec = ChildSpec("gateway-1", (*argv, "--number", "1", "--host", "127.0.0.1", "--port", "0"), ready_file=ready,
                     health="/healthz", stop=10)  # fmt: skip
    routing.refresh(world.db, home)
    pid = os.fork()
    if pid == 0:
        try:
            supervise.run(home, [spec], Fakes(home.engine_key), Database(f"sqlite:///{home.database}"), drain_s=1.0)
        finally:
            os._exit(0)
    try:
        said = until(lambda: ready.exists() and child.ready(spec, json.loads(ready.read_text())["pid"]))
        yield said.url
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def live(world: World, ref: str) -> None:
    with world.db.writing() as conn:
        rollout.promote(conn, ref, actor="test")
    routing.refresh(world.db, world.home)


def routed(world: World, ref: str) -> bool:
    arms = routing.current(world.home.routing)["models"][MODEL]["arms"]
    return bool([arm["version"] for arm in arms if arm["replicas"]] == [ref])


def test_rollback_and_forward_under_load(world: World, gateway: str) -> None:
    candidate = world.passed(1).ref
    with world.db.writing() as conn:
        _, key = access.create(conn, "app", role="client", actor="test")
    live(world, "smart-home@0")
    until(lambda: routed(world, "smart-home@0"))
    users = Users(gateway, key)
    try:
        users.first("smart-home@0", after=0)
        live(world, candidate)  # cold: the old version answers until the new one is ready
        until(lambda: routed(world, candidate))
        users.first(candidate, after=0)
        began = time.monotonic()
        with world.db.writing() as conn:
            change = rollout.rollback(conn, MODEL, actor="test")
        routing.refresh(world.db, world.home)
        back = users.first("smart-home@0", after=began) - began
        began = time.monotonic()
        live(world, candidate)
        forward = users.first(candidate, after=began) - began
        with world.db.reading() as conn:
            victim = apply.replicas(conn, apply.get(conn, candidate).id)[0]
        os.kill(victim.pid, signal.SIGKILL)  # and the engine dies, under load
        until(lambda: [one for one in replicas(world) if one.id == victim.id and one.restarts and one.state == "ready"])
        count = len(users.seen)
        until(lambda: len(users.seen) > count + 50)
    finally:
        users.leave()
    assert change.ready
    assert back < 1.0, f"{back:.3f} s until the old version answered"
    assert forward < 1.0
    print(f"\nback {back:.3f} s, forward {forward:.3f} s, {len(users.seen)} requests")
    assert [status for _, status, _ in users.seen if status != 200] == []


def test_who_is_told_that_routing_changed_can_rely_on_it_at_once(world: World, gateway: str) -> None:
    live(world, "smart-home@0")
    for number in range(10):
        with world.db.writing() as conn:
            _, key = access.create(conn, f"app {number}", role="client", actor="test")
        assert routing.taken(world.home, routing.refresh(world.db, world.home))
        assert httpx.get(f"{gateway}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_a_worker_that_hangs_holds_nobody_up_for_long(world: World, gateway: str) -> None:
    pid = json.loads((world.home.run / "gateway-1.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        live(world, "smart-home@0")
        began = time.monotonic()
        assert not routing.taken(world.home, routing.current(world.home.routing)["generation"], limit_s=0.2)
        assert time.monotonic() - began < 3
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: routing.taken(world.home, routing.current(world.home.routing)["generation"]))


def replicas(world: World) -> list[apply.Replica]:
    with world.db.reading() as conn:
        return apply.replicas(conn)
