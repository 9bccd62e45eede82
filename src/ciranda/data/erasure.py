"""A person is forgotten in datasets: every version is written anew without their rows, and what only the old ones used is removed.

Theirs are the rows of the subject (as named, or hashed by this installation in a derived dataset), rows that came from their
interactions or say what they corrected, and the same example from the same place in whatever was derived from it. With `mentions`
also every row whose text names them.
A version keeps its number; its digest changes with its rows, and `dataset_redactions` keeps the old one beside the new one, so that
what a model version was trained on can still be told. Newest rows, tags and the database change under the lock of the dataset's
writers: nobody commits on top of what is being taken away. Killed anywhere, doing it again ends the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import columns, place, sets, shelf, statistics, versions
from ciranda.data.versions import DatasetVersion, dataset_versions
from ciranda.data.writing import Writing
from ciranda.store import clock
from ciranda.store.database import Database, metadata

if TYPE_CHECKING:
    import pyarrow as pa

dataset_redactions = sa.Table(
    "dataset_redactions",
    metadata,
    sa.Column("erasure", sa.String(60), primary_key=True),
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("before", sa.String(71), nullable=False),
    sa.Column("after", sa.String(71), nullable=False, index=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Theirs:
    """How rows of a person are known.

    Args:
        names: The subject as stored, plain and hashed.
        origins: Ids of their interactions.
        corrections: (interaction, what they said it should have been).
        examples: (key, origin) of rows found to be theirs, known by the next datasets.
        mentioned: A word whose presence in any text makes a row theirs; empty for none.
    """

    names: frozenset[str]
    origins: frozenset[str] = frozenset()
    corrections: frozenset[tuple[str, str]] = frozenset()
    examples: frozenset[tuple[str, str]] = frozenset()
    mentioned: str = ""

    def has(self, row: dict[str, Any]) -> bool:
        """Whether a stored row is theirs."""
        if row["subject"] in self.names or row["origin"] in self.origins:
            return True
        if (row["origin"], row["completion"].strip()) in self.corrections or (
            row["key"],
            row["origin"],
        ) in self.examples:
            return True
        return bool(self.mentioned) and any(self.mentioned in str(row[name]) for name in WORDS)

    def kept(self, batch: pa.RecordBatch) -> pa.Array:
        """A boolean for each row of a batch: whether it stays."""
        import pyarrow as pa

        held = [batch.column(name).to_pylist() for name in LOOKED]
        rows = (dict(zip(LOOKED, values, strict=True)) for values in zip(*held, strict=True))
        return pa.array([not self.has(row) for row in rows], type=pa.bool_())


WORDS = ("messages", "completion", "rejected", "extra", "tags", "group", "origin", "source")
LOOKED = ("key", "subject", *WORDS)


@dataclass
class Found:
    """What is theirs in the datasets: how many rows by version, and what stands in them."""

    rows: dict[str, int] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    examples: set[tuple[str, str]] = field(default_factory=set)


def find(db: Database, home: Home, theirs: Theirs) -> Found:
    """Look through every version of every dataset; rows of derived datasets are known by those of their sources."""
    found = Found()
    for line in _pools(db, home).values():
        for version in line:
            for row in _theirs(home, version.ref, theirs):
                found.rows[version.ref] = found.rows.get(version.ref, 0) + 1
                found.texts |= _texts(row)
                if row["origin"]:
                    found.examples.add((row["key"], row["origin"]))
    return found


def erase(db: Database, home: Home, erasure: str, theirs: Theirs) -> dict[str, int]:
    """Write every version that has rows of theirs anew; returns how many rows went, by version.

    What will be written is noted before, and settled after: a kill in between shows as a note without a digest.
    """
    removed: dict[str, int] = {}
    for line in _pools(db, home).values():
        with shelf.alone(place.of(home, line[0].name)):
            line = [versions.get(db, one.ref) for one in line]
            _plan(db, erasure, [(one, sum(1 for _ in _theirs(home, one.ref, theirs))) for one in line])
            noted = _redacted(db, erasure, {one.name for one in line})
            if any(not one["after"] for one in noted):
                _settle(db, erasure, _rewritten(home, line, theirs))
            for one in noted:
                shelf.unkeep(place.of(home, one["dataset"]), one["number"])
            if noted:
                shelf.sweep(place.of(home, line[0].name))
        removed |= {f"{one['dataset']}@{one['number']}": int(one["rows"]) for one in noted}
    return removed


def _rewritten(home: Home, line: Sequence[DatasetVersion], theirs: Theirs) -> list[DatasetVersion]:
    """The versions of a pool, each written as its difference to the one before it; the first one whole, over everything.

    Tags move one by one, each at once from the old rows to the new ones, so a reader never finds a version missing. What only the
    old ones used stays until the sweep. Done again after a kill, it does the same again.
    """
    before: int | None = None
    made = []
    for one in line:
        where = place.of(home, one.name)
        tag = where.tag(one.number)
        gone = sets.ordered(_prints(_batches(home, one.ref, theirs, stay=False)))
        held = shelf.held(where, tag)
        kept = held.where(~sets.within(held.prints, gone))
        writing = Writing(where, before)
        if before is None:
            writing.append(shelf.taken(where, tag, kept.ids))
        else:
            now = shelf.held(where, before)
            come, left = sets.without(kept, now), sets.without(now, kept)
            if len(come):
                writing.append(shelf.taken(where, tag, come.ids))
            writing.change(left.ids)
        before, fresh = writing.done()
        shelf.tag(where, one.number, before, fresh=fresh)
        counts = sets.Counts.of(shelf.batches(where, before, columns=sets.COUNTED)).to_dict()
        digest = sets.digest(sets.ordered(kept.prints))
        made.append(replace(one, digest=digest, rows=len(kept), counts=counts, lance_version=before))
    return made


def texts_of(messages: str, *others: str) -> set[str]:
    """What people and models said in a row; the system prompt is the application's."""
    said = {str(one.get("content", "")) for one in json.loads(messages or "[]") if one.get("role") != "system"}
    return {text for text in (*said, *others) if text}


