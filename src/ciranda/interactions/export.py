"""Interactions as a file: JSON lines or Parquet, made while they are read, so that neither end holds more than a few hundred.

Each record has every field of the table, its time as text (JSONL) or as a timestamp (Parquet), the newest vote, and its feedback
and scores as lists. Parquet is written in groups of rows of bounded size. What the export began with is what it holds: rows that
arrive meanwhile are left for the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import msgspec

from ciranda.errors import Invalid
from ciranda.interactions.schema import INTERACTIONS, MOMENT, Column
from ciranda.interactions.table import Interaction
from ciranda.store import clock
from ciranda.store.outlet import Outlet

FORMATS = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
GROUP_ROWS, GROUP_BYTES = 5_000, 16 << 20
CHUNK = 1 << 16
_ARROW = {"UInt8": "uint8", "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64", "Float32": "float32",
          "Float64": "float64"}  # fmt: skip


def written(found: Iterable[Interaction], format_: str) -> Iterator[bytes]:
    """The file in pieces.

    Raises:
        Invalid: a format that is not written.
    """
    if format_ not in FORMATS:
        raise Invalid(f"format {format_!r} is not written", where="format", remedy=f"use one of {', '.join(FORMATS)}")
    return _lines(found) if format_ == "jsonl" else _parquet(found)


def _lines(found: Iterable[Interaction]) -> Iterator[bytes]:
    piece = bytearray()
    for one in found:
        piece += msgspec.json.encode({"at": clock.iso(one.ts), "thumb": one.thumb, **asdict(one)}) + b"\n"
        if len(piece) >= CHUNK:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _parquet(found: Iterable[Interaction]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    outlet, schema = Outlet(), _schema()
    with pq.ParquetWriter(pa.PythonFile(outlet, mode="w"), schema, compression="zstd") as writer:
        for group in _groups(found):
            writer.write_table(pa.Table.from_pylist([_record(one) for one in group], schema=schema))
            yield outlet.taken()
    yield outlet.taken()


def _groups(found: Iterable[Interaction]) -> Iterator[list[Interaction]]:
    """As many rows as make a good group of a Parquet file, and no more than fit into memory."""
    group: list[Interaction] = []
    size = 0
    for one in found:
        group.append(one)
        size += len(one.request) + len(one.response) + len(one.input_text) + len(one.output_text)
        if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _record(one: Interaction) -> dict[str, Any]:
    return {**asdict(one), "ts": one.ts, "thumb": one.thumb}


def _schema() -> Any:
    """The table's fields with their types, and what was said of each row."""
    import pyarrow as pa

    said = {"id": pa.string(), "ts_ms": pa.int64(), "thumb": pa.int8(), "rating": pa.float32(), "correction": pa.string(),
            "comment": pa.string(), "reasons": pa.list_(pa.string()), "user": pa.string()}  # fmt: skip
    judged = {"scorer": pa.string(), "value": pa.float64(), "ts_ms": pa.int64()}
    fields = [pa.field(column.name, _type(column)) for column in INTERACTIONS.given]
    fields += [pa.field("thumb", pa.int8()), pa.field("feedback", pa.list_(pa.struct(list(said.items()))))]
    return pa.schema([*fields, pa.field("scores", pa.list_(pa.struct(list(judged.items()))))])


def _type(column: Column) -> Any:
    import pyarrow as pa

    if column.type == MOMENT:
        return pa.timestamp("ms", tz="UTC")
    return getattr(pa, _ARROW[column.type])() if column.type in _ARROW else pa.string()
