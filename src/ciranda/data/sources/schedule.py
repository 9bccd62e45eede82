"""When a source is due: by `every` since its last run began, by a cron line in UTC, or sooner, when its last runs failed.

A failure that may pass by itself is tried again after one minute, two, four, and so on, never later than the schedule asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ciranda.config import cron
from ciranda.config.source import Source
from ciranda.data.sources import runs
from ciranda.data.sources.found import label
from ciranda.store import clock
from ciranda.store.database import Database

AGAIN_S = 60.0
NEVER_RUN = clock.of_ms(0)


def next_at(db: Database, dataset: str, source: Source) -> datetime | None:
    """When the source is to be read next; None for one without a schedule (a watched folder has none either)."""
    if source.every is None and source.cron is None:
        return None
    return planned(source, runs.recent(db, dataset, label(source)))


def planned(source: Source, recent: Sequence[Any]) -> datetime:
    """The next moment, from the latest runs, newest first. A source that never ran is due at once, also with a cron line."""
    if not recent:
        return NEVER_RUN
    began = clock.parse(recent[0].started_at)
    regular = cron.following(source.cron, began) if source.cron else began + timedelta(seconds=source.every or 0.0)
    if (soon := _again(recent)) is not None:
        return min(regular, soon)
    return regular


def _again(recent: Sequence[Any]) -> datetime | None:
    """When a source that failed is tried again; None when nothing failed that may pass by itself."""
    failures = 0
    for row in recent:
        if row.state not in ("failed", "interrupted"):
            break
        if row.state == "failed" and not (row.error or {}).get("retry"):
            return None
        failures += 1
    if not failures:
        return None
    ended = clock.parse(recent[0].ended_at or recent[0].started_at)
    return ended + timedelta(seconds=AGAIN_S * 2 ** (failures - 1))


def due(db: Database, dataset: str, sources: Sequence[Source], *, now: datetime) -> list[Source]:
    """The sources whose time has come."""
    return [one for one in sources if (moment := next_at(db, dataset, one)) is not None and moment <= now]
