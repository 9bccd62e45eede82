"""The jobs of one home, wherever each of them runs: an executor that sends every call to the one that has the job.

A job begins where its spec says (`executor`), and stays there: where it is stands in its own folder, so whoever asks by key (a
page, a verb, the loop) asks here and need not know. Clusters are opened when the first job of theirs is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ciranda.jobs import remote
from ciranda.jobs.local import Executor, JobSpec, JobState, Local, folder_of
from ciranda.jobs.remote import TICKET, Remote

LOCAL = "local"


class Placed:
    """Executors by name, as one.

    Args:
        root: `home/jobs`.
        clusters: How to open the executors elsewhere, by name; each raises Invalid when the settings do not tell enough.
    """

    def __init__(self, root: Path, clusters: Mapping[str, Callable[[], Remote]]) -> None:
        self.root, self._clusters = root, clusters
        self._opened: dict[str, Remote] = {}

    @cached_property
    def local(self) -> Local:
        """The executor of this machine."""
        return Local(self.root)

    def submit(self, key: str, spec: JobSpec) -> None:
        """Start the job where its spec says; one that is somewhere already is asked for there."""
        self._of(key, spec.executor).submit(key, spec)

    def status(self, key: str) -> JobState:
        """What is known of the job now."""
        return self._of(key).status(key)

    def logs(self, key: str, offset: int = 0) -> tuple[bytes, int]:
        """A piece of the job's output from `offset`, and the offset to go on with."""
        return self._of(key).logs(key, offset)

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of its progress from `offset`, and the offset to go on with."""
        return self._of(key).progress(key, offset)

    def cancel(self, key: str, *, grace_s: float = 10.0) -> None:
        """End the job, wherever it is."""
        self._of(key).cancel(key, grace_s=grace_s)

    def collect(self, key: str) -> Path:
        """The folder of a job that succeeded. Raises Failed."""
        return self._of(key).collect(key)

    def keys(self) -> list[str]:
        """The keys of all jobs that were ever started."""
        away = {path.parent.name for path in self.root.glob(f"*/{TICKET}")}
        return sorted(away | set(self.local.keys()))

    def where(self, key: str) -> str:
        """The name of the executor that has the job; of one that nobody has, this machine's."""
        ticket = remote.read(folder_of(self.root, key))
        return ticket.executor if ticket else LOCAL

    def forget(self, key: str) -> None:
        """Remove what the job has outside of this home; its folder here is the caller's."""
        ticket = remote.read(folder_of(self.root, key))
        if ticket is not None and not ticket.cleared:
            self.cluster(ticket.executor).forget(key)

    def cluster(self, name: str) -> Remote:
        """The executor of a cluster. Raises Invalid when the settings do not tell enough."""
        if name not in self._opened:
            self._opened[name] = self._clusters[name]()
        return self._opened[name]

    def _of(self, key: str, wanted: str = LOCAL) -> Executor:
        begun = (folder_of(self.root, key) / "job.json").exists()
        name = self.where(key) if begun or (self.root / key / TICKET).exists() else wanted
        return self.local if name == LOCAL else self.cluster(name)
