"""Rows from files: JSONL, JSON, CSV and Parquet, each bad row named by file, line and reason.

A glob is relative to a folder (the model file's) or absolute, and never climbs with `..`. A file is read whole or not at all: one
that cannot be opened or parsed is an error of the source, never a row that quietly goes missing.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ciranda.data.rows import Row, parse
from ciranda.errors import Invalid, NotFound

LONGEST_ROW = 1 << 20  # bytes of one record; a longer one is a broken file, and no model reads that much
Record = tuple[str, object]  # where it stands, and what stands there: an Invalid for what is no record


def read(pattern: str, root: Path, *, strict: bool = True) -> Iterator[Row | Invalid]:
    """Every row of every file that `pattern` matches, in the order of names; Invalid in place of a bad row.

    Raises NotFound when nothing matches, Invalid for a path that climbs or a format nobody reads.
    """
    for path in matching(pattern, root):
        name = _shown(path, root)
        try:
            for origin, record in _reader(path)(path, name):
                yield record if isinstance(record, Invalid) else _parsed(record, origin, name, strict)
        except OSError as error:
            raise Invalid(
                f"cannot read the file: {error.strerror}", where=str(path), remedy="check its rights"
            ) from error


def matching(pattern: str, root: Path) -> list[Path]:
    """The files that a pattern means, sorted; `root` is where a relative one starts."""
    if ".." in Path(pattern).parts:
        raise Invalid(
            f"the path {pattern!r} climbs out of its folder",
            where="data: sources: files",
            remedy="name the files relative to the model file, or by an absolute path",
        )
    found = sorted(path for text in glob.glob(str(root / pattern), recursive=True) if (path := Path(text)).is_file())
    if not found:
        raise NotFound(
            f"no file matches {pattern!r}",
            where=str(root.absolute()),
            remedy="correct the path, or put the files there",
        )
    return found


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _parsed(record: object, origin: str, name: str, strict: bool) -> Row | Invalid:
    try:
        return parse(record, origin=origin, source=name, strict=strict)
    except Invalid as error:
        return error


def _reader(path: Path) -> Callable[[Path, str], Iterator[Record]]:
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise Invalid(
            f"nobody reads {path.suffix or 'files without an ending'} here",
            where=str(path),
            remedy=f"use one of {', '.join(readers)}",
        )
    return readers[path.suffix.lower()]


def _jsonl(path: Path, name: str) -> Iterator[Record]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_ROW + 1):
            number += 1
            origin = f"{name}:{number}"
            if len(line) > LONGEST_ROW:
                yield origin, _bad(f"the line is longer than {LONGEST_ROW} bytes", origin)
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_ROW)
            elif line.strip():
                yield origin, _decoded(line, origin)


def _decoded(line: bytes, origin: str) -> object:
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        return _bad(f"no UTF-8: {error.reason} at byte {error.start}", origin)
    except ValueError as error:
        return _bad(f"no JSON: {error}", origin)
    except RecursionError:
        return _bad("nested too deeply", origin)


def _json(path: Path, name: str) -> Iterator[Record]:
    records = _decoded(path.read_bytes(), name)
    if isinstance(records, Invalid):
        raise records
    if not isinstance(records, list):
        raise Invalid("a JSON file holds one list of rows", where=name, remedy="put [ ] around the rows, or use .jsonl")
    for place, record in enumerate(records):
        yield f"{name}[{place}]", record


def _csv(path: Path, name: str) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="", errors="strict") as file:
        reader = csv.DictReader(file)
        try:
            for values in reader:
                origin = f"{name}:{reader.line_num}"
                extra = None in values or None in values.values()
                yield origin, _bad("has not as many cells as the header", origin) if extra else _cells(values)
        except (UnicodeDecodeError, csv.Error) as error:
            raise Invalid(
                f"no readable CSV: {error}", where=f"{name}:{reader.line_num + 1}", remedy="save it as UTF-8 CSV"
            ) from error


def _cells(values: dict[str, str]) -> dict[str, Any]:
    """A CSV row as a record: empty cells are absent, messages are JSON, thumb is a number."""
    record: dict[str, Any] = {key: value for key, value in values.items() if value}
    if "messages" in record:
        record["messages"] = _decoded(record["messages"].encode(), "messages")
    if record.get("thumb") in ("1", "-1", "0"):
        record["thumb"] = int(record["thumb"])
    return record


def _parquet(path: Path, name: str) -> Iterator[Record]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{name}:{number}", {key: value for key, value in record.items() if value is not None}
    except pa.ArrowException as error:
        raise Invalid(f"no readable Parquet: {error}", where=name, remedy="write the file again") from error


def _bad(reason: str, origin: str) -> Invalid:
    return Invalid(
        f"bad row: {reason}",
        where=origin,
        remedy="correct the row, or set `bad_rows: drop` at its source to go on without",
    )
