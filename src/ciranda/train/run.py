"""Runs: one training job each, under a key that names the work, so that asking twice trains once.

`Trainer` is what a search needs of whoever trains. `Jobs` satisfies it with the job executor of this machine: the spec is a file
in the job's folder, the work is `engines.peft_job` in a process of its own, and everything that comes back is a file too.
Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from ciranda.errors import Failed
from ciranda.jobs.local import Executor, Input, JobSpec, Resources
from ciranda.store import files
from ciranda.train import endings
from ciranda.train.bases import QUIET
from ciranda.train.recipe import Spec
from ciranda.train.telemetry import Listener, Telemetry
from ciranda.train.trials import Check

ENTRY = "ciranda.engines.peft_job"
ABREAST = 8  # runs of one search that a cluster is given at a time; what it has no room for waits there
TRIAL_BYTES = 3 << 30  # what one trial of the packaged base takes, with room

LISTENER = Listener()

CANCELLED = endings.say("ended")  # what an executor says of a run that somebody ended
State = Literal["running", "succeeded", "failed", "gone"]


@dataclass(frozen=True)
class Status:
    """How a run stands. `gone`: never begun, or lost with its process; submit it (again)."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """What a finished run left: `folder` holds `adapter/` and `adapter.gguf`, or `weights/` and `model.gguf` (`about["tuning"]`).

    `exact_match` is the share of validation rows that came out right by the method's own measure (`about["validation"]`).
    """

    folder: Path
    exact_match: float
    loss: float
    validated: int
    seconds: float
    curve: tuple[tuple[int, float], ...]
    about: Mapping[str, Any]


class Trainer(Protocol):
    """Where training happens. Every call is idempotent by key."""

    def places(self, limit: int, crowd: int) -> int: ...

    def submit(self, key: str, spec: Spec, *, after: str = "") -> None: ...

    def status(self, key: str) -> Status: ...

    def curve(self, key: str) -> tuple[tuple[int, float], ...]: ...

    def checks(self, key: str) -> tuple[Check, ...]: ...

    def collect(self, key: str) -> Result: ...

    def cancel(self, key: str) -> None: ...

    def halt(self, key: str) -> None: ...


@dataclass(frozen=True)
class Away:
    """A cluster that runs are sent to, and what each takes there."""

    executor: str
    cpus: int = 1
    memory_gb: float = 4.0
    gpus: int = 0
    timeout_s: float | None = None


class Jobs:
    """Trains in jobs of an executor.

    Args:
        executor: Runs them.
        root: `home/jobs`; a run's files are in the folder named by its key there.
        entry: The module that does the work; it is given the folder.
        away: Where runs are sent; None keeps them on this machine.
    """

    def __init__(self, executor: Executor, root: Path, *, entry: str = ENTRY, away: Away | None = None) -> None:
        self.executor, self.root, self.entry, self.away = executor, root, entry, away

    def places(self, limit: int, crowd: int) -> int:
        """How many of `limit` runs may go at the same time: what fits this machine beside `crowd` others, or a cluster's share."""
        return min(limit, ABREAST) if self.away else abreast(limit) - crowd

    def folder(self, key: str) -> Path:
        """Where a run's spec, progress and output are."""
        return self.root / key

    def submit(self, key: str, spec: Spec, *, after: str = "") -> None:
        """Begin the run, or go on from its checkpoint when it was lost; nothing when it runs or has ended.

        Args:
            after: An earlier run of the same work, that was halted: what it saved is gone on from.
        """
        folder = self.folder(key)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if after and not (folder / "spec.json").exists():
            (folder / "output").mkdir(mode=0o700, exist_ok=True)
            for saved in (self.folder(after) / "output").glob("checkpoint*"):
                shutil.copy2(saved, folder / "output" / saved.name)
        if self.away:
            spec = replace(spec, threads=self.away.cpus)
        if not (folder / "spec.json").exists():
            files.write_atomic(folder / "spec.json", json.dumps(spec.to_dict(), indent=1))
        env = {**QUIET, "OMP_NUM_THREADS": str(spec.threads or cores())}
        job = JobSpec((sys.executable, "-m", self.entry, str(folder)), folder, env)
        self.executor.submit(key, self._sent(job, spec) if self.away else job)

    def _sent(self, job: JobSpec, spec: Spec) -> JobSpec:
        """The job as a cluster takes it: with what it reads, and what it reserves."""
        assert self.away is not None
        own = (spec.rows, spec.validation, spec.init_adapter, spec.init_weights)
        digest = str(json.loads((spec.base / "base.json").read_text())["digest"])
        return replace(
            job,
            inputs=(Input(spec.base, digest), *(Input(path) for path in own if path is not None)),
            resources=Resources(self.away.cpus, self.away.memory_gb, self.away.gpus),
            timeout_s=self.away.timeout_s,
            executor=self.away.executor,
        )

    def status(self, key: str) -> Status:
        """How the run stands; a failure with the reason that the run itself gave, where it gave one."""
        found = self.executor.status(key)
        if found.state == "failed":
            return Status("failed", self._reason(key) or found.reason)
        if found.state == "running" or found.state == "succeeded":
            return Status(found.state)
        return Status("gone", found.reason)

    def curve(self, key: str) -> tuple[tuple[int, float], ...]:
        """(step, loss) so far; steps done again after a kill count once."""
        points: dict[int, float] = {}
        offset = 0
        while True:
            lines, after = self.executor.progress(key, offset)
            points |= {int(line["step"]): float(line["loss"]) for line in lines if "step" in line and "loss" in line}
            if after == offset:
                return tuple(sorted(points.items()))
            offset = after

    def checks(self, key: str) -> tuple[Check, ...]:
        """What validation said in the middle of the run, so far; a step that was done again after a kill counts once."""
        found: dict[int, Check] = {}
        offset = 0
        while True:
            lines, after = self.executor.progress(key, offset)
            told = (line["validation"] for line in lines if isinstance(line.get("validation"), dict))
            found |= {one.step: one for one in map(_check, told) if one}
            if after == offset:
                return tuple(found[step] for step in sorted(found))
            offset = after

    def collect(self, key: str) -> Result:
        """What a succeeded run left.

        Raises:
            Failed: it did not succeed.
        """
        folder = self.executor.collect(key) / "output"
        about = json.loads((folder / "result.json").read_text())
        validation = about["validation"]
        if validation["exact_match"] is None:
            raise Failed("the run had no validation rows", where=str(folder), remedy="bring rows of split validation")
        return Result(
            folder=folder,
            exact_match=validation["exact_match"],
            loss=validation["loss"],
            validated=validation["n"],
            seconds=about["seconds"],
            curve=tuple((int(step), float(loss)) for step, loss in about["loss_curve"]),
            about=about,
        )

    def cancel(self, key: str) -> None:
        """End the run and free what it holds: its processes, its checkpoint, its weights. Words and figures stay."""
        self.executor.cancel(key)
        shutil.rmtree(self.folder(key) / "output", ignore_errors=True)

    def telemetry(self, key: str) -> Telemetry:
        """What the run told so far."""
        return LISTENER.of(self.executor, key)

    def logs(self, key: str, offset: int = 0) -> tuple[bytes, int]:
        """A piece of the run's output from `offset`, and the offset to go on with."""
        return self.executor.logs(key, offset)

    def halt(self, key: str) -> None:
        """End the run for now: what it saved stays, for a run that goes on `after` it."""
        self.executor.cancel(key)

    def _reason(self, key: str) -> str:
        try:
            error = json.loads((self.folder(key) / "error.json").read_text())
        except FileNotFoundError:
            return ""
        return f"{error['message']}; do: {error['remedy']}"


def _check(told: Mapping[str, Any]) -> Check | None:
    """A line of validation; None for one with no rows, which says nothing."""
    if told.get("exact_match") is None or "step" not in told:
        return None
    return Check(int(told["step"]), float(told["exact_match"]), float(told.get("loss") or 0.0), int(told.get("n") or 0))


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def abreast(trials: int) -> int:
    """How many trials this machine trains at the same time: on few cores, two with a thread each beat one with two."""
    with Path("/proc/meminfo").open() as file:
        free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    return max(1, min(trials, cores(), free // TRIAL_BYTES))
