"""Rows as files that leave the house: JSON lines or Parquet, made while they are read, and the register of who took what.

The register names dataset version, person, policies and moment of every file that went out, so that when a person is erased
the copies can be asked back. It holds no rows and no filters that name a person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ciranda.errors import Invalid
from ciranda.govern import audit
from ciranda.govern.policy import Decision, Reader
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata
from ciranda.store.outlet import Outlet

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
Where = Callable[[Mapping[str, Any]], bool]
PARSED = ("messages", "tags", "extra")  # JSON on the shelf

data_exports = sa.Table(
    "data_exports",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("what", sa.String(80), nullable=False, index=True),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("policies", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("at", sa.String(32), nullable=False, index=True),
)


def note(conn: sa.Connection, what: str, reader: Reader, *, format_: str, found: Decision | None = None) -> str:
    """Write down that a file goes out: `smart-home@2`, or `interactions:smart-home`. Returns its id in the register."""
    identifier, policies = ids.new("export"), list(found.names) if found else []
    conn.execute(
        data_exports.insert().values(
            id=identifier, what=what, actor=reader.actor, role=reader.role, format=format_, policies=policies,
            digest=found.digest if found else "", at=clock.iso(),
        )
    )  # fmt: skip
    audit.record(conn, actor=reader.actor, action="data.exported", subject=what,
                 detail={"export": identifier, "format": format_, "policies": policies})  # fmt: skip
    return identifier


def listing(db: Database, *, before: str = "", limit: int = 50) -> list[dict[str, Any]]:
    """The register, newest first; `before` is the id of the last one seen."""
    query = sa.select(data_exports).order_by(data_exports.c.id.desc()).limit(limit)
    if before:
        query = query.where(data_exports.c.id < before)
    with db.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(query)]


def of(conn: sa.Connection, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every file that went out of these dataset versions (or `interactions:…`), newest first."""
    query = sa.select(data_exports).where(data_exports.c.what.in_(names)).order_by(data_exports.c.id.desc())
    return [dict(row._mapping) for row in conn.execute(query)]


def every(conn: sa.Connection) -> list[dict[str, Any]]:
    """Everything that ever went out, by what it was, once each."""
    return [{"what": what} for what in conn.execute(sa.select(data_exports.c.what).distinct()).scalars()]


def written(found: Iterable[pa.RecordBatch], format_: str) -> Iterator[bytes]:
    """The file in pieces. Raises Invalid for a format that is not written."""
    if format_ not in FORMATS:
        raise Invalid(f"format {format_!r} is not written", where="format", remedy=f"use one of {', '.join(FORMATS)}")
    return lines(found) if format_ == "jsonl" else _parquet(found)


def lines(found: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """JSON lines, a batch at a time; empty facts are left out, messages always there."""
    return (text(records(batch)) for batch in found)


def records(batch: pa.RecordBatch, where: Where | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a batch as they are written, those for which `where` holds."""
    found = (_record(one) for one in batch.to_pylist())
    return (one for one in found if where is None or where(one))


def text(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A JSON line for each."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode("utf-8", "replace")


def _record(stored: dict[str, Any]) -> dict[str, Any]:
    parsed = {name: json.loads(value) if name in PARSED else value for name, value in stored.items()}
    kept = ("messages", "completion", "language", "key")
    return {name: value for name, value in parsed.items() if value or name in kept}


def _parquet(found: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    outlet, writer = Outlet(), None
    for batch in found:
        writer = writer or pq.ParquetWriter(pa.PythonFile(outlet, mode="w"), batch.schema, compression="zstd")
        writer.write_batch(batch)
        yield outlet.taken()
    if writer is not None:
        writer.close()
    yield outlet.taken()
