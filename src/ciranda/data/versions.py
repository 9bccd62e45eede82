"""Versions of a dataset: immutable, numbered, named by the digest of their rows.

The digest is SHA-256 over the sorted fingerprints of the rows (each covers the row's key and every fact except source and
origin), so the same rows give the same digest in any order, from any files, on any machine. A version is a set: the same
example twice is one row. Committing what the newest version already holds gives that version back, so a step that is run again
after a crash makes nothing new.
The order of a commit is its safety: rows are written and synced first, then tagged, then registered in one database
transaction with the audit event. A kill at any line leaves the version before as the newest, and a retry succeeds.
It refuses a parent that is no longer the newest (Conflict), an empty version, and names that could leave the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import shelf
from ciranda.data.rows import Row
from ciranda.errors import Conflict, Invalid, NotFound, Refused
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata
from ciranda.store.files import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("pool", sa.String(63), nullable=False),
    sa.Column("branched_from", sa.String(80), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("dataset", sa.String(63), sa.ForeignKey("datasets.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("parents", sa.JSON, nullable=False),
    sa.Column("transformation", sa.JSON, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("lance_version", sa.Integer, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("collected_at", sa.String(32), nullable=False),
)

dataset_parents = sa.Table(
    "dataset_parents",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("parent", sa.String(80), primary_key=True, index=True),
    sa.ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
)

dataset_aliases = sa.Table(
    "dataset_aliases",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("fixed", sa.Boolean, nullable=False),
    sa.Column("set_at", sa.String(32), nullable=False),
    sa.Column("set_by", sa.String(200), nullable=False),
    sa.ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
)


@dataclass(frozen=True)
class DatasetVersion:
    """One registered version. `counts` holds rows per split, language and source, and per language and split."""

    name: str
    number: int
    digest: str
    rows: int
    counts: dict[str, Any]
    parents: tuple[str, ...]
    transformation: dict[str, Any]
    report: dict[str, Any]
    lance_version: int
    created_at: str
    created_by: str
    collected_at: str = ""

    @property
    def ref(self) -> str:
        """The version's name, as in `smart-home@2`."""
        return f"{self.name}@{self.number}"

    @property
    def parent(self) -> str:
        """The first parent: the version before it in its line, or the one that its line began from."""
        return self.parents[0] if self.parents else ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API and the pages show it."""
        return {**self.__dict__, "ref": self.ref, "parent": self.parent, "parents": list(self.parents)}


@dataclass(frozen=True)
class Diff:
    """What leads from one version to another: rows that came, rows that went, rows whose split or other facts changed."""

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[tuple[Row, Row], ...]

    def apply(self, rows: Iterable[Row]) -> list[Row]:
        """`rows` of the first version become those of the second."""
        gone = {row.key for row in self.removed} | {old.key for old, _ in self.changed}
        return [*(row for row in rows if row.key not in gone), *self.added, *(new for _, new in self.changed)]

    def summary(self) -> dict[str, int]:
        """The three counts."""
        return {"added": len(self.added), "removed": len(self.removed), "changed": len(self.changed)}


def digest_of(rows: Iterable[Row]) -> str:
    """The digest of a set of rows; order and doubles do not count."""
    prints = sorted({row.key: row.fingerprint for row in rows}.values())
    return f"sha256:{hashlib.sha256(bytes.fromhex(''.join(prints))).hexdigest()}"


def commit(
    db: Database,
    home: Home,
    dataset: str,
    rows: Iterable[Row],
    *,
    parent: str | None = None,
    transformation: Mapping[str, Any],
    actor: str,
    report: Mapping[str, Any] | None = None,
    within: Callable[[sa.Connection, DatasetVersion], None] | None = None,
) -> DatasetVersion:
    """Make `rows` (all of them, not only the new ones) the next version of `dataset`.

    Args:
        parent: The version the rows were made from; None takes the newest there is.
        transformation: What made the rows: sources, checks, cause. Goes into lineage.
        within: Called in the transaction that registers the version (an ingestion moves its cursor there).

    Raises Conflict when `parent` is not the newest any more, Refused when there is no row, StorageFull on a full disk.
    """
    content = _set_of(rows)
    if not content:
        raise Refused(
            f"dataset {dataset} would be empty", where=dataset, remedy="look at the sources and the check report"
        )
    path, digest = _path(home, dataset), digest_of(content.values())
    with shelf.alone(path):
        newest = newest_of(db, dataset)
        if newest and newest.digest == digest and parent in (None, newest.ref, newest.parent):
            return _settled(db, newest, within)
        if parent and (newest is None or parent != newest.ref):
            raise Conflict(
                f"{parent} is not the newest version of {dataset}, {newest.ref if newest else 'none'} is",
                where=dataset,
                remedy="build the rows on the newest version and commit again",
            )
        stored = shelf.store(path, content, base=newest.lance_version if newest else None)
        version = DatasetVersion(
            dataset,
            newest.number + 1 if newest else 1,
            digest,
            len(content),
            _counts(content.values()),
            (newest.ref,) if newest else (),
            dict(transformation),
            dict(report or {}),
            stored,
            clock.iso(),
            actor,
        )
        shelf.tag(path, version.number, stored)
        return _register(db, version, within)


def newest_of(db: Database, dataset: str) -> DatasetVersion | None:
    """The newest registered version, or None."""
    query = sa.select(dataset_versions).where(dataset_versions.c.dataset == dataset)
    with db.reading() as conn:
        found = conn.execute(query.order_by(dataset_versions.c.number.desc()).limit(1)).first()
    return _version(found) if found else None


def get(db: Database, ref: str) -> DatasetVersion:
    """A registered version by its name, `smart-home@2`; `smart-home` alone is the newest. Raises NotFound."""
    name, _, number = ref.partition("@")
    if not number:
        if version := newest_of(db, name):
            return version
        raise _missing(ref)
    name, wanted = parse_ref(ref)
    with db.reading() as conn:
        found = conn.execute(
            sa.select(dataset_versions).where(dataset_versions.c.dataset == name, dataset_versions.c.number == wanted)
        ).first()
    if not found:
        raise _missing(ref)
    return _version(found)


def parse_ref(ref: str) -> tuple[str, int]:
    """`smart-home@2` as name and number. Raises Invalid."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9-]{0,62})@([1-9]\d{0,8})", ref)
    if not match:
        raise Invalid(f"{ref!r} names no dataset version", where="dataset", remedy="write it as smart-home@2")
    return match[1], int(match[2])


