"""One bound over several machines: each holds a share of it, and the shares in the control database never sum to more.

The hot path knows nothing of this: it checks the machine's ledger against the machine's share. One thread per machine looks after
the shares, ten times a second and in one transaction: more where requests were short, less where there is slack. A share is
lowered in the ledger first and in the database then, never below what is used and promised; it is raised in the database first.
So at every moment what machines may use is within the bound together, and since each keeps its share in *every* sixty seconds, all
of them keep the bound in every sixty seconds.

A share is good for ten seconds without renewal: a machine that is cut off from the database stops letting in requests under limits
(those without go on). The shares of rates and of concurrency of a machine that is gone are free again after a minute and a bit,
when its last request has left the window. Its share of a budget stays with it until the day or month is over, or it is back: what
it spent cannot be known. PostgreSQL's advisory locks put askers for one bucket in a row; SQLite's writers stand in one anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import sqlalchemy as sa

from ciranda.errors import CirandaError
from ciranda.gateway import quotas
from ciranda.gateway.ledger import Bucket, Ledger
from ciranda.gateway.snapshot import Snapshot
from ciranda.store import clock, files, ids
from ciranda.store.database import Database, metadata

log = logging.getLogger("ciranda.gateway")

LOOK_SECONDS = 0.1
GOOD_MS = 10_000
RENEW_MS = 3_000
LAPSED_MS = GOOD_MS + 65_000
REFUSED_MS = 500  # after nothing was to be had, how long requests are told so at once
SLACK_PARTS = 16

shares = sa.Table(
    "limit_shares",
    metadata,
    sa.Column("bucket", sa.String(300), primary_key=True),
    sa.Column("machine", sa.String(40), primary_key=True),
    sa.Column("share", sa.BigInteger, nullable=False),
    sa.Column("window", sa.BigInteger, nullable=False),
    sa.Column("renewed_ms", sa.BigInteger, nullable=False),
)


class Leaser:
    """The shares of one machine.

    Args:
        folder: The ledger's; of several workers on the machine one at a time looks after it.
        database: Where the shares are.
        snapshot: What is bounded at present.
    """

    def __init__(self, folder: Path, database: Database, snapshot: Callable[[], Snapshot | None]) -> None:
        self.ledger = Ledger(folder, joins=False)
        self.machine = _machine(folder)
        self._database, self._snapshot = database, snapshot
        self._known: tuple[Snapshot | None, dict[str, Bucket]] = (None, {})
        self._renewed: dict[str, int] = {}
        self._lock = os.open(folder / "leaser", os.O_RDWR | os.O_CREAT, 0o600)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        """Look after the shares until `stop`, whenever no other worker of the machine does."""
        self._thread.start()

    def stop(self) -> None:
        """Give back what is not used, and end."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        os.close(self._lock)

    def _keep(self) -> None:
        leads = False
        while not self._over.wait(LOOK_SECONDS):
            try:
                leads = leads or self._lead()
                if leads:
                    self.look()
            except (sa.exc.SQLAlchemyError, CirandaError, OSError) as error:
                log.warning("shares of limits could not be renewed: %s", error)
                self._over.wait(1.0)
        if leads:
            with contextlib.suppress(sa.exc.SQLAlchemyError, CirandaError, OSError):
                self.look(leaving=True)

    def _lead(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def look(self, *, leaving: bool = False) -> None:
        """Bring every share to what its bucket needs now."""
        wanted = [
            (bucket, share)
            for bucket in self._buckets()
            if (share := self._wanted(bucket, leaving=leaving)) is not None
        ]
        if not wanted:
            return
        asked_ms = clock.now_ms()
        with self._database.writing() as conn:
            now_ms = self._now_ms(conn)
            granted = [(bucket, share, self._claim(conn, bucket, share, now_ms)) for bucket, share in wanted]
        for bucket, share, got in granted:
            short = got < share
            self.ledger.grant(
                bucket, got, until_ms=asked_ms + GOOD_MS, refused_ms=asked_ms + REFUSED_MS if short else 0
            )
            self._renewed[bucket.name] = asked_ms

    def _buckets(self) -> Iterable[Bucket]:
        """The buckets that have a slot with a share or a demand."""
        snapshot = self._snapshot()
        if snapshot is None:
            return []
        if snapshot is not self._known[0]:
            self._known = snapshot, {bucket.name: bucket for bucket in _bounded(snapshot)}
        return self.ledger.leased_of(self._known[1].values())

    def _wanted(self, bucket: Bucket, *, leaving: bool) -> int | None:
        """The share that the bucket should have; None when it is right as it is. What is too much goes at once."""
        slack = 0 if leaving else max(1, bucket.limit // SLACK_PARTS)
        share, demand, used, lowered = self.ledger.shrink(bucket, slack)
        if demand:
            return min(bucket.limit, max(demand, used) + slack)
        due = clock.now_ms() - self._renewed.get(bucket.name, 0) > RENEW_MS
        return share if leaving or due or lowered else None

    def _claim(self, conn: sa.Connection, bucket: Bucket, share: int, now_ms: int) -> int:
        """Take as much of a share as others leave; the amount."""
        if not self._database.is_sqlite:
            conn.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7))"), {"name": bucket.name})
        window = self.ledger.window(bucket)
        alive = shares.c.renewed_ms > now_ms - LAPSED_MS
        if bucket.kind in ("day", "month"):
            alive = sa.or_(alive, shares.c.window == window)
        others = conn.scalar(
            sa.select(sa.func.coalesce(sa.func.sum(shares.c.share), 0)).where(
                shares.c.bucket == bucket.name, shares.c.machine != self.machine, alive
            )
        )
        got = max(0, min(share, bucket.limit - int(others or 0)))
        conn.execute(shares.delete().where(shares.c.bucket == bucket.name, shares.c.machine == self.machine))
        if got:
            conn.execute(
                shares.insert().values(
                    bucket=bucket.name, machine=self.machine, share=got, window=window, renewed_ms=now_ms
                )
            )
        return got

    def _now_ms(self, conn: sa.Connection) -> int:
        """The database's clock: machines need not agree on theirs to know which shares have lapsed."""
        if self._database.is_sqlite:
            return clock.now_ms()
        return int(conn.scalar(sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")) or 0)


def _bounded(snapshot: Snapshot) -> Iterable[Bucket]:
    for key in snapshot.keys.values():
        yield from quotas.of_bounds(f"key:{key.id}", key.bounds)
    for name, bounds in snapshot.tenants.items():
        yield from quotas.of_bounds(f"tenant:{name}", bounds)
    for model in snapshot.models.values():
        yield from quotas.of_bounds(f"model:{model.name}", model.bounds)


def _machine(folder: Path) -> str:
    """The name of this machine among those that share: made once, since what it used is in its ledger."""
    path = folder / "machine"
    if not path.exists():
        files.write_atomic(path, ids.new("machine"))
    return path.read_text()
