"""The end of a segment: its digest enters the audit chain, then the file goes.

The row in `segments` and the audit event are one transaction, and the row is what makes it happen once: a collector that was
killed between them and the removal finds the row and only removes. So every recorded answer is covered by the chain, and a
segment that vanished without a row shows.
"""

from __future__ import annotations

import sqlalchemy as sa

from ciranda.govern import audit
from ciranda.interactions.segments import Segment
from ciranda.store import clock
from ciranda.store.database import Database, metadata
from ciranda.store.files import sha256_of, sync_folder

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("records", sa.Integer, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("sealed_at", sa.String(32), nullable=False, index=True),
)


def retire(database: Database, segment: Segment, *, records: int) -> None:
    """Record the digest of a segment whose rows are stored, once, and remove it."""
    digest, size = sha256_of(segment.path), segment.path.stat().st_size
    with database.writing() as conn:
        if not _known(conn, segment.name):
            conn.execute(segments.insert().values(
                name=segment.name, sha256=digest, records=records, bytes=size, sealed_at=clock.iso()))  # fmt: skip
            audit.record(conn, actor="collector", action="segment.sealed", subject=segment.name,
                         detail={"sha256": digest, "records": records, "bytes": size})  # fmt: skip
    segment.path.unlink(missing_ok=True)
    sync_folder(segment.path.parent)


def known(database: Database, name: str) -> bool:
    """Whether a segment was retired."""
    with database.reading() as conn:
        return _known(conn, name)


def _known(conn: sa.Connection, name: str) -> bool:
    return conn.execute(sa.select(segments.c.name).where(segments.c.name == name)).first() is not None
