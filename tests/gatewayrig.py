"""A gateway worker and fake engines as real processes in a scratch home, for tests that come through the front door."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ciranda.gateway.record import Record
from ciranda.interactions.spool import EVENT, FEEDBACK, INTERACTION, STARTED, Frame, read_frames
from ciranda.store import clock, files

KINDS = {INTERACTION: "interaction", STARTED: "started", FEEDBACK: "feedback", EVENT: "event"}


def wait_for(condition: Callable[[], Any], *, seconds: float = 10.0, what: str = "the condition") -> Any:
    """The condition's first true value; fails the test when it does not come in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come within {seconds:g} s")


@dataclass
class Process:
    """One child process with its announced address."""

    child: subprocess.Popen[bytes]
    ready_file: Path

    @property
    def url(self) -> str:
        def announced() -> str | None:
            if self.child.poll() is not None:
                raise AssertionError(f"the process ended with {self.child.returncode}")
            return str(json.loads(self.ready_file.read_text())["url"]) if self.ready_file.exists() else None

        return str(wait_for(announced, what=f"{self.ready_file.name}"))

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.child.send_signal(number)

    def ended(self, seconds: float = 10.0) -> int:
        return self.child.wait(seconds)


def whole(frame: Frame) -> dict[str, Any]:
    """A record's metadata with the fields that were left out since they are as always."""
    usual = (Record.__struct_fields__[-len(Record.__struct_defaults__) :], Record.__struct_defaults__)
    filled = {name: value for name, value in zip(*usual, strict=True) if value is not msgspec.UNSET}
    return (filled if frame.kind in (INTERACTION, STARTED) else {}) | frame.fields()


@dataclass
class Rig:
    """A home with what runs in it."""

    home: Path
    processes: list[Process] = field(default_factory=list)
    generation: int = 0
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.home / "run").mkdir(parents=True, exist_ok=True)
        self.add_key("sk-app")

    def add_key(self, secret: str, *, models: tuple[str, ...] = ("*",), role: str = "client", **more: Any) -> None:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.keys[digest] = {
            "id": f"key_{secret}", "name": secret, "tenant": "default", "models": list(models), "role": role, **more,
        }  # fmt: skip

    def engine(self, name: str = "smart-home@1", *arguments: str) -> Process:
        return self._start("ciranda.engines.fake", "--name", name, "--port", "0", *arguments)

    def gateway(self, number: int = 0, *arguments: str, limit_files: int = 0) -> Process:
        wanted = ("--home", str(self.home), "--number", str(number), "--port", "0", *arguments)
        return self._start("ciranda.gateway", *wanted, limit_files=limit_files)

    def _start(self, module: str, *arguments: str, limit_files: int = 0) -> Process:
        ready = self.home / "run" / f"{module}-{len(self.processes)}.json"
        log = (self.home / f"{module}-{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", module, *arguments, "--ready-file", str(ready)]
        if limit_files:
            command = ["/bin/sh", "-c", f'ulimit -f {limit_files}; exec "$@"', "sh", *command]
        child = subprocess.Popen(command, env=os.environ.copy(), stdout=log, stderr=log)
        process = Process(child, ready)
        self.processes.append(process)
        return process

    def route(self, models: dict[str, Any]) -> None:
        """Publish routing, as control does."""
        self.generation += 1
        snapshot = {
            "generation": self.generation, "written_at": clock.iso(), "keys": self.keys, "models": models,
            "tenants": self.tenants,
        }  # fmt: skip
        files.write_atomic(self.home / "run/routing.json", json.dumps(snapshot))

    def frames(self) -> Iterator[Frame]:
        for path in sorted((self.home / "spool").glob("*/*")):
            yield from read_frames(path)

    def records(self, kind: str = "interaction") -> list[dict[str, Any]]:
        """The metadata of all records of a kind, in the order they were written."""
        return [whole(frame) for frame in self.frames() if KINDS[frame.kind] == kind]

    def record(self, ident: str) -> dict[str, Any]:
        return next(one for one in self.records() if one["id"] == ident)

    def stop(self) -> None:
        for process in self.processes:
            if process.child.poll() is None:
                process.kill()
            process.child.wait()


def arm(
    name: str, version: str, *urls: str, weight: float = 100.0, engine: str = "fake", **more: Any
) -> dict[str, Any]:
    """One arm as it stands in a snapshot."""
    replicas = [
        {"id": f"rep_{version}_{place}_{url.rpartition(':')[2]}", "url": url, "wire_model": version}
        for place, url in enumerate(urls)
    ]
    return {
        "arm": name, "version": version, "digest": f"sha256:{version}", "weight": weight, "deployment": f"dep_{version}",
        "engine": engine, "replicas": replicas, **more,
    }  # fmt: skip


def model(*arms: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One model as it stands in a snapshot."""
    return {"arms": list(arms), "shadow": None, "rollout": "roll_1", **more}


def metric(url: str, name: str) -> float:
    """A series of a process's `/metrics`, its labels in the name."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split(" ")[1])
    return 0.0
