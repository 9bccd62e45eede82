"""The one door to rows: whoever reads them says who they are and what for, and sees what the policies leave.

    batches   Arrow batches, streamed       read   rows as values         count   how many there are
    export    the file that training reads     taken   a file that leaves, noted in the register     diff   between versions

Pages, the API, exports, training, evaluation, drift references and the demo come through here; a layout test forbids other ways
(`versions.batches` and the shelf are for writing the next version of a dataset, inside `data`). When no policy touches what is
read, batches pass as they lie on the shelf. It refuses filters on a field that the reader does not see, since which rows come
back would tell what stands in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.config import Home
from ciranda.data import exports, facts, place, shelf, versions
from ciranda.data.masks import MASKED, Veil
from ciranda.data.movement import Movement, between
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion, Diff
from ciranda.errors import Forbidden
from ciranda.govern import policies, pseudonyms
from ciranda.govern.access import Principal
from ciranda.govern.policy import PLATFORM, Decision, Purpose, Reader, decide
from ciranda.store.database import Database
from ciranda.store.files import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

TRAINED = ("messages", "completion", "rejected", "thumb", "language", "key")
TAKEN = tuple(name for name in shelf.COLUMNS if name not in ("prompt", "fingerprint"))


def asking(principal: Principal, purpose: Purpose) -> Reader:
    """A key's holder, as policies know them."""
    return Reader(principal.name, principal.role, purpose, principal.key, principal.tenant)


def itself(purpose: Purpose, *, actor: str = "loop") -> Reader:
    """The platform, when it reads for its own work."""
    return Reader(actor, PLATFORM, purpose)


def decision(db: Database, ref: str, reader: Reader) -> Decision:
    """What binds this reader on a dataset (a version's name will do). Raises Forbidden when it is closed to them."""
    with db.reading() as conn:
        found = decide(policies.current(conn), reader, facts.of(conn, ref.partition("@")[0]))
    if found.closed:
        raise Forbidden(
            f"{ref} is closed to {reader.actor!r} ({reader.role}) for {reader.purpose}",
            where=f"policy {found.closed}",
            remedy=f"`ciranda policy show {found.closed}` says why; an admin may except you",
        )
    return found


def batches(
    db: Database,
    home: Home,
    ref: str,
    reader: Reader,
    *,
    split: str | None = None,
    language: str | None = None,
    source: str | None = None,
    key: str | None = None,
    columns: Sequence[str] = shelf.COLUMNS,
) -> Iterator[pa.RecordBatch]:
    """A version's rows as Arrow batches in the stored schema, as the reader may see them. Raises NotFound, Forbidden."""
    whole = decision(db, ref, reader)
    _refuse_telling(whole, {"language": language, "source": source}, reader)
    veil = _veil(home, whole, columns)
    asked = veil.needs(columns) if veil else tuple(columns)
    found = versions.batches(home, ref, split=split, language=language, source=source, key=key, columns=asked)
    return (veil.over(batch, columns) for batch in found) if veil else found


def read(
    db: Database,
    home: Home,
    ref: str,
    reader: Reader,
    *,
    split: str | None = None,
    language: str | None = None,
    source: str | None = None,
    key: str | None = None,
    said: str = "",
) -> Iterator[Row]:
    """A version's rows as values, one after the other; with `said` only those whose prompt (as the reader sees it) has that."""
    found = batches(db, home, ref, reader, split=split, language=language, source=source, key=key)
    return (row for batch in found for row in _rows(_saying(batch, said)))


def count(
    db: Database,
    home: Home,
    ref: str,
    reader: Reader,
    *,
    split: str | None = None,
    language: str | None = None,
    said: str = "",
) -> int:
    """How many rows the reader may see; with `said` of those whose prompt has that text."""
    version = versions.get(db, ref)
    if said:
        found = batches(db, home, version.ref, reader, split=split, language=language, columns=("prompt",))
        return sum(len(_saying(batch, said)) for batch in found)
    if not decision(db, ref, reader).rows:
        table: Mapping[str, Mapping[str, int]] = version.counts.get("language_split", {})
        return sum(
            int(number)
            for spoken, splits in table.items()
            for part, number in splits.items()
            if split in (None, part) and language in (None, spoken)
        )
    found = batches(db, home, version.ref, reader, split=split, language=language, columns=("key",))
    return sum(len(batch) for batch in found)


def export(
    db: Database,
    home: Home,
    ref: str,
    path: Path,
    reader: Reader,
    *,
    split: str | None = None,
    language: str | None = None,
    where: exports.Where | None = None,
) -> int:
    """Write what training reads of a version's rows as JSONL, those for which `where` holds; returns how many. The file
    appears whole and synced, or not at all."""
    found = batches(db, home, ref, reader, split=split, language=language, columns=TRAINED)
    beside, number = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with beside.open("wb") as file:
            for batch in found:
                records = list(exports.records(batch, where))
                number += len(records)
                file.write(exports.text(records))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return number


