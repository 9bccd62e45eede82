"""Where data comes from: each source with its last run and its next, runs, and bad rows that wait. For pages and REST alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.config.source import Source
from ciranda.data.sources import ingestions, quarantine, runs, schedule
from ciranda.data.sources.found import label
from ciranda.loop import intake
from ciranda.loop.platform import Platform
from ciranda.store import clock
from ciranda.web.views.sources import BadRow, FeedPage, FeedRow, RunPage, RunRow, SourceRow

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


# --- for the pages ----------------------------------------------------------------------------------------------------


def feeds(platform: Platform, reach: Sequence[str]) -> tuple[FeedRow, ...]:
    """Every dataset that something feeds, as far as a key reaches."""
    specs = sorted(intake.fed(platform), key=lambda spec: spec.dataset)
    return tuple(_feed(platform, spec) for spec in specs if "*" in reach or _mine(spec, reach))


def _mine(spec: intake.Spec, reach: Sequence[str]) -> bool:
    return bool({intake.model_of(spec), spec.dataset} & set(reach))


def _feed(platform: Platform, spec: intake.Spec) -> FeedRow:
    rows = tuple(_source(item, source) for item, source in zip(_of(platform, spec), spec.data.sources, strict=True))
    waiting, asked = quarantine.waiting(platform.db, spec.dataset), runs.asked(platform.db, spec.dataset)
    return FeedRow(spec.dataset, intake.model_of(spec), rows, waiting, asked is not None)


def _source(item: Item, source: Source) -> SourceRow:
    return SourceRow(
        item["dataset"], item["model"], item["source"], item["kind"], source.every, source.cron or "",
        source.folder is not None, item["next_at"], _run(item["last"]) if item["last"] else None,
    )  # fmt: skip


def feed(platform: Platform, dataset: str, *, before: str, bad: str, rows: bool) -> FeedPage:
    """One dataset with a page of runs; its bad rows only for those who work on data. Raises NotFound."""
    spec = intake.feeder(platform, dataset)
    found = runs.page(platform.db, dataset=dataset, before=before, limit=PAGE + 1)
    shown = tuple(_run(one) for one in found[:PAGE])
    kept = _kept(platform, dataset, bad) if rows else []
    return FeedPage(
        _feed(platform, spec), shown, shown[-1].id if len(found) > PAGE else "",
        tuple(BadRow(*(one[name] for name in BAD)) for one in kept[:PAGE]),
        quarantine.place(kept[PAGE - 1]) if len(kept) > PAGE else "",
    )  # fmt: skip


def _kept(platform: Platform, dataset: str, before: str) -> list[Item]:
    return quarantine.page(platform.db, dataset=dataset, state="waiting", before=before, limit=PAGE + 1)


def ingestion(platform: Platform, identifier: str) -> RunPage:
    """One run of one source, whole. Raises NotFound."""
    found = runs.get(platform.db, identifier)
    error = found["error"] or {}
    return RunPage(
        _run(found), found["cursor_before"], found["cursor"], {name: one for name, one in found["window"].items() if one},
        {name: str(error[name]) for name in ("message", "where", "remedy") if error.get(name)},
        tuple((one["change"], one["field"], one["before"], one["now"]) for one in found["changes"]),
        tuple((one["where"], one["reason"]) for one in found["detail"].get("bad", ())),
        tuple((name, " or ".join(one["types"]), float(one["share"])) for name, one in found["fields"].items()),
    )  # fmt: skip


def _run(run: Item) -> RunRow:
    plain = {name: run[name] for name in RunRow.__dataclass_fields__ if name in run and name != "seconds"}
    return RunRow(**plain, seconds=seconds(run))


def mark(conn: sa.Connection) -> str:
    """Changes when a run begins, goes on or ends."""
    told = conn.execute(sa.select(sa.func.max(ingestions.c.told_at), sa.func.max(ingestions.c.id))).first()
    return str(tuple(told or ()))


PAGE = 25
BAD = ("id", "source", "origin", "reason", "record", "state", "at")
