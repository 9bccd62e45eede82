"""Where data comes from: each source with its last run and its next, runs, and bad rows that wait. For pages and REST alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ciranda.config.source import Source
from ciranda.data.sources import quarantine, runs, schedule
from ciranda.data.sources.found import label
from ciranda.loop import intake
from ciranda.loop.platform import Platform
from ciranda.store import clock

Item = dict[str, Any]


def listing(platform: Platform, reach: set[str] | None, *, dataset: str = "") -> list[Item]:
    """Every source of the datasets that may be seen (None: all), by dataset and in the order of its file."""
    specs = sorted(intake.fed(platform), key=lambda spec: spec.dataset)
    seen = [one for one in specs if (reach is None or one.dataset in reach) and dataset in ("", one.dataset)]
    return [item for spec in seen for item in _of(platform, spec)]


def _of(platform: Platform, spec: intake.Spec) -> Iterator[Item]:
    waiting = quarantine.waiting(platform.db, spec.dataset)
    asked = runs.asked(platform.db, spec.dataset)
    for source in spec.data.sources:
        name = label(source)
        recent = runs.page(platform.db, dataset=spec.dataset, source=name, limit=1)
        following = schedule.next_at(platform.db, spec.dataset, source)
        yield {
            "dataset": spec.dataset, "model": intake.model_of(spec), "source": name, "kind": source.kind,
            "schedule": told(source), "next_at": _moment(following), "asked": asked is not None, "waiting": waiting,
            "last": slim(recent[0]) if recent else None,
        }  # fmt: skip


def _moment(moment: Any) -> str:
    """A time as text; a source that never ran is due now."""
    if moment is None:
        return ""
    return clock.iso() if moment == schedule.NEVER_RUN else clock.iso(moment)


def told(source: Source) -> str:
    """When it runs by itself: `every 1h`, `cron 0 3 * * *`, `watched`; empty for when it is asked."""
    if source.every is not None:
        size, unit = next((size, unit) for unit, size in UNITS if source.every % size == 0 or size == 1)
        return f"every {source.every / size:g}{unit}"
    if source.cron is not None:
        return f"cron {source.cron}"
    return "watched" if source.folder else ""


UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
HEAVY = ("fields",)


def slim(run: Item) -> Item:
    """A run in a list, with how long it took so far."""
    return {name: value for name, value in run.items() if name not in HEAVY} | {"seconds": seconds(run)}


def seconds(run: Item) -> float:
    """How long a run took, or takes."""
    ended = clock.parse(run["ended_at"]) if run["ended_at"] else clock.now()
    return round(max(0.0, (ended - clock.parse(run["started_at"])).total_seconds()), 3)
