"""Files that come in pieces (`/v1/uploads`): a file is announced, its parts are sent in any order, then they are put together.

    partial_uploads   what was announced, and what became of it
    upload_parts      the parts that lie here

A part is written and synced under a name of its own, then renamed, then registered, as files are (`data.uploads`). Completing
takes the parts in the order that the client names, which must make exactly the bytes that it announced, and ends in a file like any
other, with the same checks: it is claimed first (`completing`), so two who complete at once make one file, and one who dies in the
middle leaves an upload that can be completed again. What is neither completed nor cancelled within an hour expires, and its parts
go. Open uploads count, with all that they announced, to the bound of all files; a tenant has at most `MOST_OPEN`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import uploads
from ciranda.data.uploads import FILE_BYTES, MOST_BYTES, Upload
from ciranda.errors import Conflict, Invalid, LimitReached, NotFound
from ciranda.govern import audit
from ciranda.store import clock, files, ids
from ciranda.store.database import Database, metadata

PART_BYTES = 64 << 20
MOST_PARTS = 1000  # of one upload
MOST_OPEN = 20  # of one tenant
OPEN_S = 3600
CLAIM_S = 600  # after which somebody else may complete what is being completed
PENDING, COMPLETING, COMPLETED, CANCELLED, EXPIRED = "pending", "completing", "completed", "cancelled", "expired"
OPEN = (PENDING, COMPLETING)

partial_uploads = sa.Table(
    "partial_uploads",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("tenant", sa.String(100), nullable=False, index=True),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),
    sa.Column("mime_type", sa.String(200), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("keep_s", sa.Integer),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("file", sa.String(60), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("claimed_at", sa.String(32), nullable=False),
)

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("upload", sa.String(60), sa.ForeignKey("partial_uploads.id"), nullable=False, index=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Partial:
    """A row of `partial_uploads`. `keep_s` is how long the finished file is to stay; `file` is its id, once there is one."""

    id: str
    tenant: str
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    keep_s: int | None
    state: str
    file: str
    created_at: str
    created_by: str
    claimed_at: str

    @property
    def until(self) -> str:
        """When it expires."""
        return clock.iso(clock.parse(self.created_at) + timedelta(seconds=OPEN_S))


@dataclass(frozen=True)
class Part:
    """A row of `upload_parts`."""

    id: str
    upload: str
    bytes: int
    created_at: str


def begin(
    db: Database, *, filename: str, purpose: str, mime_type: str, size: int, keep_s: int | None, tenant: str, actor: str
) -> Partial:
    """Announce a file of that many bytes.

    Raises:
        Invalid: It is larger than a file may be. LimitReached: Too much is open, or there is no room for it.
    """
    if size > FILE_BYTES:
        raise Invalid(f"the file would have {size:,} bytes, and may have {FILE_BYTES:,}", where="bytes",
                      remedy="split it into several files")  # fmt: skip
    made = Partial(
        f"upload_{ids.uuid7().hex}", tenant, filename[:255], purpose, mime_type[:200], size, keep_s, PENDING, "", clock.iso(),
        actor, "",
    )  # fmt: skip
    with db.writing() as conn:
        _demand_room(conn, tenant, size)
        conn.execute(partial_uploads.insert().values(**vars(made)))
        audit.record(conn, actor=actor, action="upload.announced", subject=made.id, detail={"bytes": size})
    return made


def _demand_room(conn: sa.Connection, tenant: str, size: int) -> None:
    table, open_ = partial_uploads, partial_uploads.c.state.in_(OPEN)
    mine = sa.select(sa.func.count()).where(open_, table.c.tenant == tenant)
    if (conn.execute(mine).scalar() or 0) >= MOST_OPEN:
        raise LimitReached(f"{MOST_OPEN} uploads are open already", where="uploads", remedy="complete or cancel some")
    announced = conn.execute(sa.select(sa.func.sum(table.c.bytes)).where(open_)).scalar() or 0
    if (held := uploads.held_bytes(conn) + int(announced)) + size > MOST_BYTES:
        raise LimitReached(f"files take {held:,} bytes of {MOST_BYTES:,} already", where="uploads",
                           remedy="delete files that no job needs, or cancel uploads")  # fmt: skip


def get(conn: sa.Connection, identifier: str, *, tenant: str) -> Partial:
    """An upload of a tenant's, expired when its hour is over. Raises NotFound."""
    table = partial_uploads
    row = conn.execute(sa.select(table).where(table.c.id == identifier, table.c.tenant == tenant)).first()
    if row is None:
        raise NotFound(f"No such Upload object: {identifier[:100]}", where="uploads", remedy="create it first")
    found = Partial(**row._mapping)
    over = found.state in OPEN and found.until < clock.iso()
    return replace(found, state=EXPIRED) if over else found


