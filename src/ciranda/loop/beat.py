"""The leader's heart: small tasks that look at what is and move it towards what should be, again and again.

Every task is level-triggered: it reads rows, does at most a little, and may be killed anywhere. A task that fails is logged, shown
in `ciranda status`, and tried again later, ever more slowly; it never takes the others down. This is the worker's broad catch.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ciranda.errors import CirandaError
from ciranda.store import clock, files

log = logging.getLogger("ciranda.loop")
SLOWEST_S = 30.0
MOST_DOUBLINGS = 6


@dataclass(frozen=True)
class Task:
    """Something to look after every so many seconds."""

    name: str
    every_s: float
    look: Callable[[], None]


@dataclass(frozen=True)
class Pulse:
    """How a task is: since when it goes well, and what went wrong since."""

    name: str
    good_at: str
    failures: int
    error: str


class Beat:
    """Runs each task in a thread of its own until `stop`.

    Args:
        tasks: What to look after.
        told: File that always holds how each task is, for `ciranda status`; written when that changes.
    """

    def __init__(self, tasks: Sequence[Task], told: Path) -> None:
        self._file, self._lock = told, threading.Lock()
        self._over = threading.Event()
        self._pulses = {task.name: Pulse(task.name, "", 0, "") for task in tasks}
        self._threads = [threading.Thread(target=self._keep, args=(task,), name=task.name) for task in tasks]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each task finish what it is doing, then end."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, task: Task) -> None:
        failures = 0
        while not self._over.is_set():
            failures = self._look(task, failures)
            self._over.wait(min(task.every_s * 2**failures, max(SLOWEST_S, task.every_s)) if failures else task.every_s)

    def _look(self, task: Task, failures: int) -> int:
        try:
            task.look()
        except CirandaError as error:
            log.warning("%s waits: %s", task.name, error)
            return self._missed(task, failures, str(error))
        except Exception as error:
            log.exception("%s failed", task.name)
            return self._missed(task, failures, f"{type(error).__name__}: {error}")
        if failures or not self._pulses[task.name].good_at:
            self._tell(Pulse(task.name, clock.iso(), 0, ""))
        return 0

    def _missed(self, task: Task, failures: int, error: str) -> int:
        self._tell(Pulse(task.name, self._pulses[task.name].good_at, failures + 1, error))
        return min(failures + 1, MOST_DOUBLINGS)

    def _tell(self, pulse: Pulse) -> None:
        with self._lock:
            self._pulses[pulse.name] = pulse
            files.write_atomic(self._file, json.dumps({"tasks": [asdict(one) for one in self._pulses.values()]}))
