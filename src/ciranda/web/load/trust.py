"""The audit log with the state of its chain, and the keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from ciranda.govern import access, audit
from ciranda.loop.platform import Platform
from ciranda.store import clock
from ciranda.web.load import limits
from ciranda.web.views.govern import AuditPage, AuditRow, Chain, KeyRow

PAGE = 50
AGAIN_S = 30.0
LONG = 20_000


class Verified:
    """The last look at the whole chain. A short chain is walked again by itself; a long one when somebody asks.

    Args:
        platform: Whose chain.
    """

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._lock = threading.Lock()
        self._last: Chain | None = None
        self._at = 0.0

    def chain(self, *, now: bool = False) -> Chain:
        """What the chain's state was at its last walk; `now` walks it."""
        with self._lock:
            last = self._last
            stale = last is None or (time.monotonic() - self._at > AGAIN_S and last.events < LONG)
            if now or stale or last is None:
                found = audit.verify(self.platform.db)
                last = Chain(found.ok, found.events, found.head, clock.iso(), found.problem)
                self._last, self._at = last, time.monotonic()
            return last


def log(
    platform: Platform, chain: Chain, reach: Sequence[str], *, before: int, subject: str, actor: str, action: str
) -> AuditPage:
    """One page of the log, newest first; a key that is limited to models sees what was done to them."""
    found = audit.page(platform.db, before=before or None, limit=PAGE, subject=subject, action=action, actor=actor)
    rows = tuple(
        AuditRow(one.number, one.at, one.actor, one.action, one.subject, one.detail, one.hash)
        for one in found
        if "*" in reach or concerns(one.subject) in reach
    )
    older = found[-1].number if len(found) == PAGE else 0
    return AuditPage(rows, chain, older, subject, actor, action, not before)


def concerns(subject: str) -> str:
    """The model in the subject of an event: a model, a version or a turn of it."""
    return subject.removeprefix("turn:").partition(":")[0].partition("@")[0]


def keys(platform: Platform) -> tuple[KeyRow, ...]:
    """All keys, newest first."""
    rows: list[dict[str, Any]] = access.listing(platform.db)
    used = limits.used(platform, {f"key:{row['id']}": row["limits"] for row in rows})
    return tuple(
        KeyRow(
            str(row["id"]), str(row["name"]), str(row["role"]), tuple(row["models"]),
            str(row["created_at"]), str(row["created_by"]), str(row["revoked_at"] or ""), str(row["tenant"]),
            used[f"key:{row['id']}"],
        )
        for row in rows
    )  # fmt: skip
