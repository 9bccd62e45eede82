"""One source, read: what its records became, what is bad, what changed in its fields, where the next run goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from ciranda.config.source import Source
from ciranda.data.files import BadRecord
from ciranda.data.rows import Row
from ciranda.data.sources import buckets, connectors, cursors, folders, heard, pages, tables
from ciranda.data.sources.fields import Fields, said
from ciranda.data.sources.found import Bad, Brought, Desk, Item, source_of
from ciranda.data.sources.heap import Heap
from ciranda.data.sources.mapping import row_of, written
from ciranda.data.sources.runs import Last
from ciranda.errors import Invalid, Refused, Unavailable

SHOWN = 20  # bad rows named in a message
MOST_BAD = 10_000  # more than this is a mapping that is wrong, and a run that is stopped
CONTRADICTIONS = 20

Items = Callable[[Source, Desk], Iterator[Item]]
KINDS: dict[str, Items] = {
    "files": folders.whole, "folder": folders.watched, "http": pages.items, "sql": tables.items, "s3": buckets.items,
    "dlt": connectors.items,
}  # fmt: skip
NAMED = ("http", "sql", "dlt")  # kinds whose origins name records, not places
HERE = ("files", "intents")
"""What lies on this machine and is read whole in each run that makes a version; of all others the rows are remembered."""


def bring(source: Source, desk: Desk, last: Last, retried: Mapping[str, Item]) -> Brought:
    """Read one source.

    Raises:
        Refused: Bad rows that block, too many of them, or other fields than before under `schema: freeze`.
    """
    if source.kind == "intents":
        return _sentences(source, desk)
    if source.kind == "interactions":
        return _voices(source, desk)
    return _records(source, desk, last, retried)


def _sentences(source: Source, desk: Desk) -> Brought:
    if desk.inputs.sampler is None:
        raise Unavailable("nobody here samples sentences", where=desk.label, remedy='install "ciranda[demo]"')
    rows = desk.inputs.sampler.sample(source.intents or "", source.count, source.seed)
    return Brought(desk.label, Heap(desk.folder) + rows)


def _voices(source: Source, desk: Desk) -> Brought:
    rows, contradictions, voices = heard.rows(source, desk)
    named = [{"prompt": one.prompt, "answers": one.answers} for one in contradictions[:CONTRADICTIONS]]
    detail = {"voices": voices, "contradictions": len(contradictions), "contradicted": named}
    heap = Heap(desk.folder, named=not source.spoken) + rows
    replaces = None if source.spoken else lambda row: heap.has(row.origin)
    return Brought(desk.label, heap, place=desk.place, detail=detail, replaces=replaces)


def _records(source: Source, desk: Desk, last: Last, retried: Mapping[str, Item]) -> Brought:
    fields, bad, mended = Fields(), list[Bad](), list[str]()
    good = Heap(desk.folder, named=source.kind in NAMED)
    for name, item in chain(retried.items(), ((("", one)) for one in _within(source, desk))):
        row = _row(source, item, fields)
        if isinstance(row, Row):
            good.add(row)
            desk.tally.add(rows=1)
            mended += [name] if name else []
            continue
        bad.append(replace(row, name=name))
        desk.tally.wrong(row)
        if len(bad) > MOST_BAD:
            raise _too_bad(desk.label, bad)
    changes = fields.changes(last.fields)
    _judge(source, desk, good, bad, changes)
    return Brought(
        desk.label, good, tuple(bad), desk.place, fields=fields.seen(last.fields), changes=changes,
        replaces=_replacing(source, desk, good, bad, retried.values()), retried=tuple(mended),
        dropped=source.bad_rows == "drop",
        detail={"waiting": desk.place.waiting} if desk.place.waiting else {},
    )  # fmt: skip


def _within(source: Source, desk: Desk) -> Iterator[Item]:
    """The items of a source, less those that a window or the cursor leaves out where the source itself does not."""
    like = cursors.value_of(desk.cursor)
    window = desk.window
    start = cursors.before(like, source.lag)
    if window.since:
        start = None if desk.again or not source.cursor else cursors.given(window.since, like)
    end = cursors.given(window.until, like) if window.until and source.cursor else None
    for item in KINDS[source.kind](source, desk):
        value = item.cursor
        early = start is not None and value is not None and cursors.later(value, start) != value
        if not early and not (end is not None and value is not None and cursors.later(value, end) == value):
            yield item


def _row(source: Source, item: Item, fields: Fields) -> Row | Bad:
    if isinstance(item.record, Invalid):
        stood = item.record.stood if isinstance(item.record, BadRecord) else ""
        return Bad(item.origin, item.record.message, stood, item.record.remedy)
    fields.see(item.record)
    mine = file_of(item.origin) if source.kind == "files" else source_of(source)
    try:
        strict = source.kind in ("files", "folder", "s3")
        return row_of(item.record, source.map, origin=item.origin, source=mine, strict=strict)
    except Invalid as error:
        return Bad(item.origin, error.message, written(item.record), error.remedy)


def _judge(source: Source, desk: Desk, good: Heap, bad: list[Bad], changes: tuple[dict[str, str], ...]) -> None:
    if changes and source.shape == "freeze":
        raise Refused(
            f"the fields of {desk.label} changed: {said(changes)}", where=desk.label,
            remedy="mend the source, or set `schema: evolve` at it to go on",
        )  # fmt: skip
    if bad and source.bad_rows == "block":
        raise _blocked(desk.label, bad)
    if bad and not good and (is_whole(source, desk) or not desk.cursor):
        raise _too_bad(desk.label, bad)


def _blocked(source: str, bad: list[Bad]) -> Refused:
    return Refused(
        f"{len(bad)} bad row{'s' if len(bad) > 1 else ''} in {source}\n  {_named(bad)}", where=bad[0].origin,
        remedy="correct these rows, or set `bad_rows: quarantine` (or drop) at the source to go on without them",
    )  # fmt: skip


def _too_bad(source: str, bad: list[Bad]) -> Refused:
    return Refused(
        f"no row of {source} is good, or over {MOST_BAD:,} are bad\n  {_named(bad)}", where=bad[0].origin,
        remedy="say with `map` which field is what, or correct the source",
    )  # fmt: skip


def _named(bad: list[Bad]) -> str:
    more = f"\n  … and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return "\n  ".join(f"{one.origin}: {one.reason}" for one in bad[:SHOWN]) + more


def is_whole(source: Source, desk: Desk) -> bool:
    """Whether the source was read whole, so that what it did not bring is gone."""
    if source.kind in ("http", "sql"):
        return source.cursor is None
    if source.kind == "dlt":
        return desk.place.cursor in ("", "{}")
    return source.kind in HERE


def _replacing(
    source: Source, desk: Desk, good: Heap, bad: list[Bad], again: Collection[Item]
) -> Callable[[Row], bool]:
    """Which of the rows that earlier versions hold of this source make place."""
    if is_whole(source, desk):
        return lambda row: True
    if source.kind in ("folder", "s3"):
        read = set(desk.place.marks)
        once_bad = {item.origin for item in again}
        return lambda row: file_of(row.origin) in read or row.origin in once_bad
    spoilt = {one.origin for one in bad}
    return lambda row: good.has(row.origin) or row.origin in spoilt


def file_of(origin: str) -> str:
    """The file in a row's origin: `a/b.jsonl:12` and `b.json[3]` without the place."""
    return re.sub(r"(:\d+|\[\d+\])$", "", origin)
