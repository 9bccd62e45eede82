"""The file of slots under the ledger: mapped by every worker of a machine, found by hash, locked for microseconds.

Each worker owns one column by an flock on a small file of its own, which the kernel gives up when the worker dies, however it dies.
The size is fixed and allocated at once: a full disk refuses to start the ledger rather than kill a worker at a store. The lock is
polled, never waited for: a stopped worker cannot stop the others for long.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from time import monotonic, sleep

from ciranda.errors import Conflict, StorageFull, Unavailable

FILE = "slots-1"  # the number is that of the layout: another release has a file of its own
HEAD_WORDS = 8
SECONDS = 61  # sixty whole ones, and the one that runs
WORKERS = 64
WINDOW, SPENT, SHARE, UNTIL, DEMAND, TOUCHED = 2, 3, 4, 5, 6, 7
COLUMNS, PROMISED = 8, 8 + SECONDS
SLOT_WORDS = PROMISED + WORKERS
SLOTS, PROBES = 8192, 64
LOCK_SECONDS = 0.5


class Slots:
    """The shared words, and this process's column in them.

    Args:
        folder: Where the file and the workers' locks are; made when absent.
        now_ms: The clock that says which slot is idle for longest.
        joins: False for who only looks: it has no column.
    """

    def __init__(self, folder: Path, *, now_ms: Callable[[], int], joins: bool) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._now_ms = now_ms
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600)
        self._slots: dict[str, tuple[int, int, int]] = {}  # where each is, and its hash
        with self._locked():
            self._words = self._map()
        self._column_lock, self.column = self._take_column() if joins else (-1, -1)

    def _map(self) -> memoryview:
        size = (HEAD_WORDS + SLOTS * SLOT_WORDS) * 8
        try:
            os.posix_fallocate(self._file, 0, size)  # now, or a full disk would kill us at a store
        except OSError as error:
            raise StorageFull(
                f"no room for the {size} bytes of the limits: {error.strerror}",
                where=str(self.folder),
                remedy="free space",
            ) from error
        return memoryview(mmap.mmap(self._file, size)).cast("q")

    def _take_column(self) -> tuple[int, int]:
        for column in range(WORKERS):
            lock = self._own(column)
            if lock is not None:
                with self._locked():
                    self._empty(column)
                os.ftruncate(lock, 1)  # from here on somebody has to look after it when we are gone
                return lock, column
        raise Conflict(
            f"all {WORKERS} places for workers are taken",
            where=str(self.folder),
            remedy="run fewer gateway workers here",
        )

    def _own(self, column: int) -> int | None:
        lock = os.open(self.folder / f"worker-{column:02}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _empty(self, column: int) -> None:
        words = self._words
        for place in range(HEAD_WORDS, len(words), SLOT_WORDS):
            if words[place] and words[place + PROMISED + column]:
                words[place + PROMISED + column] = 0

    def reclaim(self) -> int:
        """Give back what workers that are gone had promised; how many of them there were."""
        found = 0
        for path in sorted(self.folder.glob("worker-*")):
            column = int(path.name[-2:])
            if column == self.column or not path.stat().st_size:
                continue
            lock = self._own(column)
            if lock is not None:
                with self._locked():
                    self._empty(column)
                os.ftruncate(lock, 0)
                os.close(lock)
                found += 1
        return found

    def close(self) -> None:
        """Leave; what is still promised is given back."""
        if self.column >= 0:
            with self._locked():
                self._empty(self.column)
            os.ftruncate(self._column_lock, 0)
            os.close(self._column_lock)
        os.close(self._file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock()
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            until = monotonic() + LOCK_SECONDS
        while monotonic() < until:
            sleep(0.00002)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        raise Unavailable(
            "limits cannot be checked: another worker holds them",
            where=str(self.folder),
            remedy="try again in a moment",
        )

    def _place(self, name: str) -> int:
        """Where the bucket's slot is; a new bucket gets an empty one, or the one that was idle for longest."""
        words = self._words
        place, first, second = self._slots.get(name) or (-1, *hashed(name))
        if place >= 0 and words[place] == first and words[place + 1] == second:
            words[place + TOUCHED] = self._now_ms()
            return place
        start, idle = first % SLOTS, -1
        for step in range(PROBES):
            place = HEAD_WORDS + (start + step) % SLOTS * SLOT_WORDS
            if words[place] == first and words[place + 1] == second:
                break
            if not words[place]:
                self._claim(place, first, second)
                break
            if idle < 0 or words[place + TOUCHED] < words[idle + TOUCHED]:
                idle = place
        else:
            self._claim(place := idle, first, second)
        self._slots[name] = place, first, second
        return place

    def _claim(self, place: int, first: int, second: int) -> None:
        words = self._words
        words[place] = 0
        for word in range(place + 1, place + SLOT_WORDS):
            words[word] = 0
        words[place + TOUCHED], words[place + 1] = self._now_ms(), second
        words[place] = first  # last: half a slot is an empty one


def hashed(name: str) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big") >> 1 | 1, int.from_bytes(digest[8:], "big") >> 1
