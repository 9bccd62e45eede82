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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, NamedTuple

from ciranda.gateway.slots import (
    COLUMNS,
    DEMAND,
    HEAD_WORDS,
    PROMISED,
    SECONDS,
    SHARE,
    SLOT_WORDS,
    SPENT,
    UNTIL,
    WINDOW,
    WORKERS,
    Slots,
    hashed,
)
from ciranda.store import clock

Kind = Literal["count", "rate", "parallel", "day", "month"]

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


class Share(NamedTuple):
    """A machine's part of a bucket, what requests were short of, and what is used and promised here."""

    share: int
    demand: int
    used: int
    lowered: bool


@dataclass(frozen=True)
class Verdict:
    """What became of a request for use: `refused` is the bucket that said no, `uses` all of them as they are afterwards.

    `short`: within every bound, but over this machine's share of one; ask again when the share has grown.
    """

    uses: tuple[Use, ...]
    refused: Use | None = None
    short: bool = False


class Ledger(Slots):
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
        self.leased = leased
        self._seconds = seconds
        self._calendar = (-1, 0, 0.0)
        super().__init__(folder, now_ms=now_ms, joins=joins)

    # Using.

    def promise(self, wanted: Sequence[tuple[Bucket, int]]) -> Verdict:
        """Promise every amount, or none when one of them is over its bound."""
        second = int(self._seconds())
        with self._locked():
            places = [self._place(bucket.name) for bucket, _ in wanted]
            taken = [self._taken(place, bucket, second) for place, (bucket, _) in zip(places, wanted, strict=True)]
            for place, (bucket, amount), used in zip(places, wanted, taken, strict=True):
                if amount and used + amount > bucket.limit:
                    refused = Use(bucket, used, self._again(place, bucket, amount, second))
                    return Verdict(self._uses(places, wanted, taken, second, added=False), refused)
            if self.leased and (lacking := self._lacking(places, wanted, taken)) is not None:
                return lacking
            for place, (bucket, amount) in zip(places, wanted, strict=True):
                self._take(place, bucket, amount, second)
            return Verdict(self._uses(places, wanted, taken, second, added=True))

    def settle(self, promised: Sequence[tuple[Bucket, int, int]]) -> None:
        """Put what was really used in place of what was promised: (bucket, promised, used)."""
        second = int(self._seconds())
        with self._locked():
            for bucket, amount, used in promised:
                if bucket.kind == "count":
                    continue  # counted when it was let in
                place = self._place(bucket.name)
                if bucket.kind == "rate":
                    self._count(place, used, second)
                elif bucket.kind in ("day", "month"):
                    self._turn(place, bucket)
                    self._words[place + SPENT] += used
                at = place + PROMISED + self.column
                self._words[at] = max(0, self._words[at] - amount)

    def look(self, buckets: Sequence[Bucket]) -> tuple[Use, ...]:
        """How much of each bucket is taken now."""
        return self.promise([(bucket, 0) for bucket in buckets]).uses if buckets else ()

    def _lacking(self, places: list[int], wanted: Sequence[tuple[Bucket, int]], taken: list[int]) -> Verdict | None:
        """The verdict when a share of this machine is too small: wait for more, or no, when there was no more a moment ago."""
        words, now_ms, short = self._words, self._now_ms(), False
        for place, (bucket, amount), used in zip(places, wanted, taken, strict=True):
            share = words[place + SHARE] if now_ms < words[place + UNTIL] else 0
            if not amount or used + amount <= share:
                continue
            if now_ms < -words[place + DEMAND]:
                return Verdict((), Use(bucket, used, 1.0))
            words[place + DEMAND] = max(words[place + DEMAND], used + amount)
            short = True
        return Verdict((), short=True) if short else None

    # Shares, for `gateway.leases`.

    def leased_of(self, buckets: Iterable[Bucket]) -> list[Bucket]:
        """Those of the buckets that have a share or ask for one. Cheap: two columns of the file, and no slot is made."""
        words = self._words
        asked = words[HEAD_WORDS + DEMAND :: SLOT_WORDS].tolist()
        held = words[HEAD_WORDS + SHARE :: SLOT_WORDS].tolist()
        hashes = words[HEAD_WORDS::SLOT_WORDS].tolist()
        some = {hashed for hashed, demand, share in zip(hashes, asked, held, strict=True) if demand > 0 or share}
        return [bucket for bucket in buckets if hashed(bucket.name)[0] in some] if some else []

    def shrink(self, bucket: Bucket, slack: int) -> Share:
        """Lower a share that is larger than what is used and twice the slack, at once; what the bucket then has and needs."""
        second = int(self._seconds())
        with self._locked():
            place, words = self._place(bucket.name), self._words
            used, demand = self._taken(place, bucket, second), max(0, words[place + DEMAND])
            share = before = words[place + SHARE]
            if (not demand and share > used + 2 * slack) or share > bucket.limit:
                share = words[place + SHARE] = min(share, max(used, min(used + slack if used else 0, bucket.limit)))
            return Share(share, demand, used, share < before)

    def grant(self, bucket: Bucket, share: int, *, until_ms: int, refused_ms: int) -> None:
        """A share that the database knows of. `refused_ms`: until when nothing more is to be had."""
        with self._locked():
            place, words = self._place(bucket.name), self._words
            words[place + SHARE], words[place + UNTIL] = share, until_ms
            words[place + DEMAND] = -refused_ms

    def window(self, bucket: Bucket) -> int:
        """The number of a budget's day or month; 0 for the rest."""
        return self._window(bucket.kind)[0] if bucket.kind in ("day", "month") else 0

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
        if bucket.kind == "parallel":
            return 0.0
        newest = max(self._words[place + COLUMNS : place + COLUMNS + SECONDS].tolist()) >> 32
        return max(0.0, newest + SECONDS - self._seconds()) if newest <= second else 0.0
