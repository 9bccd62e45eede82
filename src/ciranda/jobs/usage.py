"""What a job takes of the machine while it works: a thread that tells it now and then, as lines of the job's progress.

A line is `{"system": {"rss_bytes", "cpu_percent", "at"}}`: the memory that the process holds, and the processor time it used
since the line before, where 100 is one processor. Lines come every two seconds at first and ever more rarely, so that a run of a
week leaves ten thousand of them and not half a million. Linux only, like everything that jobs do: it reads /proc.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ciranda.store import clock

SHORTEST_S, LONGEST_S = 2.0, 60.0
SLOWING = 60.0  # after a minute the pause is 1/60 of the age, up to the longest
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage:
    """Tells what this process takes, from the beginning of a block to its end.

    Args:
        report: Where the lines go.
        shortest_s: The first pause.
    """

    def __init__(self, report: Callable[[Mapping[str, Any]], None], *, shortest_s: float = SHORTEST_S) -> None:
        self._report, self._shortest_s = report, shortest_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)
        self._began = self._at = time.monotonic()
        self._used = time.process_time()

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._over.wait(self.pause_s(time.monotonic() - self._began)):
            self._tell()

    def pause_s(self, age_s: float) -> float:
        """How long to wait for the next line in a run of this age."""
        return min(LONGEST_S, max(self._shortest_s, age_s / SLOWING))

    def _tell(self) -> None:
        now, used = time.monotonic(), time.process_time()
        share = (used - self._used) / max(now - self._at, 1e-6)
        self._at, self._used = now, used
        system = {"rss_bytes": resident(), "cpu_percent": round(100 * share, 1), "at": clock.iso()}
        self._report({"system": system})


def resident() -> int:
    """The bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def peak() -> int:
    """The most bytes of memory that this program held so far; what `getrusage` says begins with what its starter held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
