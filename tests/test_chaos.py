"""Minutes of load while everything is killed at random: `make chaos`, or `make chaos ARGS="--chaos-seconds 600 --chaos-seed 7"`.

Four processes hold the platform up (gateway, collector, control, engines) and each of them dies again and again. What must
hold at the end: an answer that a client has read is in the store exactly once; a request that was not answered got an error in
the shape that clients know, or a broken line in the very moment its own gateway died; the audit chain is whole.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import house
from ciranda.cli.stage import Stage
from load import Load

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

SPEC = house.SPEC.replace("serve: {engine: fake}", "serve: {engine: fake, replicas: 2}")
SHAPES = {429: "rate_limit_error", 500: "server_error", 502: "server_error", 503: "server_error", 504: "server_error"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    file = house.project(tmp_path, spec=SPEC)
    with house.platform(tmp_path) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        yield stage


def children(stage: Stage) -> list[dict[str, Any]]:
    return list(json.loads((stage.home.run / "supervisor.json").read_text())["children"])


def kind(name: str) -> str:
    return "engine" if name.startswith("rep_") else name.partition("-")[0]


def torment(stage: Stage, seconds: float, dice: random.Random) -> tuple[Counter[str], list[float]]:
    """Kill at random for so long; what was killed how often, and when gateways were."""
    killed: Counter[str] = Counter()
    gateways: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alive = [one for one in children(stage) if one["state"] == "ready"]
        if alive:
            name = dice.choice(sorted({kind(one["name"]) for one in alive}))
            victim = dice.choice([one for one in alive if kind(one["name"]) == name])
            try:
                os.kill(victim["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed[name] += 1
            if name == "gateway":
                gateways.append(time.monotonic())
        time.sleep(dice.expovariate(1 / 1.5))  # the dice of chaos, not a wait for anything
    return killed, gateways


def test_nothing_answered_is_lost_whatever_dies(stage: Stage, chaos: tuple[float, int]) -> None:
    seconds, seed = chaos
    with Load(stage, stage.client_key("chaos"), clients=8, pause_s=0.05) as load:
        load.more(50)
        killed, gateways = torment(stage, seconds, random.Random(seed))
        stage.until("all are back", lambda: all(one["state"] == "ready" for one in children(stage)), limit_s=120)
        load.more(50)
    print(
        f"seed {seed}: killed {dict(killed)}; {len(load.answered)} answered, {len(load.refused)} refused, {len(load.broken)} broken"
    )
    assert sum(killed.values()) >= seconds / 10

    for status, text in load.refused:
        error = json.loads(text)["error"]
        assert error["type"] == SHAPES[status]
        assert {"message", "type", "code", "param"} <= set(error)
    for at, seen in load.broken:
        alone = "Error" not in seen and '"error"' not in seen  # a stream that ended without a word
        near = any(-0.5 < at - death < 15 for death in gateways)
        assert near or not alone, f"a silent end with no gateway killed: {seen}"

    answered = Counter(load.answered)
    recorded: Counter[str] = Counter()

    def arrived() -> bool:
        recorded.clear()
        before = None
        while page := stage.platform.interactions.page(model=house.MODEL, before=before, limit=5000):
            recorded.update(one.id for one in page)
            before = page[-1].id
        return set(answered) <= set(recorded)

    stage.until("every answer is on record", arrived, limit_s=120)
    assert max(answered.values()) == 1
    assert stage.platform.interactions.count(model=house.MODEL) == len(recorded) == sum(recorded.values())
    assert stage.control.get("/audit/verify")["ok"]
