"""Whether data is as new as somebody expects: the newest rows, the last look at the sources, and what was said of its age.

Rows are as new as the newest version, since a version is only made when rows changed. The last look is the newest ingestion that
ended well, whether it brought rows or not: stale rows with a look of today mean a source that has nothing new, without one a
source that nobody asks. Without an expectation nothing is stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ciranda.data.descriptions import Description, data_descriptions
from ciranda.data.sources import ingestions
from ciranda.data.versions import dataset_versions
from ciranda.store import clock


@dataclass(frozen=True)
class Freshness:
    """How new a dataset is. `state` is fresh, stale, or empty when nobody said how new it should be."""

    rows_at: str
    looked_at: str
    every_s: float
    state: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return asdict(self)


def judged(rows_at: str, looked_at: str, every_s: float, now: datetime) -> Freshness:
    """Newest rows against what is expected."""
    if not every_s:
        return Freshness(rows_at, looked_at, every_s, "")
    age = (now - clock.parse(rows_at)).total_seconds() if rows_at else float("inf")
    return Freshness(rows_at, looked_at, every_s, "stale" if age > every_s else "fresh")


def of_all(
    conn: sa.Connection, said: Mapping[str, Mapping[str, Description]], names: Sequence[str]
) -> dict[str, Freshness]:
    """How new each of these datasets is."""
    made = sa.select(dataset_versions.c.dataset, sa.func.max(dataset_versions.c.created_at))
    looked = sa.select(ingestions.c.dataset, sa.func.max(ingestions.c.ended_at)).where(ingestions.c.state == "done")
    rows_at = _newest(conn, made, dataset_versions.c.dataset, names)
    looked_at = _newest(conn, looked, ingestions.c.dataset, names)
    now = clock.now()
    return {
        name: judged(
            rows_at.get(name, ""), looked_at.get(name, ""), said.get(name, {}).get("", Description()).every_s, now
        )
        for name in names
    }


def stale(conn: sa.Connection) -> list[tuple[str, Freshness]]:
    """The datasets whose newest rows are older than expected."""
    expected = sa.select(data_descriptions).where(data_descriptions.c.field == "", data_descriptions.c.every_s > 0)
    said = {
        row["dataset"]: {"": Description(every_s=row["every_s"])} for row in conn.execute(expected).mappings()
    }  # a dataset that was described before its first rows counts too
    found = of_all(conn, said, sorted(said))
    return [(name, one) for name, one in found.items() if one.state == "stale"]


def _newest(
    conn: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[str], names: Sequence[str]
) -> dict[str, str]:
    return {row[0]: row[1] for row in conn.execute(query.where(column.in_(names)).group_by(column))}
