# ruff: noqa: S608 - the text is put together from constants of this project; values are bound, never formatted in
"""How long interactions are kept: by model (`retention` of its file), else as the setting `retention_days` says; else for ever.

Once an hour the collector looks for what is older. The plan goes into the audit log first, then rows are removed: a whole day at
once where no model keeps longer, else the model's rows. Feedback, scores and started streams go with their interactions, since they
hold what people wrote. What stays: the roll-ups, which name nobody, and dataset versions, which hold their own copy of a row, with
the id of the interaction as its origin; a person is erased from those through the data side.
Whoever ingests feedback should do so more often than the shortest retention: what is gone can make no row.

It refuses to trust a clock that jumped: "now" is never later than a day after the newest interaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database

DAY_MS = 86_400_000
EVER = 0.0
OTHERS = "*"
DATED = {"interactions": "ts", "feedback": "interaction_ts", "scores": "ts", "started": "ts"}

NEWEST = "SELECT toUnixTimestamp64Milli(max(ts)) AS ms FROM interactions"
DAYS = """SELECT DISTINCT partition FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active AND partition < {day:String} ORDER BY partition"""

_models = sa.table("models", sa.column("model"), sa.column("spec", sa.JSON))


class Store(Protocol):
    """Where rows are removed."""

    def rows(self, sql: str, parameters: Mapping[str, Any], /) -> list[dict[str, Any]]: ...

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None, /) -> None: ...


@dataclass(frozen=True)
class Policy:
    """How long to keep: days by model, and for all others; 0 is for ever."""

    others: float = EVER
    models: Mapping[str, float] = field(default_factory=dict)

    @property
    def rules(self) -> list[tuple[str, float]]:
        """Each model that has its own days, and `*` for the others; what is kept for ever has none."""
        return [(model, days) for model, days in (*sorted(self.models.items()), (OTHERS, self.others)) if days]

    @property
    def longest(self) -> float:
        """After so many days nothing is left of any model; 0 when something is kept for ever."""
        every = (self.others, *self.models.values())
        return EVER if EVER in every else max(every)


@dataclass(frozen=True)
class Expired:
    """What is too old: of a model (or of all others), in one table, before a moment."""

    table: str
    model: str
    before_ms: int
    rows: int


def policy(database: Database, others: float) -> Policy:
    """The policy as applied now: each model's file, else `others`."""
    with database.reading() as conn:
        if not sa.inspect(conn).has_table(_models.name):
            return Policy(others)
        found = conn.execute(sa.select(_models.c.model, _models.c.spec)).all()
    kept = {model: (spec.get("retention") or {}).get("interactions") for model, spec in found}
    return Policy(others, {model: seconds * 1000 / DAY_MS for model, seconds in kept.items() if seconds is not None})


def expire(store: Store, database: Database, chosen: Policy, *, now_ms: int | None = None) -> list[Expired]:
    """Remove what is too old; the audit log says so first. Killed anywhere, the next time finds what is left."""
    newest = int(store.rows(NEWEST, {})[0]["ms"])
    now_ms = min(clock.now_ms() if now_ms is None else now_ms, newest + DAY_MS)
    found = [one for model, days in chosen.rules for one in _old(store, chosen, model, now_ms - int(days * DAY_MS))]
    if not found:
        return []
    with database.writing() as conn:
        for model in sorted({one.model for one in found}):
            _note(conn, model, [one for one in found if one.model == model])
    if chosen.longest:
        _drop_days(store, now_ms - int(chosen.longest * DAY_MS))
    for one in found:
        condition, values = _condition(chosen, one.table, one.model, one.before_ms)
        store.run(f"ALTER TABLE {one.table} DELETE WHERE {condition} SETTINGS mutations_sync = 1", values)
    return found


def _old(store: Store, chosen: Policy, model: str, before_ms: int) -> Iterator[Expired]:
    for table in DATED:
        condition, values = _condition(chosen, table, model, max(0, before_ms))
        if rows := int(store.rows(f"SELECT count() AS n FROM {table} WHERE {condition}", values)[0]["n"]):
            yield Expired(table, model, before_ms, rows)


def _condition(chosen: Policy, table: str, model: str, before_ms: int) -> tuple[str, dict[str, Any]]:
    """The rows of a model, or of those without a rule, before a moment."""
    of = "model NOT IN {models:Array(String)}" if model == OTHERS else "model IN {models:Array(String)}"
    values = {"models": sorted(chosen.models) if model == OTHERS else [model], "before": before_ms}
    return f"{of} AND {DATED[table]} < fromUnixTimestamp64Milli({{before:Int64}}, 'UTC')", values


def _note(conn: sa.Connection, model: str, expired: Sequence[Expired]) -> None:
    before = clock.iso(datetime.fromtimestamp(expired[0].before_ms / 1000, UTC))
    audit.record(conn, actor="collector", action="interactions.expired", subject=model,
                 detail={"before": before, "rows": {one.table: one.rows for one in expired}})  # fmt: skip


def _drop_days(store: Store, before_ms: int) -> None:
    """Whole days of which no model keeps anything: that costs nothing, while removing rows writes the others anew."""
    day = datetime.fromtimestamp(before_ms / 1000, UTC).strftime("%Y%m%d")
    for table in ("interactions", "started"):
        for row in store.rows(DAYS, {"table": table, "day": day}):
            store.run(f"ALTER TABLE {table} DROP PARTITION {int(row['partition'])}")