def _open(conn: sa.Connection, identifier: str, tenant: str) -> Partial:
    """One that still takes parts. Raises NotFound, Conflict."""
    found = get(conn, identifier, tenant=tenant)
    if found.state != PENDING:
        raise Conflict(f"Upload {identifier} is {found.state}", where="uploads", remedy="create another one")
    return found


def add(db: Database, home: Home, identifier: str, arrived: Path, *, tenant: str) -> Part:
    """Keep a part that has arrived whole; `arrived` is moved, or removed when it is refused.

    Raises:
        NotFound, Conflict: There is no such upload, or it is over. Invalid: Its parts would be more than was announced.
    """
    try:
        part = Part(f"part_{ids.uuid7().hex}", identifier, arrived.stat().st_size, clock.iso())
        uploads.sync(arrived)
        with db.writing() as conn:
            asked = _open(conn, identifier, tenant)
            known = parts(conn, identifier)
            if len(known) >= MOST_PARTS or sum(one.bytes for one in known) + part.bytes > asked.bytes:
                raise Invalid(f"{asked.bytes:,} bytes were announced, in at most {MOST_PARTS} parts", where="data",
                              remedy="create an upload of the size that the file has")  # fmt: skip
            os.replace(arrived, _place(home, part.id))
            files.sync_folder(home.uploads)
            conn.execute(upload_parts.insert().values(**vars(part)))
        return part
    finally:
        arrived.unlink(missing_ok=True)


def parts(conn: sa.Connection, identifier: str) -> list[Part]:
    """The parts of an upload, in the order of their coming."""
    table = upload_parts
    rows = conn.execute(sa.select(table).where(table.c.upload == identifier).order_by(table.c.id))
    return [Part(**row._mapping) for row in rows]


def _place(home: Home, part: str) -> Path:
    return home.uploads / part


def complete(
    db: Database, home: Home, identifier: str, order: Sequence[str], *, md5: str, tenant: str, actor: str
) -> tuple[Partial, Upload]:
    """Put the parts together, in this order; the upload and the file that it became.

    Raises:
        NotFound: No such upload. Conflict: It is over, or somebody completes it. Invalid: The parts are not what was announced.
        LimitReached: There is no room for the file.
    """
    with db.writing() as conn:
        asked = _claimable(conn, identifier, tenant)
        chosen = _chosen(parts(conn, identifier), order, asked)
        _set(conn, identifier, state=COMPLETING, claimed_at=clock.iso())
    try:
        kept = _file(db, asked) or _kept(db, home, asked, _joined(home, chosen, md5), actor)
    except BaseException:
        with db.writing() as conn:
            _set(conn, identifier, state=PENDING, claimed_at="")
        raise
    with db.writing() as conn:
        _set(conn, identifier, state=COMPLETED, file=kept.id)
        audit.record(conn, actor=actor, action="upload.completed", subject=identifier, detail={"file": kept.id})
        gone = _dropped(conn, [identifier])
    _unlink(home, gone)
    return replace(asked, state=COMPLETED, file=kept.id), kept


def _file_id(asked: Partial) -> str:
    return f"file-{asked.id.removeprefix('upload_')}"


def _file(db: Database, asked: Partial) -> Upload | None:
    """The file that somebody made of it, who died before saying so."""
    try:
        with db.reading() as conn:
            return uploads.get(conn, _file_id(asked), tenant=asked.tenant)
    except NotFound:
        return None


def _kept(db: Database, home: Home, asked: Partial, whole: Path, actor: str) -> Upload:
    return uploads.add(
        db, home, whole, filename=asked.filename, purpose=asked.purpose, tenant=asked.tenant, actor=actor,
        expires_s=asked.keep_s, identifier=_file_id(asked),
    )  # fmt: skip


