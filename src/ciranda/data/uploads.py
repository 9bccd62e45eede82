"""Files that a client of the fine-tuning door sent: kept as they came, until they are deleted or expire.

A file is written and synced under a name of its own, then renamed, then registered: a kill at any line leaves either a whole file
with its row, or bytes without a row, which `tidy` removes. Nothing of the client's choosing becomes a path. A file belongs to the
tenant of the key that sent it; to other tenants it does not exist. Deleted rows stay, without their content, since jobs name them.
It refuses what is no JSON object on every line, and more than `MOST_BYTES` in all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import Invalid, LimitReached, NotFound
from ciranda.govern import audit
from ciranda.store import clock, files, ids
from ciranda.store.database import Database, metadata

FILE_BYTES = 512 << 20
MOST_BYTES = 20 << 30  # all files of one installation
LINE_BYTES = 8 << 20
ORPHAN_S = 3600.0
TRAINING = "fine-tune"
RESULTS = "fine-tune-results"

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("tenant", sa.String(100), nullable=False, index=True),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("expires_at", sa.String(32)),
    sa.Column("deleted_at", sa.String(32)),
)


@dataclass(frozen=True)
class Upload:
    """A row of `uploads`."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: str
    created_by: str
    expires_at: str | None
    deleted_at: str | None


def arriving(home: Home) -> Path:
    """Where to write a file that is coming in, before it is known to be whole."""
    home.uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home.uploads / f".{ids.uuid7().hex}.part"


def content(home: Home, upload: Upload) -> Path:
    """Where a file's bytes are."""
    return home.uploads / upload.id


def add(
    db: Database,
    home: Home,
    arrived: Path,
    *,
    filename: str,
    purpose: str,
    tenant: str,
    actor: str,
    expires_s: int | None = None,
    identifier: str = "",
) -> Upload:
    """Keep a file that has arrived whole; `arrived` is moved, or removed when it is refused.

    Args:
        identifier: Its id, where that follows from what it is made of.

    Raises:
        Invalid: A line of it is no JSON object. LimitReached: There is no room for it under the bound of all files.
    """
    try:
        if purpose == TRAINING:
            check(arrived)
        now = clock.now()
        until = clock.iso(now + timedelta(seconds=expires_s)) if expires_s else None
        upload = Upload(
            identifier or f"file-{ids.uuid7().hex}", tenant, filename[:255], purpose, arrived.stat().st_size,
            files.sha256_of(arrived), clock.iso(now), actor, until, None,
        )  # fmt: skip
        sync(arrived)
        with db.writing() as conn:
            _demand_room(conn, upload.bytes)
            os.replace(arrived, content(home, upload))
            files.sync_folder(home.uploads)
            conn.execute(uploads.insert().values(**vars(upload)))
            told = {"bytes": upload.bytes, "sha256": upload.sha256, "purpose": purpose}
            audit.record(conn, actor=actor, action="upload.created", subject=upload.id, detail=told)
        return upload
    finally:
        arrived.unlink(missing_ok=True)


def resealed(db: Database, home: Home) -> int:
    """Note anew the digests of files that words were written over in, when a person was erased; returns how many those are."""
    with db.reading() as conn:
        kept = [
            Upload(**row._mapping) for row in conn.execute(sa.select(uploads).where(uploads.c.deleted_at.is_(None)))
        ]
    changed = 0
    for one in kept:
        place = content(home, one)
        if place.exists() and (digest := files.sha256_of(place)) != one.sha256:
            with db.writing() as conn:
                conn.execute(uploads.update().where(uploads.c.id == one.id).values(sha256=digest))
            changed += 1
    return changed


