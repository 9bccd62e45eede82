"""Which dataset versions hold training rows that a suite asks: looked at again whenever either side changes.

The check at commit sees the suites of that day. A suite that is changed or registered later makes versions contaminated that were
clean, and the model versions that were trained on them: their scores on it say nothing any more. So for each version that matters
and each registered suite one row says what was found, with the digest of the prompts that it was compared with: `due` is what
has no such row. Rows keep counts and keys, none of the texts. A suite that is no longer registered is forgotten.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import versions
from ciranda.data.overlap import Asked
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

EXAMPLES = 20  # rows that are named, of each suite

contaminations = sa.Table(
    "contaminations",
    metadata,
    sa.Column("version", sa.String(80), primary_key=True),
    sa.Column("suite", sa.String(500), primary_key=True),
    sa.Column("suite_digest", sa.String(71), nullable=False),
    sa.Column("looked", sa.Integer, nullable=False),
    sa.Column("found", sa.Integer, nullable=False, index=True),
    sa.Column("ways", sa.JSON, nullable=False),
    sa.Column("examples", sa.JSON, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Overlap:
    """What one version shares with one suite. `ways`: rows by how they are the same (exact, near, run); `examples`: their keys."""

    version: str
    suite: str
    suite_digest: str
    looked: int
    found: int
    ways: Mapping[str, int]
    examples: Sequence[Mapping[str, str]]
    at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API and the pages show it."""
        return {**self.__dict__, "ways": dict(self.ways), "examples": [dict(one) for one in self.examples]}


def digest_of(prompts: Iterable[str]) -> str:
    """The digest of a suite's prompts, in any order."""
    whole = hashlib.sha256("\0".join(sorted(prompts)).encode(errors="surrogatepass")).hexdigest()
    return f"sha256:{whole}"


def due(conn: sa.Connection, version: str, digests: Mapping[str, str]) -> list[str]:
    """The suites (of a mapping from name to digest) that a version was not compared with as they are now."""
    table = contaminations
    known = conn.execute(sa.select(table.c.suite, table.c.suite_digest).where(table.c.version == version))
    seen = {(row.suite, row.suite_digest) for row in known}
    return [name for name, digest in digests.items() if (name, digest) not in seen]


def compared(conn: sa.Connection) -> set[str]:
    """Every suite that something was compared with."""
    return set(conn.execute(sa.select(contaminations.c.suite).distinct()).scalars())


def compare(home: Home, version: str, suites: Mapping[str, Sequence[str]]) -> list[Overlap]:
    """Look at every training and validation row of a version, once for all suites. Raises NotFound.

    A row counts for one suite, the surest; memory holds the suites, not the rows.
    """
    found: dict[str, Counter[str]] = {name: Counter() for name in suites}
    shown: dict[str, list[dict[str, str]]] = {name: [] for name in suites}
    asked, looked = Asked(suites), 0
    for batch in versions.batches(home, version, columns=("key", "origin", "prompt", "completion", "split")):
        rows = [row for row in batch.to_pylist() if row["split"] != "test"]
        looked += len(rows)
        for same in asked.same([row["prompt"] or row["completion"] for row in rows]):
            found[same.suite][same.how] += 1
            if len(shown[same.suite]) < EXAMPLES:
                row = rows[same.place]
                shown[same.suite].append({"key": row["key"], "origin": row["origin"], "how": same.how})
    return [
        Overlap(version, name, digest_of(prompts), looked, found[name].total(), dict(found[name]), shown[name])
        for name, prompts in suites.items()
    ]


def keep(conn: sa.Connection, overlap: Overlap, *, actor: str) -> Overlap | None:
    """Note what a look found; returns what was known before, or None. A change between clean and contaminated is audited."""
    table, values = contaminations, {**overlap.to_dict(), "at": clock.iso()}
    here = (table.c.version == overlap.version) & (table.c.suite == overlap.suite)
    known = conn.execute(sa.select(table).where(here)).mappings().first()
    if known:
        conn.execute(table.update().where(here).values(values))
    else:
        conn.execute(table.insert().values(values))
    if bool(overlap.found) != bool(known and known["found"]):
        audit.record(
            conn, actor=actor, action="dataset.contaminated" if overlap.found else "dataset.clean", subject=overlap.version,
            detail={"suite": overlap.suite, "suite_digest": overlap.suite_digest, "rows": overlap.found},
        )  # fmt: skip
    return Overlap(**known) if known else None


def forget(conn: sa.Connection, registered: Iterable[str], *, actor: str) -> list[Overlap]:
    """Drop what was found for suites that are not registered any more; returns what was contaminated by them."""
    table = contaminations
    gone = [
        Overlap(**row)
        for row in conn.execute(sa.select(table).where(table.c.suite.not_in(list(registered)))).mappings()
    ]
    for one in gone:
        conn.execute(table.delete().where((table.c.version == one.version) & (table.c.suite == one.suite)))
        if one.found:
            audit.record(conn, actor=actor, action="dataset.clean", subject=one.version,
                         detail={"suite": one.suite, "rows": 0, "reason": "the suite is not registered any more"})  # fmt: skip
    return [one for one in gone if one.found]


def of(conn: sa.Connection, version: str) -> list[Overlap]:
    """What contaminates a version, by suite."""
    table = contaminations
    query = sa.select(table).where(table.c.version == version, table.c.found > 0).order_by(table.c.suite)
    return [Overlap(**row) for row in conn.execute(query).mappings()]


def page(
    conn: sa.Connection, *, datasets: Iterable[str] | None = None, after: tuple[str, str] | None = None, limit: int = 50
) -> list[Overlap]:
    """Contaminated versions by name and suite; `after` is the last one seen, `datasets` those that a key may see."""
    table = contaminations
    query = sa.select(table).where(table.c.found > 0).order_by(table.c.version, table.c.suite).limit(limit)
    if after:
        version, suite = after
        query = query.where(
            sa.or_(table.c.version > version, sa.and_(table.c.version == version, table.c.suite > suite))
        )
    if datasets is not None:
        query = query.where(sa.or_(sa.false(), *(table.c.version.like(f"{name}@%") for name in datasets)))
    return [Overlap(**row) for row in conn.execute(query).mappings()]