def redactions(conn: sa.Connection, erasure: str) -> list[dict[str, Any]]:
    """The versions that an erasure wrote anew, with both digests."""
    query = sa.select(dataset_redactions).where(dataset_redactions.c.erasure == erasure)
    rows = conn.execute(query.order_by(dataset_redactions.c.dataset, dataset_redactions.c.number))
    return [dict(row._mapping) for row in rows]


def since(conn: sa.Connection, ref: str, digest: str) -> list[str]:
    """The erasures that wrote a version anew after it had this digest: whoever learnt from it then learnt from them."""
    name, _, number = ref.partition("@")
    mine = dataset_redactions.c
    query = sa.select(mine.erasure).where(mine.dataset == name, mine.number == int(number or 0), mine.before == digest)
    return [str(one) for one in conn.execute(query).scalars()]


def _pools(db: Database, home: Home) -> dict[str, list[DatasetVersion]]:
    """Every version whose rows are there, by the pool that they lie in, in the order of writing."""
    query = sa.select(dataset_versions).where(dataset_versions.c.collected_at == "")
    with db.reading() as conn:
        every = [versions.version_of(row) for row in conn.execute(query.order_by(dataset_versions.c.lance_version))]
    pools: dict[str, list[DatasetVersion]] = {}
    for one in every:
        pools.setdefault(place.of(home, one.name).pool, []).append(one)
    return pools


def _theirs(home: Home, ref: str, theirs: Theirs) -> Iterator[dict[str, Any]]:
    return (row for batch in _batches(home, ref, theirs, stay=False) for row in batch.to_pylist())


def _batches(home: Home, ref: str, theirs: Theirs, *, stay: bool) -> Iterator[pa.RecordBatch]:
    """The rows that stay, or those that do not."""
    import pyarrow.compute as pc

    for batch in versions.batches(home, ref, columns=(*LOOKED, "fingerprint")):
        kept = theirs.kept(batch)
        yield batch.filter(kept if stay else pc.invert(kept))


def _prints(found: Iterable[pa.RecordBatch]) -> Any:
    """Their fingerprints, 32 bytes each."""
    return sets.joined([columns.digests(batch, "fingerprint") for batch in found if len(batch)], "S32")


def _texts(row: dict[str, Any]) -> set[str]:
    return texts_of(row["messages"], row["completion"], row["rejected"])


def _plan(db: Database, erasure: str, counts: Sequence[tuple[DatasetVersion, int]]) -> None:
    """Note which versions will be written anew, with the digests that they have until then."""
    with db.writing() as conn:
        known = {(one["dataset"], one["number"]) for one in redactions(conn, erasure)}
        for one, count in counts:
            if count and (one.name, one.number) not in known:
                conn.execute(
                    dataset_redactions.insert().values(
                        erasure=erasure, dataset=one.name, number=one.number, before=one.digest, after="",
                        rows=count, at=clock.iso(),
                    )
                )  # fmt: skip


def _settle(db: Database, erasure: str, made: Sequence[DatasetVersion]) -> None:
    """Tell the database what the versions are now: one transaction for all of them."""
    with db.writing() as conn:
        for name in {one.name for one in made}:
            statistics.forget(conn, name)  # they may name what only these rows held; control counts them anew
        for one in made:
            mine = (dataset_versions.c.dataset == one.name) & (dataset_versions.c.number == one.number)
            values = {name: getattr(one, name) for name in ("digest", "rows", "counts", "lance_version")}
            conn.execute(dataset_versions.update().where(mine).values(values))
            noted = (dataset_redactions.c.dataset == one.name) & (dataset_redactions.c.number == one.number)
            conn.execute(
                dataset_redactions.update()
                .where(noted, dataset_redactions.c.erasure == erasure)
                .values(after=one.digest, at=clock.iso())
            )


def _redacted(db: Database, erasure: str, names: Collection[str]) -> list[dict[str, Any]]:
    with db.reading() as conn:
        return [one for one in redactions(conn, erasure) if one["dataset"] in names]
