"""What was used and what is promised, shared by the gateway workers of one machine: a mapped file of fixed slots, no server.

A slot belongs to one bucket (a bound of a key, tenant or model) and is found by the hash of its name. It holds 61 columns of one
second each (what was used in the last minute), the total of the current day or month, and a column per worker for what that
worker has promised to requests in progress. Under an flock that is held for some microseconds a request is checked against all of
its buckets and promised to all or to none: so no interleaving goes over a bound.

Why a window of seconds and neither GCRA nor a token bucket: those let twice the bound through in the minute after a rest. Here
every sixty seconds hold at most the bound, a whole minute's bound may come at once, and "what is left" and "when" are exact.

Crash safety: each step is one aligned store of eight bytes, in an order in which every prefix is a state that may be. Promises
stand only in the column of the worker that made them, and a worker owns its column by a lock that the kernel frees: when it is
killed the next one to look empties it. The lock is polled, never waited for: a stopped worker cannot stop the others for long.
It refuses: a reservation in a shared counter (it would stay promised for ever), and a network hop.

Across machines (`leased`) a slot also holds this machine's share of the bound, see `gateway.leases`: what is over the share but
within the bound is `short`, and noted as demand.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, NamedTuple

from ciranda.errors import Conflict, StorageFull, Unavailable
from ciranda.store import clock

Kind = Literal["count", "rate", "parallel", "day", "month"]

FILE = "slots-1"  # the number is that of the layout: another release has a file of its own
HEAD_WORDS = 8
SECONDS = 61  # sixty whole ones, and the one that runs
WORKERS = 64
WINDOW, SPENT, SHARE, UNTIL, DEMAND, TOUCHED = 2, 3, 4, 5, 6, 7
COLUMNS, PROMISED = 8, 8 + SECONDS
SLOT_WORDS = PROMISED + WORKERS
SLOTS, PROBES = 8192, 64
LOCK_SECONDS = 0.5
LOW = (1 << 32) - 1


class Bucket(NamedTuple):
    """One bound.

    Args:
        name: What it bounds, such as `key:key_1/requests_per_minute`; names the slot.
        kind: `count` and `rate` are per minute (counted when admitted, and when settled), `parallel` is what runs now, `day` and
            `month` are budgets.
        limit: The bound, in whole units.
    """

    name: str
    kind: Kind
    limit: int


class Use(NamedTuple):
    """How much of a bucket is taken.

    Args:
        used: Counted and promised together.
        again_s: For a refusal: when what was asked for may fit. Else: when the bucket is empty again if nobody comes.
    """

    bucket: Bucket
    used: int
    again_s: float

    @property
    def left(self) -> int:
        return max(0, self.bucket.limit - self.used)


@dataclass(frozen=True)
class Verdict:
    """What became of a request for use: `refused` is the bucket that said no, `uses` all of them as they are afterwards.

    `short`: within every bound, but over this machine's share of one; ask again when the share has grown.
    """

    uses: tuple[Use, ...]
    refused: Use | None = None
    short: bool = False


class Ledger:
    """One worker's view of the shared file.

    Args:
        folder: Where the file and the workers' locks are; made when absent.
        seconds: The clock of rates, the same for all workers of the machine.
        now_ms: The clock of budgets.
        leased: Whether the machine has only a share of each bound.
        joins: False for who only looks: it can promise nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: Callable[[], float] = monotonic,
        now_ms: Callable[[], int] = clock.now_ms,
        leased: bool = False,
        joins: bool = True,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.leased = folder, leased
        self._seconds, self._now_ms = seconds, now_ms
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600)
        self._slots: dict[str, tuple[int, int, int]] = {}  # where each is, and its hash
        self._calendar = (-1, 0, 0.0)
        with self._locked():
            self._words = self._map()
        self._column_lock, self.column = self._take_column() if joins else (-1, -1)

    # Taking part.

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

    # Using.

    def promise(self, wanted: Sequence[tuple[Bucket, int]]) -> Verdict:
        """Promise every amount, or none when one of them is over its bound."""
        second = int(self._seconds())
        with self._locked():
            places = [self._place(bucket) for bucket, _ in wanted]
            taken = [self._taken(place, bucket, second) for place, (bucket, _) in zip(places, wanted, strict=True)]
            for place, (bucket, amount), used in zip(places, wanted, taken, strict=True):
                if amount and used + amount > bucket.limit:
                    refused = Use(bucket, used, self._again(place, bucket, amount, second))
                    return Verdict(self._uses(places, wanted, taken, second, added=False), refused)
            if self.leased and self._is_short(places, wanted, taken):
                return Verdict((), short=True)
            for place, (bucket, amount) in zip(places, wanted, strict=True):
                self._take(place, bucket, amount, second)
            return Verdict(self._uses(places, wanted, taken, second, added=True))

    def settle(self, promised: Sequence[tuple[Bucket, int, int]]) -> None:
        """Put what was really used in place of what was promised: (bucket, promised, used)."""
        second = int(self._seconds())
        with self._locked():
            for bucket, amount, used in promised:
                place = self._place(bucket)
                if bucket.kind == "rate":
                    self._count(place, used, second)
                elif bucket.kind in ("day", "month"):
                    self._turn(place, bucket)
                    self._words[place + SPENT] += used
                if bucket.kind != "count":
                    at = place + PROMISED + self.column
                    self._words[at] = max(0, self._words[at] - amount)

    def look(self, buckets: Sequence[Bucket]) -> tuple[Use, ...]:
        """How much of each bucket is taken now."""
        return self.promise([(bucket, 0) for bucket in buckets]).uses if buckets else ()

    def _is_short(self, places: list[int], wanted: Sequence[tuple[Bucket, int]], taken: list[int]) -> bool:
        words, now_ms, short = self._words, self._now_ms(), False
        for place, (_, amount), used in zip(places, wanted, taken, strict=True):
            share = words[place + SHARE] if now_ms < words[place + UNTIL] else 0
            if amount and used + amount > share:
                words[place + DEMAND] = max(words[place + DEMAND], used + amount)
                short = True
        return short

    def _take(self, place: int, bucket: Bucket, amount: int, second: int) -> None:
        if bucket.kind == "count":
            self._count(place, amount, second)
        elif amount:
            self._words[place + PROMISED + self.column] += amount

    def _count(self, place: int, amount: int, second: int) -> None:
        if not amount:
            return
        at = place + COLUMNS + second % SECONDS
        word = self._words[at]
        before = word & LOW if word >> 32 == second else 0
        self._words[at] = second << 32 | min(before + amount, LOW)

    def _taken(self, place: int, bucket: Bucket, second: int) -> int:
        words = self._words
        if bucket.kind == "count":
            return self._minute(place, second)
        promised = sum(words[place + PROMISED : place + PROMISED + WORKERS].tolist())
        if bucket.kind == "rate":
            return promised + self._minute(place, second)
        if bucket.kind == "parallel":
            return promised
        self._turn(place, bucket)
        return int(promised + words[place + SPENT])

    def _minute(self, place: int, second: int) -> int:
        oldest, newest = (second - SECONDS + 1) << 32, (second + 1) << 32
        columns = self._words[place + COLUMNS : place + COLUMNS + SECONDS].tolist()
        return sum([word & LOW for word in columns if oldest <= word < newest])

    def _turn(self, place: int, bucket: Bucket) -> None:
        """Begin a new day or month. The total goes first: a kill between the two stores only makes it go once more."""
        window = self._window(bucket.kind)[0]
        if self._words[place + WINDOW] != window:
            self._words[place + SPENT] = 0
            self._words[place + WINDOW] = window

    def _window(self, kind: Kind) -> tuple[int, float]:
        """The number of the current day or month, and the seconds until it ends."""
        now_ms = self._now_ms()
        day = now_ms // 86_400_000
        if day != self._calendar[0]:
            today = clock.of_ms(now_ms)
            following = today.replace(year=today.year + today.month // 12, month=today.month % 12 + 1, day=1, hour=0,
                                      minute=0, second=0, microsecond=0)  # fmt: skip
            self._calendar = (day, today.year * 100 + today.month, following.timestamp())
        if kind == "day":
            return day, (day + 1) * 86_400 - now_ms / 1000
        return self._calendar[1], self._calendar[2] - now_ms / 1000

    def _again(self, place: int, bucket: Bucket, amount: int, second: int) -> float:
        """When `amount` may fit; a bucket that is smaller than that never has room."""
        if bucket.kind in ("day", "month"):
            return self._window(bucket.kind)[1]
        if bucket.kind == "parallel" or amount > bucket.limit:
            return 1.0
        over = self._taken(place, bucket, second) + amount - bucket.limit
        for word in sorted(self._words[place + COLUMNS : place + COLUMNS + SECONDS]):
            if second - SECONDS < word >> 32 <= second and (over := over - (word & LOW)) <= 0:
                return float((word >> 32) + SECONDS) - self._seconds()
        return 1.0

    def _uses(
        self, places: list[int], wanted: Sequence[tuple[Bucket, int]], taken: list[int], second: int, *, added: bool
    ) -> tuple[Use, ...]:
        return tuple(
            Use(bucket, used + amount if added else used, self._reset(place, bucket, second))
            for place, (bucket, amount), used in zip(places, wanted, taken, strict=True)
        )

    def _reset(self, place: int, bucket: Bucket, second: int) -> float:
        if bucket.kind in ("day", "month"):
            return self._window(bucket.kind)[1]
        newest = max(self._words[place + COLUMNS : place + COLUMNS + SECONDS].tolist()) >> 32
        return max(0.0, newest + SECONDS - self._seconds()) if newest <= second else 0.0

    # Slots.

    def _place(self, bucket: Bucket) -> int:
        """Where the bucket's slot is; a new bucket gets an empty one, or the one that was idle for longest."""
        name, words = bucket.name, self._words
        place, first, second = self._slots.get(name) or (-1, *_hash(name))
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


def _hash(name: str) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big") >> 1 | 1, int.from_bytes(digest[8:], "big") >> 1
