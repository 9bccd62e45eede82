# ruff: noqa: S608 - the text is put together from constants of this project; values are bound, never formatted in
"""A person is forgotten in the record: their interactions, feedback, scores and started streams, in the tables and around them.

The collector does it, since it alone writes the tables. Rows are removed by their ids: a mutation's text stays on disk for a while,
and must not name the person it removes. Then the parts that the tables were rewritten from have to go from the disk too, which the
engine does when it thinks it is time; so it is told that the time is now, and looked at until they are gone.
What still lies in the spool is waited for: gateways seal their segments when an erasure begins, so that is a moment.
Roll-ups stay: they name nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ciranda.errors import Failed
from ciranda.govern import erasures
from ciranda.govern.erasures import Erasure
from ciranda.store.database import Database
from ciranda.store.scrub import Needles, below

log = logging.getLogger(__name__)

TABLES = ("interactions", "feedback", "scores", "started", "events")
IDS = 2000  # in one statement
MINE = {
    "interactions": "user = {name:String}",
    "feedback": "user = {name:String}",
    "started": "JSONExtractString(meta, 'user') = {name:String}",
    "events": "position(meta, {quoted:String}) > 0",
}
MENTIONED = {
    "interactions": "position(concat(request, ' ', response, ' ', conversation), {name:String}) > 0",
    "feedback": "position(concat(correction, ' ', comment, ' ', toString(reasons)), {name:String}) > 0",
    "started": "position(meta, {name:String}) > 0",
    "events": "position(meta, {name:String}) > 0",
}
OF_THESE = {
    "interactions": "shadow_of IN {ids:Array(String)}",
    "feedback": "interaction IN {ids:Array(String)}",
    "scores": "interaction IN {ids:Array(String)}",
    "started": "id IN {ids:Array(String)}",
}
OLD_PARTS = (
    "SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND NOT active"
)


class Store(Protocol):
    """Where rows are removed."""

    def rows(self, sql: str, parameters: Mapping[str, Any], /) -> list[dict[str, Any]]: ...

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None, /) -> None: ...


def tick(store: Store, database: Database, spool: Path, folder: Path, forget: Callable[[str], None]) -> None:
    """Do what open erasures ask of the record; killed anywhere, the next tick goes on.

    Args:
        spool: Where segments lie, and `folder` the collector's own.
        forget: Takes a name out of what the tailing holds back.
    """
    with database.reading() as conn:
        due = erasures.at(conn, "interactions")
    for one in due:
        _forget(store, database, spool, folder, one, forget)


def _forget(
    store: Store, database: Database, spool: Path, folder: Path, one: Erasure, forget: Callable[[str], None]
) -> None:
    target = one.target or {}
    name, counts = str(target["subject"]), dict(one.counts.get("interactions", {}))
    if not counts:
        for table in TABLES:
            store.run(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1")
    for table, removed in remove(store, name, mentions=bool(target.get("mentions"))).items():
        counts[table] = counts.get(table, 0) + removed
    forget(name)
    needles = Needles.of([name], ())
    counts["quarantined"] = counts.get("quarantined", 0) + _drop(folder / "quarantine", needles)
    left = [path for path in (*below(spool), folder / "progress.json") if needles.within(path)]
    old = sum(_left_over(store, table) for table in TABLES)
    waits = f"{len(left)} files of the spool" if left else f"{old} old parts of tables" if old else ""
    with database.writing() as conn:
        step = "interactions" if waits else "datasets"
        erasures.go_on(conn, one.id, step, counts={"interactions": counts}, waits=waits or "Ciranda")
    if not waits:
        for table in TABLES:
            store.run(f"ALTER TABLE {table} RESET SETTING old_parts_lifetime")
        log.info("erasure %s: the record holds nothing of them any more", one.id)


def _left_over(store: Store, table: str) -> int:
    """How many parts of a table lie on the disk though nothing reads them; the engine is woken to remove them."""
    parts = int(store.rows(OLD_PARTS, {"table": table})[0]["n"])
    if parts:
        try:
            store.run(f"SYSTEM STOP CLEANUP {table}")
            store.run(f"SYSTEM START CLEANUP {table}")  # which begins at once
        except Failed as error:  # a server may not let us; it cleans up by itself within minutes
            log.info("the engine is not woken to clean up %s: %s", table, error)
    return parts


def ids_of(store: Any, name: str, *, mentions: bool) -> dict[str, list[str]]:
    """The ids of everything that is theirs, by table.

    Args:
        store: Whatever answers `rows(sql, parameters)`: the collector's own handle, or a reader's.
    """
    values = {"name": name, "quoted": f'"{name}"'}
    found: dict[str, dict[str, None]] = {table: {} for table in TABLES}
    for table, condition in MINE.items():
        whole = f"({condition}) OR ({MENTIONED[table]})" if mentions else condition
        rows = store.rows(f"SELECT id FROM {table} WHERE {whole}", values)
        found[table].update(dict.fromkeys(str(row["id"]) for row in rows))
    asked = list(found["interactions"])
    for at in range(0, len(asked), IDS):
        for table, condition in OF_THESE.items():
            rows = store.rows(f"SELECT id FROM {table} WHERE {condition}", {"ids": asked[at : at + IDS]})
            found[table].update(dict.fromkeys(str(row["id"]) for row in rows))
    return {table: list(named) for table, named in found.items()}


def remove(store: Store, name: str, *, mentions: bool = False) -> dict[str, int]:
    """Remove what is theirs from the tables; returns how many rows of each. Again: nothing is left to remove."""
    removed = {}
    for table, mine in ids_of(store, name, mentions=mentions).items():
        for at in range(0, len(mine), IDS):
            store.run(
                f"ALTER TABLE {table} DELETE WHERE id IN {{ids:Array(String)}} SETTINGS mutations_sync = 2",
                {"ids": mine[at : at + IDS]},
            )
        removed[table] = len(mine)
    return removed


def _drop(quarantine: Path, needles: Needles) -> int:
    """Remove quarantined frames that name them."""
    held = [path for path in below(quarantine) if needles.within(path)]
    for path in held:
        path.unlink(missing_ok=True)
    return len(held)
