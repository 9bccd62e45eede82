"""What is known of dataset versions: their tables, and looking them up by number, name and time.

A row of `dataset_versions` never changes, but for two things that the law and the disk ask for: an erasure gives a version
another digest, and garbage collection takes its rows (`collected_at`). Parents stand in a table of their own, so that lineage goes
both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.data import place
from ciranda.errors import Conflict, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

FORMAT = "2.2"  # of the files; older ones do not compress text well

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


Within = Callable[[sa.Connection, DatasetVersion], None]


def register(
    db: Database,
    version: DatasetVersion,
    *,
    tag: Callable[[], None],
    within: Within | None = None,
    pool: str = "",
    branched_from: str = "",
) -> DatasetVersion:
    """Make a version known whose rows are written: dataset row, version row, parents, audit event and `within`, all or nothing.

    `tag` names its rows in the pool, once its number is ours: of two machines that want the same number, the slower one must not
    take the other's name away.
    Raises Conflict when its number was taken in the meantime.
    """
    try:
        with db.writing() as conn:
            _write(conn, version, pool or version.name, branched_from)
            tag()
            if within:
                within(conn, version)
    except sa.exc.IntegrityError as error:
        raise Conflict(
            f"{version.ref} was committed by somebody else in the meantime",
            where=version.name,
            remedy="build the rows on the newest version and commit again",
        ) from error
    return version


def newest_of(db: Database, dataset: str) -> DatasetVersion | None:
    """The newest registered version, or None."""
    mine = dataset_versions.c.dataset == dataset
    query = sa.select(dataset_versions).where(mine).order_by(dataset_versions.c.number.desc()).limit(1)
    return _first(db, query)


def line(db: Database, dataset: str, *, before: int | None = None, limit: int = 50) -> list[DatasetVersion]:
    """The versions of a dataset, newest first. Raises NotFound for a dataset that nobody committed."""
    query = sa.select(dataset_versions).where(dataset_versions.c.dataset == dataset)
    if before is not None:
        query = query.where(dataset_versions.c.number < before)
    with db.reading() as conn:
        found = conn.execute(query.order_by(dataset_versions.c.number.desc()).limit(limit)).all()
        known = conn.execute(sa.select(datasets.c.name).where(datasets.c.name == dataset)).first()
    if not known:
        raise NotFound(f"no dataset {dataset!r}", where="datasets", remedy="commit one: `ciranda ingest <model>`")
    return [version_of(one) for one in found]


def at(db: Database, dataset: str, moment: str) -> DatasetVersion:
    """The version that was the newest at a moment (ISO 8601, UTC when it names no zone). Raises Invalid, NotFound."""
    until = clock.iso(clock.parse(moment))
    mine = (dataset_versions.c.dataset == dataset) & (dataset_versions.c.created_at <= until)
    query = sa.select(dataset_versions).where(mine).order_by(dataset_versions.c.number.desc()).limit(1)
    if found := _first(db, query):
        return found
    raise NotFound(f"{dataset} had no version at {until}", where=dataset, remedy=f"`ciranda datasets show {dataset}`")


def get(db: Database, ref: str) -> DatasetVersion:
    """A registered version by its name: `smart-home@2`, by a tag or alias: `smart-home@golden`, by a moment at which it was the
    newest: `smart-home@2026-11-23T12:00Z`; `smart-home` alone is the newest. Raises NotFound, Invalid."""
    name, _, which = ref.partition("@")
    if not which:
        found = newest_of(db, name)
    elif which[:4].isdecimal() and which[4:5] == "-":
        return at(db, name, which)
    else:
        place.parse_name(ref)
        number = int(which) if which.isdecimal() else sa.select(dataset_aliases.c.number).where(
            dataset_aliases.c.dataset == name, dataset_aliases.c.name == which
        ).scalar_subquery()  # fmt: skip
        mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == number)
        found = _first(db, sa.select(dataset_versions).where(mine))
    if not found:
        raise NotFound(
            f"no dataset version {ref}", where="datasets", remedy="`ciranda datasets show` lists what there is"
        )
    return found


def _write(conn: sa.Connection, version: DatasetVersion, pool: str, branched_from: str) -> None:
    values = {name: value for name, value in version.__dict__.items() if name != "name"}
    values |= {"parents": list(version.parents), "dataset": version.name, "format": FORMAT}
    made = {"created_at": version.created_at, "created_by": version.created_by}
    if not conn.execute(sa.select(datasets.c.name).where(datasets.c.name == version.name)).first():
        conn.execute(datasets.insert().values(name=version.name, pool=pool, branched_from=branched_from, **made))
    conn.execute(dataset_versions.insert().values(**values))
    for parent in version.parents:
        conn.execute(dataset_parents.insert().values(dataset=version.name, number=version.number, parent=parent))
    audit.record(
        conn,
        actor=version.created_by,
        action="dataset.committed",
        subject=version.ref,
        detail={"digest": version.digest, "rows": version.rows, "parents": list(version.parents)},
    )


def _first(db: Database, query: sa.Select[Any]) -> DatasetVersion | None:
    with db.reading() as conn:
        found = conn.execute(query).first()
    return version_of(found) if found else None


def version_of(found: sa.Row[Any]) -> DatasetVersion:
    """A row of `dataset_versions` as a value."""
    values = dict(found._mapping)
    values.pop("format")
    return DatasetVersion(name=values.pop("dataset"), parents=tuple(values.pop("parents")), **values)