def batches(
    home: Home,
    ref: str,
    *,
    split: str | None = None,
    language: str | None = None,
    source: str | None = None,
    columns: Sequence[str] = shelf.COLUMNS,
) -> Iterator[pa.RecordBatch]:
    """A version's rows as Arrow batches, without the database: jobs read this way. Raises NotFound."""
    name, number = parse_ref(ref)
    where = {"split": split, "language": language, "source": source}
    return shelf.batches(_path(home, name), number, columns=columns, where=where)


def read(
    home: Home, ref: str, *, split: str | None = None, language: str | None = None, source: str | None = None
) -> list[Row]:
    """A version's rows as values."""
    found = batches(home, ref, split=split, language=language, source=source)
    return [row for batch in found for row in shelf.rows_of(batch)]


def export(home: Home, ref: str, path: Path, *, split: str | None = None, language: str | None = None) -> int:
    """Write a version's rows as JSONL (messages, completion, language, key) for a training job; returns how many.

    The file appears whole and synced, or not at all.
    """
    beside, count = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for batch in batches(home, ref, split=split, language=language):
                for record in batch.select(["messages", "completion", "language", "key"]).to_pylist():
                    record["messages"] = json.loads(record["messages"])
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return count


def diff(home: Home, before: str, after: str) -> Diff:
    """What changed from one version to another, with the rows themselves."""
    (name, first), (other, second) = parse_ref(before), parse_ref(after)
    old, new = shelf.held(_path(home, name), first), shelf.held(_path(home, other), second)
    changed = {key for key in old.keys() & new.keys() if old[key] != new[key]}
    was = _picked(home, before, (old.keys() - new.keys()) | changed)
    now = _picked(home, after, (new.keys() - old.keys()) | changed)
    return Diff(
        tuple(row for key, row in sorted(now.items()) if key not in old),
        tuple(row for key, row in sorted(was.items()) if key not in new),
        tuple((was[key], now[key]) for key in sorted(changed)),
    )