def sync(path: Path) -> None:
    """Bring a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def held_bytes(conn: sa.Connection) -> int:
    """What all files take together."""
    return int(
        conn.execute(sa.select(sa.func.sum(uploads.c.bytes)).where(uploads.c.deleted_at.is_(None))).scalar() or 0
    )


def _demand_room(conn: sa.Connection, size: int) -> None:
    if (held := held_bytes(conn)) + size > MOST_BYTES:
        raise LimitReached(
            f"files take {held:,} bytes of {MOST_BYTES:,} already",
            where="uploads",
            remedy="delete files that no job needs",
        )


def check(path: Path) -> int:
    """How many objects the file holds, one a line. Raises Invalid, naming the first line that is none."""
    count = 0
    for number, line in lines(path):
        count += 1
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _no_object(number)
    if not count:
        raise Invalid("the file has no line", where="file", remedy="send one JSON object a line")
    return count


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that say something, each with its number. Raises Invalid for one that has no end in sight."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise Invalid(f"line {number} is over {LINE_BYTES:,} bytes", where="file", remedy="split the example")
            if line.strip():
                yield number, line


def _no_object(number: int) -> Invalid:
    return Invalid(
        f"Expected file to have JSONL format, where every line is a valid JSON dictionary. Line {number} is not a dictionary",
        where="file", remedy="write one JSON object a line",
    )  # fmt: skip


def get(conn: sa.Connection, identifier: str, *, tenant: str) -> Upload:
    """A file of a tenant's, which is not deleted. Raises NotFound."""
    here = (uploads.c.id == identifier) & (uploads.c.tenant == tenant) & uploads.c.deleted_at.is_(None)
    row = conn.execute(sa.select(uploads).where(here)).first()
    if row is None:
        raise NotFound(f"No such File object: {identifier[:100]}", where="uploads", remedy="list the files")
    return Upload(**row._mapping)


def page(
    conn: sa.Connection, *, tenant: str, purpose: str = "", after: str = "", limit: int = 100, newest_first: bool = True
) -> list[Upload]:
    """A tenant's files in the order of their coming; `after` is the id of the last one seen."""
    query = sa.select(uploads).where(uploads.c.tenant == tenant, uploads.c.deleted_at.is_(None)).limit(limit)
    if purpose:
        query = query.where(uploads.c.purpose == purpose)
    if after:
        query = query.where(uploads.c.id < after if newest_first else uploads.c.id > after)
    ordered = query.order_by(uploads.c.id.desc() if newest_first else uploads.c.id)
    return [Upload(**row._mapping) for row in conn.execute(ordered)]


def delete(db: Database, home: Home, identifier: str, *, tenant: str, actor: str) -> Upload:
    """Take a file away. Raises NotFound."""
    with db.writing() as conn:
        upload = get(conn, identifier, tenant=tenant)
        _forget(conn, upload, actor)
    content(home, upload).unlink(missing_ok=True)
    return upload


def _forget(conn: sa.Connection, upload: Upload, actor: str) -> None:
    conn.execute(uploads.update().where(uploads.c.id == upload.id).values(deleted_at=clock.iso()))
    audit.record(conn, actor=actor, action="upload.deleted", subject=upload.id, detail={"sha256": upload.sha256})


def tidy(db: Database, home: Home, *, besides: Container[str] = ()) -> None:
    """Delete what expired, and bytes that no row names (any more); `besides` are names that others keep there."""
    due = uploads.c.deleted_at.is_(None) & (uploads.c.expires_at < clock.iso())
    with db.reading() as conn:
        expired = [Upload(**row._mapping) for row in conn.execute(sa.select(uploads).where(due))]
    for upload in expired:
        with db.writing() as conn:
            _forget(conn, upload, "retention")
    with db.reading() as conn:
        kept = set(conn.execute(sa.select(uploads.c.id).where(uploads.c.deleted_at.is_(None))).scalars())
    left = [path for path in home.uploads.glob("*") if path.name not in kept and path.name not in besides]
    for path in (*left, *home.tracked.glob(".*.part")):
        if _age_s(path) > ORPHAN_S:
            path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def to_dict(upload: Upload) -> dict[str, Any]:
    """As OpenAI's API shows a file."""
    return {
        "id": upload.id, "object": "file", "bytes": upload.bytes, "created_at": _seconds(upload.created_at),
        "filename": upload.filename, "purpose": upload.purpose, "status": "processed", "status_details": None,
        "expires_at": _seconds(upload.expires_at) if upload.expires_at else None,
    }  # fmt: skip


def _seconds(moment: str) -> int:
    return int(clock.parse(moment).timestamp())
