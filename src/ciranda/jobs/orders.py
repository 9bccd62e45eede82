"""What a job away from home is told: the order of one attempt, the inputs that go with it, and the address where it finds them.

An order means the same on every machine: `{python}` and `{folder}` stand for what they are there, and a path of this machine is an
input, which is brought, or a mistake. What many jobs read is sent once, under its digest; a file that is brought from there is held
against the digest that was noted when it was sent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ciranda import __version__
from ciranda.errors import Conflict, Failed
from ciranda.jobs.local import Input, JobSpec
from ciranda.store import depot, files
from ciranda.store.depot import Depot, safe

STATE = "checkpoint"  # how the names of files in `output` begin that a killed job goes on from
PYTHON, FOLDER = "{python}", "{folder}"


@dataclass(frozen=True)
class Brought:
    """An input: the path by which `spec.json` names it, and where in the depot it lies (a folder when `folder`)."""

    path: str
    at: str
    folder: bool


@dataclass(frozen=True)
class Order:
    """One attempt at one job.

    Args:
        name: Of the attempt, for the cluster; no other job of any installation has it.
        place: Of the job in the depot.
        argv: The command; `{python}` and `{folder}` stand for what they are where it runs.
        gpus, cpus, memory_gb: What to reserve.
    """

    name: str
    key: str
    place: str
    attempt: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Brought, ...] = ()
    cpus: float = 1.0
    memory_gb: float = 0.0
    gpus: int = 0
    timeout_s: float | None = None
    version: str = __version__

    def text(self) -> bytes:
        """As the depot holds it."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def read(cls, text: bytes) -> Order:
        """The reverse of `text`."""
        told = json.loads(text)
        inputs = tuple(Brought(**one) for one in told.pop("inputs"))
        return cls(**{**told, "argv": tuple(told["argv"]), "inputs": inputs})


@dataclass(frozen=True)
class Address:
    """Where a job's order is found, as arguments of a command; the depot's key is a reference that means something there."""

    depot: str
    place: str
    attempt: int
    endpoint: str = ""
    region: str = "us-east-1"
    credentials: str = ""

    def arguments(self) -> list[str]:
        """For the command line."""
        given = {name: str(value) for name, value in asdict(self).items() if value}
        return [part for name, value in given.items() for part in (f"--{name}", value)]

    def open(self) -> Depot:
        """The depot. Raises Invalid."""
        return depot.at(self.depot, endpoint=self.endpoint, region=self.region, credentials=self.credentials)


def address(argv: Sequence[str]) -> Address:
    """The reverse of `Address.arguments`."""
    parser = argparse.ArgumentParser(prog="python -m ciranda.jobs.errand")
    for name in ("depot", "place"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--attempt", type=int, default=1)
    for name, default in (("endpoint", ""), ("region", "us-east-1"), ("credentials", "")):
        parser.add_argument(f"--{name}", default=default)
    return Address(**vars(parser.parse_args(list(argv))))


def sent(store: Depot, spec: JobSpec, *, name: str, key: str, place: str, attempt: int) -> Order:
    """Put into the depot what a job reads; returns the order to run it, which is written there last.

    Raises:
        Conflict: The command names a path of this machine.
    """
    if (text := spec.folder / "spec.json").exists():
        store.send(f"{place}/in/folder/spec.json", text)
    for path in sorted((spec.folder / "output").rglob(f"{STATE}*")):
        store.send(f"{place}/state/{path.relative_to(spec.folder).as_posix()}", path)
    kept = spec.resources
    order = Order(
        name, key, place, attempt, tuple(_abroad(part, spec) for part in spec.argv), dict(spec.env),
        tuple(_input(store, one, number, place) for number, one in enumerate(spec.inputs)),
        kept.cpus, kept.memory_gb, kept.gpus, spec.timeout_s,
    )  # fmt: skip
    store.put(f"{place}/order-{attempt}.json", order.text())
    return order


def _input(store: Depot, one: Input, number: int, place: str) -> Brought:
    at = f"shared/{one.digest.replace(':', '-')}" if one.digest else f"{place}/in/{number}-{one.path.name}"
    folder = one.path.is_dir()
    if one.digest and store.get(f"{at}/manifest.json") is not None:
        return Brought(str(one.path), at, folder)
    if not folder:
        store.send(at, one.path)
        return Brought(str(one.path), at, folder)
    chosen = sorted(path for path in one.path.rglob("*") if path.is_file())
    for path in chosen:
        store.send(f"{at}/{path.relative_to(one.path).as_posix()}", path)
    if one.digest:
        store.put(f"{at}/manifest.json", json.dumps(manifest(one.path, chosen), indent=1).encode())
    return Brought(str(one.path), at, folder)


def _abroad(part: str, spec: JobSpec) -> str:
    """A part of a command, as it means the same elsewhere. Raises Conflict for a path of this machine."""
    if part == spec.argv[0]:
        return PYTHON
    if part == str(spec.folder):
        return FOLDER
    if part.startswith("/"):
        raise Conflict(
            f"{part} is a path of this machine",
            where=" ".join(spec.argv)[:200],
            remedy="name it as an input of the job",
        )
    return part


def fetched(store: Depot, at: str, manifest: Mapping[str, Any], folder: Path) -> None:
    """Bring the files that a manifest names, and no other. Raises Failed when one is not what the manifest says."""
    for name, about in manifest.items():
        to = folder / safe(name)
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.fetch(f"{at}/{name}", to)
        if files.sha256_of(to) != about["sha256"]:
            raise Failed(
                f"{name} is not what was sent: its digest differs", where=f"{store.url}/{at}",
                remedy="see to the storage, then start the work again",
            )  # fmt: skip


def manifest(folder: Path, chosen: Sequence[Path]) -> dict[str, Any]:
    """Digest and size of each of these files, by the name that it has in the folder."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": files.sha256_of(path), "size": path.stat().st_size}
        for path in chosen
    }
