"""A real Ray cluster on loopback, with its token: what its Jobs API does with a job, and that training there is training.

The head takes the better part of a minute to start, so one serves the whole file, and all of these are slow tests: the protocol
with short commands as jobs, training by Ray Train of the parrot and of the packaged base, trials side by side, a whole turn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import errands
import house
import raycluster
import smallmodel
from ciranda.engines import ray
from ciranda.engines.ray import Ray
from ciranda.errors import Unauthenticated
from ciranda.jobs.orders import Address, Order
from ciranda.jobs.remote import Remote
from ciranda.store import depot
from ciranda.train.run import Jobs

KEY = "train:search:house:1:0"


def until(condition: Callable[[], Any], *, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def head() -> Iterator[raycluster.Head]:
    with raycluster.running() as found:
        yield found


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_RAY_TOKEN", raycluster.TOKEN)


def remote(head: raycluster.Head, folder: Path, *, home: str = "a") -> Remote:
    url = f"file:{folder}/depot"
    return Remote(
        folder / home / "jobs",
        Ray(head.url, "env:OUR_RAY_TOKEN", Address(url, "", 1)),
        depot.at(url),
        f"{folder.name}-{home}",
    )


def ended(trainer: Jobs, key: str = KEY) -> str:
    return str(until(lambda: (state := trainer.status(key).state) != "running" and state))


def log(there: Remote, key: str = KEY) -> str:
    return there.logs(key)[0].decode(errors="replace")[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_jobs_api_keeps_the_protocol(
    head: raycluster.Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version, idempotent start, state, log, an end by its own code, a stop, an unknown job, a wrong token: on one head."""
    cluster = Ray(head.url, "env:OUR_RAY_TOKEN", Address("file:/nowhere", "", 1))
    assert cluster.check().startswith("Ray 2.")
    assert cluster.look("ciranda-none-1").state == "absent"
    monkeypatch.setattr(ray, "command", lambda order, address: " ".join(order.argv))
    says = Order("ciranda-says-1", "k", "m/k", 1, ("echo $GREETING; exit 3",), {"GREETING": "hello"})
    sleeps = replace(says, name="ciranda-sleeps-1", argv=("sleep 600",))
    for order in (says, sleeps, says, sleeps):  # the second time changes nothing
        cluster.start(order)
    names = [job["submission_id"] for job in cluster._json(cluster._call("GET", "/api/jobs/"))["items"]]
    assert sorted(names) == [says.name, sleeps.name, "is-it-there"]
    seen = until(lambda: (one := cluster.look(says.name)).state == "ended" and one)
    assert "exit code 3" in seen.reason
    assert b"hello" in cluster.log(says.name)
    until(lambda: cluster.look(sleeps.name).reason != "waiting for room")
    cluster.stop(sleeps.name, grace_s=0)
    until(lambda: cluster.look(sleeps.name).state == "ended")
    told = httpx.get(f"{head.url}/api/jobs/{says.name}", headers={"authorization": f"Bearer {raycluster.TOKEN}"}).text
    assert raycluster.TOKEN not in told
    monkeypatch.setenv("OUR_RAY_TOKEN", "wrong")
    with pytest.raises(Unauthenticated, match="does not take our token"):
        cluster.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_train_makes_the_same_artefact_and_trials_go_side_by_side(head: raycluster.Head, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path, steps=40), remote(head, tmp_path)
    trainer, here = errands.away(tmp_path, there, memory_gb=0.2), errands.local(tmp_path / "here")
    keys = [f"train:search:house:1:{number}" for number in range(2)]
    for number, key in enumerate(keys):
        one = replace(spec, recipe=spec.recipe.model_copy(update={"seed": number}))
        trainer.submit(key, one)
        here.submit(key, one)
    for key in keys:
        assert ended(trainer, key) == ended(here, key) == "succeeded", log(there, key)
        one, two = trainer.collect(key), here.collect(key)
        assert errands.artefact(one.folder) == errands.artefact(two.folder)
        assert one.curve == two.curve
    assert there.depot.names(there.mark) == []
    broken = replace(spec, rows=tmp_path / "broken.jsonl")
    broken.rows.write_text("no json\n")
    trainer.submit("train:broken", broken)
    assert ended(trainer, "train:broken") == "failed"
    assert "no training row" in trainer.status("train:broken").reason


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_packaged_base_trained_by_ray_train_is_what_it_is_here(head: raycluster.Head, tmp_path: Path) -> None:
    """The real thing: LoRA on the base of 135M parameters; adapter and GGUF have the same digests as from a job of this machine."""
    spec = smallmodel.spec(tmp_path, steps=6)
    spec = replace(spec, output=Path("output"))
    there = remote(head, tmp_path)
    trainer = errands.away(tmp_path, there, entry="ciranda.engines.peft_job", memory_gb=2.0)
    here = errands.local(tmp_path / "here", entry="ciranda.engines.peft_job")
    began = time.monotonic()
    trainer.submit(KEY, spec)
    assert ended(trainer) == "succeeded", log(there)
    one, took = trainer.collect(KEY), time.monotonic() - began
    here.submit(KEY, spec)
    assert ended(here) == "succeeded"
    two = here.collect(KEY)
    assert errands.artefact(one.folder) == errands.artefact(two.folder)
    assert (one.exact_match, one.loss, one.curve) == (two.exact_match, two.loss, two.curve)
    print(
        f"\nthrough Ray {took:.1f} s, of it training {one.seconds:.1f} s; here {two.seconds:.1f} s; loss {one.loss:.4f}"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_run_goes_on_from_its_checkpoint(head: raycluster.Head, tmp_path: Path) -> None:
    """The job is ended behind our back, as by a head that is replaced: lost, sent again, and the same in the end."""
    spec, there = errands.spec(tmp_path, steps=errands.LONG), remote(head, tmp_path)
    trainer, here = errands.away(tmp_path, there, memory_gb=0.2), errands.local(tmp_path / "here")
    trainer.submit(KEY, spec)
    until(lambda: there.depot.names(f"{there.mark}/{KEY}/state"))
    there.cluster.stop(json.loads((there.root / KEY / "away.json").read_text())["name"], grace_s=0)
    assert ended(trainer) == "gone", log(there)
    trainer.submit(KEY, spec)
    assert ended(trainer) == "succeeded", log(there)
    result = trainer.collect(KEY)
    assert result.about["resumed_at"] > 0
    here.submit(KEY, spec)
    assert ended(here) == "succeeded"
    assert errands.artefact(result.folder) == errands.artefact(here.collect(KEY).folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_turn_trains_on_ray(head: raycluster.Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `ciranda train` to a version that passed its gates, every trial on the cluster."""
    spec = house.SPEC.replace("train:\n", "train:\n  executor: ray\n  resources: {cpus: 1, memory_gb: 0.2}\n").replace(
        "budget: 1m", "budget: 10m"
    )
    file = house.project(tmp_path, spec=spec)
    monkeypatch.setenv("CIRANDA_JOBS_URL", f"file:{tmp_path}/depot")
    monkeypatch.setenv("CIRANDA_RAY_URL", head.url)
    monkeypatch.setenv("CIRANDA_RAY_TOKEN", "env:OUR_RAY_TOKEN")
    with house.platform(tmp_path) as stage:
        found = {one["name"]: one["state"] for one in stage.control.get("/executors")["items"]}
        assert found == {"local": "ready", "ray": "ready", "kubernetes": "off"}
        house.apply(stage, file)
        house.live(stage, "house@0")
        turn = stage.control.post(f"/models/{house.MODEL}/turns", {"event": "first"})["turn"]
        house.ended(stage, turn, "released", "promoted", limit_s=600)
        trials = stage.control.get("/runs", model=house.MODEL)["items"][0]["trials"]
        assert [trial["state"] for trial in trials] == ["complete", "complete"]
        assert all(stage.platform.jobs.where(trial["job"]) == "ray" for trial in trials)