def _picked(home: Home, ref: str, keys: set[str]) -> dict[str, Row]:
    """The rows with these keys; whole rows are read only from batches that hold one."""
    if not keys:
        return {}
    picked: dict[str, Row] = {}
    for batch in batches(home, ref):
        places = [place for place, key in enumerate(batch.column("key").to_pylist()) if key in keys]
        picked.update((row.key, row) for row in shelf.rows_of(batch.take(places))) if places else None
    return picked


def _set_of(rows: Iterable[Row]) -> dict[str, Row]:
    content: dict[str, Row] = {}
    for row in rows:
        content.setdefault(row.key, row)
    return content


def _counts(rows: Iterable[Row]) -> dict[str, Any]:
    rows = list(rows)
    table = Counter((row.language, row.split) for row in rows)
    return {
        "split": dict(Counter(row.split for row in rows)),
        "language": dict(Counter(row.language for row in rows)),
        "source": dict(Counter(row.source for row in rows)),
        "language_split": {
            language: {split: n for (spoken, split), n in table.items() if spoken == language}
            for language in {row.language for row in rows}
        },
    }


def _register(
    db: Database, version: DatasetVersion, within: Callable[[sa.Connection, DatasetVersion], None] | None
) -> DatasetVersion:
    """Make the version known: dataset row, version row, audit event and `within`, all or nothing."""
    values = {name: value for name, value in version.__dict__.items() if name != "name"} | {
        "parents": list(version.parents)
    }
    try:
        with db.writing() as conn:
            known = conn.execute(sa.select(datasets.c.name).where(datasets.c.name == version.name)).first()
            if not known:
                conn.execute(
                    datasets.insert().values(
                        name=version.name, pool=version.name, branched_from="", created_at=version.created_at,
                        created_by=version.created_by,
                    )
                )  # fmt: skip
            conn.execute(dataset_versions.insert().values(dataset=version.name, format=shelf.FORMAT, **values))
            for parent in version.parents:
                conn.execute(
                    dataset_parents.insert().values(dataset=version.name, number=version.number, parent=parent)
                )
            audit.record(
                conn,
                actor=version.created_by,
                action="dataset.committed",
                subject=version.ref,
                detail={"digest": version.digest, "rows": version.rows, "parents": list(version.parents)},
            )
            if within:
                within(conn, version)
    except sa.exc.IntegrityError as error:
        raise Conflict(
            f"{version.ref} was committed by somebody else in the meantime",
            where=version.name,
            remedy="build the rows on the newest version and commit again",
        ) from error
    return version


def _settled(
    db: Database, version: DatasetVersion, within: Callable[[sa.Connection, DatasetVersion], None] | None
) -> DatasetVersion:
    """Nothing to write; whoever wanted to act within the commit still does."""
    if within:
        with db.writing() as conn:
            within(conn, version)
    return version


def _version(found: sa.Row[Any]) -> DatasetVersion:
    values = dict(found._mapping)
    values.pop("format")
    return DatasetVersion(name=values.pop("dataset"), parents=tuple(values.pop("parents")), **values)


def _path(home: Home, name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise Invalid(
            f"{name!r} is no name for a dataset", where="dataset", remedy="use small letters, digits and hyphens"
        )
    return home.datasets / f"{name}.lance"


def _missing(ref: str) -> NotFound:
    return NotFound(f"no dataset version {ref}", where="datasets", remedy="list what there is with `ciranda status`")
