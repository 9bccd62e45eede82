"""Taking a version's weights away, and leaving everything that is said of it.

Answers, verdicts and other versions name a version for ever, so its row, manifest, card, bill of materials and history stay; only
the weights go, and with them the way back to it. Refused while somebody still needs them: it answers, it is where a rollback goes,
it is being released or made, a name stands for it, or it answered users within `retention: {versions: …}` of its model's file.
Where that is set, weights of versions that nobody is answered by go by themselves when it is over.

The row is marked in one transaction with the audit event, then the files go; a kill between leaves files, which the next look
removes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import CirandaError, Conflict, Refused
from ciranda.registry import aliases, flags, folders, history, models, versions
from ciranda.registry.versions import Version
from ciranda.store import clock
from ciranda.store.database import Database

ROLLOUTS = sa.table("rollouts", *map(sa.column, ("candidate", "champion", "ended_at")))
TURNS = sa.table("turns", *map(sa.column, ("id", "version", "ended_at")))


def remove(db: Database, home: Home, ref: str, *, reason: str, actor: str) -> Version:
    """Take a version's weights away for good. Doing it again changes nothing.

    Raises:
        Conflict: It is live, where a rollback goes, being released or made, or a name stands for it.
        Refused: It answered users within the retention of its model.
    """
    with db.writing() as conn:
        version = versions.get(conn, ref)
        models.lock(conn, version.model)
        if not version.removed_at:
            _demand_unneeded(conn, version)
            versions.removed(conn, ref, reason=reason, actor=actor)
            flags.gone(conn, ref, actor=actor)
        version = versions.get(conn, ref)
        record = versions.known(conn, version)
    _clear(home, version)
    folders.refresh(home, record)
    return version


def sweep(db: Database, home: Home) -> list[str]:
    """Remove what retention says is due, and what a killed removal left; the names of versions whose weights went."""
    with db.reading() as conn:
        due = [version for model in models.every(conn) for version in _due(conn, model)]
        left = [one for one in _every(conn) if one.removed_at and _weights(one)]
    gone = []
    for version in due:
        try:
            remove(db, home, version.ref, reason="its retention is over", actor="retention")
        except CirandaError:
            continue  # needed since it was looked at: the next look asks again
        gone.append(version.ref)
    for version in left:
        _clear(home, version)
    return gone


def _due(conn: sa.Connection, model: models.Model) -> Iterator[Version]:
    keep = model.spec.retention.versions
    if keep is None:
        return
    for version in versions.of(conn, model.name):
        last = _last_needed(conn, version)
        old = clock.now() - timedelta(seconds=keep) > clock.parse(last)
        if version.stage in ("retired", "refused") and version.tuning and not version.removed_at and old:
            yield version


def _last_needed(conn: sa.Connection, version: Version) -> str:
    """When it last changed its stage: stopped to answer, or was refused."""
    mine = [one.at for one in history.of(conn, version.model) if one.number == version.number]
    return mine[-1] if mine else version.created_at


def _every(conn: sa.Connection) -> Iterator[Version]:
    for model in models.every(conn):
        yield from versions.of(conn, model.name)


def _demand_unneeded(conn: sa.Connection, version: Version) -> None:
    ref = version.ref
    if version.stage == "live" or not version.tuning:
        what = "is live" if version.stage == "live" else "is the bare base, which has no weights of its own"
        raise Conflict(f"{ref} {what}", where="versions", remedy="remove a version that answers nobody")
    before = versions.previous(conn, version.model)
    if before is not None and before.ref == ref:
        raise Conflict(f"{ref} is where a rollback of {version.model} goes", where="versions",
                       remedy="wait until another version took its place")  # fmt: skip
    for table, column, what in ((ROLLOUTS, "candidate", "is being released"), (TURNS, "version", "is being made")):
        if sa.inspect(conn).has_table(table.name):
            ended = sa.or_(table.c.ended_at.is_(None), table.c.ended_at == "")
            if conn.execute(sa.select(table.c[column]).where(table.c[column] == ref, ended)).first():
                raise Conflict(f"{ref} {what}", where=table.name, remedy="wait for its end")
    aliases.free(conn, ref)
    keep = models.get(conn, version.model).spec.retention.versions
    if keep is not None and versions.was_live(conn, ref):
        until = clock.parse(_last_needed(conn, version)) + timedelta(seconds=keep)
        if until > clock.now():
            raise Refused(
                f"{ref} answered users, and is kept until {clock.iso(until)}", where="retention: versions",
                remedy="wait, or say another time in the model's file",
            )  # fmt: skip


def _weights(version: Version) -> list[Path]:
    folder = Path(version.folder)
    found = [folder / name for name in (folders.ADAPTER, folders.WEIGHTS, folders.ADAPTER_GGUF, folders.MODEL_GGUF)]
    return [path for path in found if path.exists()]


def _clear(home: Home, version: Version) -> None:
    """Remove the weights from the version's own folder, which lies in this home."""
    if not Path(version.folder).resolve().is_relative_to(folders.root(home).resolve()):
        return
    for path in _weights(version):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
