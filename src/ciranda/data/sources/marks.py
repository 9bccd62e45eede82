"""Which files of a watched folder or a bucket were read, and as what: size, times and inode, or size and ETag.

A mark holds from the transaction on that registers the version with the file's rows, like a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from ciranda.store import clock
from ciranda.store.database import Database, metadata

source_files = sa.Table(
    "source_files",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("source", sa.String(500), primary_key=True),
    sa.Column("file", sa.String(1100), primary_key=True),
    sa.Column("mark", sa.String(200), nullable=False),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("read_at", sa.String(32), nullable=False),
)


def known(db: Database, dataset: str, source: str) -> dict[str, str]:
    """The mark of each file that was read."""
    mine = (source_files.c.dataset == dataset) & (source_files.c.source == source)
    with db.reading() as conn:
        rows = conn.execute(sa.select(source_files.c.file, source_files.c.mark).where(mine)).all()
    return {row.file: row.mark for row in rows}


def hold(conn: sa.Connection, dataset: str, source: str, marks: Mapping[str, str], *, run: str) -> None:
    """Within the transaction that registers a version: these files are read."""
    now = clock.iso()
    for file, mark in marks.items():
        mine = (source_files.c.dataset == dataset) & (source_files.c.source == source) & (source_files.c.file == file)
        values = {"mark": mark, "run": run, "read_at": now}
        if not conn.execute(source_files.update().where(mine).values(**values)).rowcount:
            conn.execute(source_files.insert().values(dataset=dataset, source=source, file=file, **values))