def taken(
    db: Database,
    home: Home,
    ref: str,
    reader: Reader,
    *,
    format_: str,
    split: str | None = None,
    language: str | None = None,
) -> Iterator[bytes]:
    """A version's rows as a file that leaves the house, in pieces; the register says so before the first of them goes."""
    found = decision(db, ref, reader)
    rows = batches(db, home, ref, reader, split=split, language=language, columns=TAKEN)
    pieces = exports.written(rows, format_)
    first = next(pieces, b"")  # what goes wrong at the start is an error, not a file that ends early
    with db.writing() as conn:
        exports.note(conn, ref, reader, format_=format_, found=found)
    return chain([first], pieces)


def diff(db: Database, home: Home, before: str, after: str, reader: Reader, *, most: int | None = None) -> Diff:
    """What changed between two versions, as far as the reader may see it; at most `most` rows of each kind, and all counts."""
    found = versions.diff(home, before, after, most=most)
    old, new = decision(db, before, reader), decision(db, after, reader)
    changed = [
        pair
        for was, now in found.changed
        for pair in zip(_shown(home, old, [was]), _shown(home, new, [now]), strict=False)
    ]
    counts = None if old.rows or new.rows else found.counts  # who does not see all rows is not told how many there are
    added, removed = tuple(_shown(home, new, found.added)), tuple(_shown(home, old, found.removed))
    return Diff(added, removed, tuple(changed), counts)


def movement(db: Database, home: Home, before: str, after: str, reader: Reader) -> Movement:
    """How the whole moved between two versions, without the fields that the reader does not see; nothing when rows are hidden."""
    old, new = decision(db, before, reader), decision(db, after, reader)
    if old.rows or new.rows:
        return Movement((0, 0), ())
    return between(home, before, after, hidden={*old.fields, *new.fields})


def findings(
    db: Database, home: Home, ref: str, reader: Reader, *, check: str = "", start: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """What the checks found in a version, row by row; what it quotes is masked as in the report."""
    version, found = versions.get(db, ref), decision(db, ref, reader)
    told = shelf.kept(place.of(home, version.name), version.number, check=check, start=start, limit=limit)
    shown: list[dict[str, Any]] = quoted(told, found)
    return shown


def report(db: Database, version: DatasetVersion, reader: Reader) -> dict[str, Any]:
    """A version's check report; what it quotes of rows is masked when the reader does not see their texts."""
    found = decision(db, version.ref, reader)
    return quoted(version.report, found) if found.fields or found.rows else version.report


def quoted(value: Any, found: Decision) -> Any:
    """A report or an ingestion's detail without what a restricted reader could learn from the rows it quotes."""
    if not (found.texts or found.rows):
        return value
    if isinstance(value, Mapping):
        return {name: MASKED if name in _QUOTES else quoted(one, found) for name, one in value.items()}
    return [quoted(one, found) for one in value] if isinstance(value, list | tuple) else value


_QUOTES = frozenset({"reason", "prompt", "answers", "origin", "where", "key", "text", "contradicted"})


@dataclass(frozen=True)
class Preview:
    """What a reader would see: what binds them, how many of the rows they get, and some of them."""

    reader: Reader
    decision: Decision
    rows: int
    seen: int
    samples: tuple[Row, ...]
    closed: str = ""


def preview(db: Database, home: Home, ref: str, reader: Reader, *, samples: int = 5) -> Preview:
    """A dry run: nothing is noted, and the caller must be one who may see policies work."""
    version = versions.get(db, ref)
    try:
        found = decision(db, version.ref, reader)
    except Forbidden as error:
        return Preview(reader, Decision(), version.rows, 0, (), error.where.removeprefix("policy "))
    rows = read(db, home, version.ref, reader)
    shown = tuple(row for row, _ in zip(rows, range(samples), strict=False))
    return Preview(reader, found, version.rows, count(db, home, version.ref, reader), shown)


def _veil(home: Home, whole: Decision, columns: Iterable[str]) -> Veil | None:
    """What has to be carried out on these columns; None when it is nothing."""
    named = {*columns}
    fields = {*named, *(["messages"] if "prompt" in named else [])}
    bound = whole.narrowed(fields)
    told = named & {"key", "group", "fingerprint"} and whole.fields
    if not bound and not told:
        return None
    return Veil(whole if told else bound, pseudonyms.key_of(home))


def _refuse_telling(found: Decision, where: Mapping[str, str | None], reader: Reader) -> None:
    for field, value in where.items():
        if value and field in found.fields:
            raise Forbidden(
                f"{reader.actor!r} ({reader.role}) may not choose rows by {field}, which is restricted for {reader.purpose}",
                where=f"policies {', '.join(found.names)}",
                remedy=f"leave the filter by {field} out",
            )


def _saying(batch: pa.RecordBatch, said: str) -> pa.RecordBatch:
    """The rows of a batch whose prompt has a text, in whatever case."""
    import pyarrow.compute as pc

    if not said:
        return batch
    return batch.filter(pc.match_substring(batch.column("prompt"), said, ignore_case=True))


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch under the keys that it gives them: a masked row is not named by its masked text."""
    for key, row in zip(batch.column("key").to_pylist(), shelf.rows_of(batch), strict=True):
        row.__dict__["key"] = key
        yield row


def _shown(home: Home, found: Decision, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows that were read otherwise, as the reader may see them."""
    if not found or not rows:
        return rows
    veil = Veil(found, pseudonyms.key_of(home))
    return [row for batch in shelf.batches_of(rows) for row in _rows(veil.over(batch, shelf.COLUMNS))]
