"""The leader's heart: small tasks that look at what is and move it towards what should be, again and again.

Every task is level-triggered: it reads rows, does at most a little, and may be killed anywhere. A task that fails is logged, shown
in `ciranda status`, and tried again later, ever more slowly; it never takes the others down. This is the worker's broad catch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ciranda.errors import Unavailable
from ciranda.store import clock

log = logging.getLogger("ciranda.loop")
SLOWEST_S = 30.0


@dataclass(frozen=True)
class Task:
    """Something to look after every so many seconds."""

    name: str
    every_s: float
    look: Callable[[], None]


@dataclass(frozen=True)
class Pulse:
    """How a task is: when it last ended well, and what went wrong since."""

    name: str
    good_at: str
    failures: int
    error: str


class Beat:
    """Runs each task in a thread of its own until `stop`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
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

    def pulses(self) -> list[Pulse]:
        """How each task is."""
        return list(self._pulses.values())

    def _keep(self, task: Task) -> None:
        failures = 0
        while not self._over.is_set():
            failures = self._look(task, failures)
            self._over.wait(min(task.every_s * 2**failures, max(SLOWEST_S, task.every_s)) if failures else task.every_s)

    def _look(self, task: Task, failures: int) -> int:
        try:
            task.look()
        except Unavailable as error:
            log.warning("%s waits: %s", task.name, error.message)
            self._pulses[task.name] = Pulse(task.name, self._pulses[task.name].good_at, failures + 1, str(error))
            return min(failures + 1, 3)
        except Exception as error:
            log.exception("%s failed", task.name)
            told = f"{type(error).__name__}: {error}"
            self._pulses[task.name] = Pulse(task.name, self._pulses[task.name].good_at, failures + 1, told)
            return failures + 1
        self._pulses[task.name] = Pulse(task.name, clock.iso(), 0, "")
        return 0
