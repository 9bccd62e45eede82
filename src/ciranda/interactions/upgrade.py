# ruff: noqa: S608 - the text is put together from constants of this project
"""Makes the tables, and brings those of an older Ciranda up to date when the collector starts.

    version 1   votes counted each time they were given
    version 2   a changed vote moves from one count to the other; words are found through an index

What is only more (a field, an index, a table) needs no number: it is added wherever it is missing, and an older Ciranda does not
mind it. A number stands for a change that an older one would get wrong; so a store with a higher number is refused. Each step can
be done again from its beginning, and the number is written behind the last one: a start that is killed is simply repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ciranda.errors import Conflict
from ciranda.interactions.rollups import HOURS, MINUTES, ROLLUPS, VIEWS, View
from ciranda.interactions.schema import MOMENT, RECORDS, Column, Table

log = logging.getLogger(__name__)

VERSION = 2
VERSIONS = Table(
    "store_versions",
    "Which shape the tables have; the highest number holds.",
    (Column("version", "UInt32", "number of the shape"), Column("ts", MOMENT, "since when", unit="UTC, ms")),
    partition="tuple()",
    order="version",
)
TABLES = (*RECORDS, *ROLLUPS, VERSIONS)

Run = Callable[[str], object]
Ask = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class Layout:
    """How tables are kept: alone, or by the replicas of a ClickHouse cluster.

    Args:
        cluster: Its name in the server's configuration; empty for the embedded engine and for a single server.
    """

    cluster: str = ""

    @property
    def on(self) -> str:
        return f" ON CLUSTER `{self.cluster}`" if self.cluster else ""

    def create(self, table: Table) -> str:
        """The statement that makes a table, if it is not there."""
        lines = [column.ddl for column in table.columns] + [index.ddl for index in table.indexes]
        parts = ",\n    ".join(lines)
        engine = f"Replicated{table.engine}" if self.cluster else table.engine
        return (f"CREATE TABLE IF NOT EXISTS {table.name}{self.on} (\n    {parts}\n) ENGINE = {engine}\n"
                f"PARTITION BY {table.partition} ORDER BY {table.order}\n"
                f"SETTINGS {self._settings(table)} COMMENT '{table.meaning}'")  # fmt: skip

    def view(self, view: View) -> str:
        """The statement that makes a view, if it is not there."""
        return f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view.name}{self.on} TO {view.target.name} AS{view.select}"

    def _settings(self, table: Table) -> str:
        """Exactness rests on every table keeping its own window of tokens, durability on the two that sync."""
        window = f"{'replicated' if self.cluster else 'non_replicated'}_deduplication_window = 10000"
        read = [
            f"index_granularity = {table.granule}",
            "max_compress_block_size = 131072",
        ]  # of which a question needs little
        settings = [window, "fsync_after_insert = 1", "fsync_part_directory = 1"]
        return ", ".join([*settings, *read] if table.granule < 8192 else settings)


ALONE = Layout()


def prepare(run: Run, ask: Ask, layout: Layout) -> None:
    """Make what is missing and bring the rest up to date. Call it before anything is inserted.

    Raises:
        Conflict: a newer Ciranda made this store.
    """
    run(layout.create(VERSIONS))
    before = _version(ask)
    if before > VERSION:
        raise Conflict(
            f"the store of interactions has the shape {before}, this Ciranda knows shapes up to {VERSION}",
            where="store_versions", remedy="install the Ciranda that wrote it (or a newer one); nothing was changed",
        )  # fmt: skip
    if before == 1:
        _add_missing(run, ask, layout)
        _count_newest_votes(run, layout)
    for statement in (*map(layout.create, TABLES), *map(layout.view, VIEWS)):
        run(statement)
    _add_missing(run, ask, layout)
    if before < VERSION:
        run(f"INSERT INTO {VERSIONS.name} (version, ts) VALUES ({VERSION}, now64(3))")
        log.info("the store of interactions has the shape %d now (before: %d)", VERSION, before)


def _version(ask: Ask) -> int:
    """The shape on disk: 0 when there is nothing, 1 for what was made before shapes had numbers."""
    known = int(ask(f"SELECT max(version) AS n FROM {VERSIONS.name}")[0]["n"])
    present = ask("SELECT count() AS n FROM system.tables WHERE database = currentDatabase() AND name = 'interactions'")
    return known or int(present[0]["n"])


def _add_missing(run: Run, ask: Ask, layout: Layout) -> None:
    """Fields and indexes that the tables do not have yet; rows that are there get what is made of them in the background."""
    columns = _present(ask, "SELECT table, name FROM system.columns WHERE database = currentDatabase()")
    indexes = _present(ask, "SELECT table, name FROM system.data_skipping_indices WHERE database = currentDatabase()")
    for table in TABLES:
        if table.name not in columns:
            continue
        for column in table.columns:
            if column.name not in columns[table.name]:
                run(f"ALTER TABLE {table.name}{layout.on} ADD COLUMN IF NOT EXISTS {column.ddl}")
                if column.made:
                    run(f"ALTER TABLE {table.name}{layout.on} MATERIALIZE COLUMN {column.name}")
        for index in table.indexes:
            if index.name not in indexes.get(table.name, ()):
                run(f"ALTER TABLE {table.name}{layout.on} ADD {index.ddl.replace('INDEX', 'INDEX IF NOT EXISTS', 1)}")
                run(f"ALTER TABLE {table.name}{layout.on} MATERIALIZE INDEX {index.name}")


def _present(ask: Ask, question: str) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for row in ask(question):
        found.setdefault(row["table"], []).append(row["name"])
    return found


_NEWEST_VOTES = """(interaction, ts, id) IN (SELECT interaction, newest.1, newest.2 FROM (
    SELECT interaction, max((ts, id)) AS newest FROM feedback WHERE thumb != 0 AND model != '' GROUP BY interaction))"""


def _count_newest_votes(run: Run, layout: Layout) -> None:
    """From 1 to 2: of several votes on one interaction the newest counts; the roll-ups are made anew from the rows."""
    changes = "thumbs_up = toInt8(thumb > 0), thumbs_down = toInt8(thumb < 0)"
    run(f"ALTER TABLE feedback{layout.on} UPDATE {changes} WHERE {_NEWEST_VOTES} SETTINGS mutations_sync = 2")
    ours = [view for view in VIEWS if view.target in (MINUTES, HOURS)]
    for view in ours:
        run(f"DROP VIEW IF EXISTS {view.name}{layout.on} SYNC")
    for table in (MINUTES, HOURS):
        run(f"DROP TABLE IF EXISTS {table.name}{layout.on} SYNC")
        run(layout.create(table))
    for view in ours:
        run(f"INSERT INTO {view.target.name} ({', '.join(view.columns)}){view.select}")