def _claimable(conn: sa.Connection, identifier: str, tenant: str) -> Partial:
    found = get(conn, identifier, tenant=tenant)
    died = clock.iso(clock.now() - timedelta(seconds=CLAIM_S))
    if found.state == COMPLETING and found.claimed_at < died:
        return found
    return _open(conn, identifier, tenant)


def _chosen(known: Sequence[Part], order: Sequence[str], asked: Partial) -> list[Part]:
    by_id = {one.id: one for one in known}
    if missing := next((one for one in order if one not in by_id), ""):
        raise Invalid(f"no part {missing[:100]!r} of this upload", where="part_ids", remedy="name those that it has")
    chosen = [by_id[one] for one in order]
    if len(set(order)) < len(order) or sum(one.bytes for one in chosen) != asked.bytes:
        raise Invalid(
            f"the parts have {sum(one.bytes for one in chosen):,} bytes; {asked.bytes:,} were announced", where="part_ids",
            remedy="name each part once, all of them",
        )  # fmt: skip
    return chosen


def _joined(home: Home, chosen: Sequence[Part], md5: str) -> Path:
    """One file out of parts. Raises Invalid when it is not the one that the client has."""
    place = uploads.arriving(home)
    try:
        with place.open("xb") as whole:
            for one in chosen:
                with _place(home, one.id).open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
        if md5 and _md5(place) != md5.lower():
            raise Invalid("The MD5 of the parts together is another one", where="md5", remedy="send the parts again")
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    return place


def _md5(path: Path) -> str:
    """As the client has it: a check of the way, not of an adversary."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cancel(db: Database, home: Home, identifier: str, *, tenant: str, actor: str) -> Partial:
    """Take an upload back, and its parts away. Raises NotFound, Conflict."""
    with db.writing() as conn:
        found = _open(conn, identifier, tenant)
        _set(conn, identifier, state=CANCELLED)
        audit.record(conn, actor=actor, action="upload.cancelled", subject=identifier, detail={})
        gone = _dropped(conn, [identifier])
    _unlink(home, gone)
    return replace(found, state=CANCELLED)


def _set(conn: sa.Connection, identifier: str, **values: Any) -> None:
    conn.execute(partial_uploads.update().where(partial_uploads.c.id == identifier).values(**values))


def _dropped(conn: sa.Connection, identifiers: Sequence[str]) -> list[str]:
    """The parts of these uploads, whose rows are gone with this."""
    mine = upload_parts.c.upload.in_(identifiers)
    gone = list(conn.execute(sa.select(upload_parts.c.id).where(mine)).scalars())
    conn.execute(upload_parts.delete().where(mine))
    return gone


def _unlink(home: Home, gone: Sequence[str]) -> None:
    for part in gone:
        _place(home, part).unlink(missing_ok=True)


def tidy(db: Database, home: Home) -> None:
    """Expire uploads whose hour is over, with their parts."""
    old = clock.iso(clock.now() - timedelta(seconds=OPEN_S))
    with db.writing() as conn:
        table = partial_uploads
        due = table.c.state.in_(OPEN) & (table.c.created_at < old)
        over = list(conn.execute(sa.select(table.c.id).where(due)).scalars())
        for one in over:
            _set(conn, one, state=EXPIRED)
        gone = _dropped(conn, over) if over else []
    _unlink(home, gone)


def held(conn: sa.Connection) -> set[str]:
    """The parts that lie here by right."""
    return set(conn.execute(sa.select(upload_parts.c.id)).scalars())


def to_dict(one: Partial, file: Upload | None = None) -> dict[str, Any]:
    """As OpenAI's API shows an upload."""
    state = PENDING if one.state == COMPLETING else one.state
    return {
        "id": one.id, "object": "upload", "bytes": one.bytes, "created_at": _seconds(one.created_at), "filename": one.filename,
        "purpose": one.purpose, "status": state, "expires_at": _seconds(one.until),
        "file": uploads.to_dict(file) if file else None,
    }  # fmt: skip


def part_dict(part: Part) -> dict[str, Any]:
    """As OpenAI's API shows a part."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": _seconds(part.created_at),
        "upload_id": part.upload,
    }


def _seconds(moment: str) -> int:
    return int(clock.parse(moment).timestamp())
