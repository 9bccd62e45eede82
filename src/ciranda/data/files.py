"""Rows from files: JSONL, JSON, CSV, Parquet, Arrow and plain text, each bad row named by file, line and reason.

Every shape that `shapes` knows is read. All formats are streamed, a JSON list too, so that a file may be larger than memory.

A glob is relative to a folder (the model file's) or absolute, and never climbs with `..`. A file is read whole or not at all: one
that cannot be opened or parsed is an error of the source, never a row that quietly goes missing.
"""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ciranda.data import rows, shapes
from ciranda.data.dialogue import Unreadable
from ciranda.data.rows import Row
from ciranda.errors import Invalid, NotFound

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_ROW = 1 << 20  # bytes of one record; a longer one is a broken file, and no model reads that much
PIECE = 1 << 16
SLICE = 1024  # records of a column format that are held at a time
Record = tuple[str, object]  # where it stands, and what stands there: an Invalid for what is no record


class BadRecord(Invalid):
    """What stands in place of a record that cannot be read; `stood` is the text there, as far as it is one."""

    stood = ""


def read(pattern: str, root: Path, *, strict: bool = True) -> Iterator[Row | Invalid]:
    """Every row of every file that `pattern` matches, in the order of names; Invalid in place of a bad row.

    Raises NotFound when nothing matches, Invalid for a path that climbs or a format nobody reads.
    """
    for path in matching(pattern, root):
        name = shown(path, root)
        for origin, record in records(path, name):
            yield record if isinstance(record, Invalid) else parsed(record, origin, name, strict)


def records(path: Path, name: str) -> Iterator[Record]:
    """Every record of a file with the place where it stands; `name` is how the file is called there.

    Raises Invalid when the file cannot be read, or holds what its ending does not say.
    """
    try:
        yield from _reader(path)(path, name)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise Invalid(
            f"cannot read the file: {reason}", where=str(path), remedy="check its rights, or copy it again"
        ) from error


def readable(path: Path) -> bool:
    """Whether the ending of a file is one that somebody here reads."""
    return _ending(path) in READERS


def matching(pattern: str, root: Path) -> list[Path]:
    """The files that a pattern means, sorted; `root` is where a relative one starts. Raises NotFound when there is none."""
    found = glob_of(pattern, root)
    if not found:
        raise NotFound(
            f"no file matches {pattern!r}",
            where=str(root.absolute()),
            remedy="correct the path, or put the files there",
        )
    return found


def glob_of(pattern: str, root: Path) -> list[Path]:
    """The same, where none may be there (yet)."""
    return sorted(path for text in texts_of(pattern, root) if (path := Path(text)).is_file())


def texts_of(pattern: str, root: Path) -> list[str]:
    """Whatever a pattern matches, as plain text."""
    if ".." in Path(pattern).parts:
        raise Invalid(
            f"the path {pattern!r} climbs out of its folder",
            where="data: sources: files",
            remedy="name the files relative to the model file, or by an absolute path",
        )
    return glob.glob(str(root / pattern), recursive=True)


def shown(path: Path, root: Path) -> str:
    """A file's name as rows carry it: from the root on, where it lies below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def parsed(record: object, origin: str, name: str, strict: bool) -> Row | Invalid:
    """A record as a row: our own form, else any that `shapes` finds; an Invalid with the reason for what is none."""
    try:
        if isinstance(record, Mapping) and not set(record) <= rows.KEYS and (found := _foreign(record)):
            return shapes.parse(record, origin=origin, source=name, layout=found, rest=not strict)
        return rows.parse(record, origin=origin, source=name, strict=strict)
    except Invalid as error:
        return error


def _foreign(record: Mapping[str, Any]) -> shapes.Layout | None:
    try:
        return shapes.detect(record)
    except Unreadable:
        return None


def _reader(path: Path) -> Callable[[Path, str], Iterator[Record]]:
    if not readable(path):
        raise Invalid(
            f"nobody reads {path.suffix or 'files without an ending'} here",
            where=str(path),
            remedy=f"use one of {', '.join(READERS)}",
        )
    return READERS[_ending(path)]


def _ending(path: Path) -> str:
    """`.jsonl`, or `.jsonl.gz` for a compressed one."""
    lowered = path.name.lower()
    stem = lowered.removesuffix(".gz")
    return Path(stem).suffix + (".gz" if stem != lowered else "")


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _lines(path: Path, name: str) -> Iterator[tuple[str, bytes | Invalid]]:
    """Every line that is not blank; one that is too long is named and passed over without being held."""
    with _opened(path) as file:
        number = 0
        while line := file.readline(LONGEST_ROW + 1):
            number += 1
            origin = f"{name}:{number}"
            if len(line) > LONGEST_ROW:
                yield origin, _bad(f"the line is longer than {LONGEST_ROW} bytes", origin)
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_ROW)
            elif line.strip():
                yield origin, line


def _jsonl(path: Path, name: str) -> Iterator[Record]:
    for origin, line in _lines(path, name):
        yield origin, line if isinstance(line, Invalid) else _decoded(line, origin)


def _text(path: Path, name: str) -> Iterator[Record]:
    """Plain text: every line that is not blank is a row."""
    for origin, line in _lines(path, name):
        if isinstance(line, bytes):
            try:
                yield origin, {"text": line.decode("utf-8-sig" if origin.endswith(":1") else "utf-8").strip()}
            except UnicodeDecodeError as error:
                yield origin, _bad(f"no UTF-8: {error.reason} at byte {error.start}", origin)
        else:
            yield origin, line


def _decoded(line: bytes, origin: str) -> object:
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        return _bad(f"no UTF-8: {error.reason} at byte {error.start}", origin, line)
    except ValueError as error:
        return _bad(f"no JSON: {error}", origin, line)
    except RecursionError:
        return _bad("nested too deeply", origin, line)


def _json(path: Path, name: str) -> Iterator[Record]:
    """The records of one list, a piece of the file at a time, each named by its line; those after the first that begin on one line
    also by their number there, as in `faq.json:1#2`."""
    with _opened(path) as file:
        read = codecs.getreader("utf-8-sig")(file)
        decoder, held, line, beside = json.JSONDecoder(), "", 1, 1
        try:
            held = _more(read, "")
            head = held.lstrip()
            line, held = line + held[: len(held) - len(head)].count("\n"), head
            if not held.startswith("["):
                raise _no_list(name)
            held, first, taken = held[1:], True, 0
            while True:
                held, passed = _to_value(read, held, first=first, name=f"{name}:{line}")
                line, beside = line + passed, 1 if first or passed or taken else beside + 1
                if held.startswith("]"):
                    return
                origin = f"{name}:{line}" if beside == 1 else f"{name}:{line}#{beside}"
                value, held, taken = _value(read, decoder, held, origin)
                yield origin, value
                line, first = line + taken, False
        except UnicodeDecodeError as error:
            raise Invalid(f"no UTF-8: {error.reason}", where=f"{name}:{line}", remedy="save it as UTF-8") from error
        except RecursionError as error:
            raise Invalid("nested too deeply", where=f"{name}:{line}", remedy="it is no list of rows") from error


def _more(read: codecs.StreamReader, held: str) -> str:
    piece: str = read.read(PIECE)
    return held + piece


def _to_value(read: codecs.StreamReader, held: str, *, first: bool, name: str) -> tuple[str, int]:
    """The text from the next value (or the closing bracket) on, and how many lines were passed."""
    comma, lines = first, 0
    while True:
        stripped = held.lstrip()
        lines += held[: len(held) - len(stripped)].count("\n")
        if stripped.startswith(",") and not comma:
            comma, held = True, stripped[1:]
        elif stripped:
            if not comma and not stripped.startswith("]"):
                raise Invalid("no JSON: a comma or ] is missing", where=name, remedy="mend the file, or use .jsonl")
            return stripped, lines
        elif not (held := _more(read, "")):
            raise Invalid("no JSON: the list does not end", where=name, remedy="the file was cut; copy it again")


def _value(read: codecs.StreamReader, decoder: json.JSONDecoder, held: str, name: str) -> tuple[object, str, int]:
    """The value that the text begins with, the text behind it, and how many lines it took."""
    tried = 0
    while True:
        try:
            value, end = decoder.raw_decode(held)
            if end < len(held) or isinstance(value, dict | list | str):
                return value, held[end:], held[:end].count("\n")
            wrong = ""
        except ValueError as error:
            wrong = str(error)
        tried, longer = len(held), held
        while len(longer) < 2 * tried and (grown := _more(read, longer)) != longer:
            longer = grown
        if len(longer) == tried or tried > LONGEST_ROW:
            raise Invalid(
                f"no JSON: {wrong or 'the list does not end'}", where=name, remedy="mend the file, or use .jsonl"
            )
        held = longer


def _no_list(name: str) -> Invalid:
    return Invalid("a JSON file holds one list of rows", where=name, remedy="put [ ] around the rows, or use .jsonl")


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
            for batch in file.iter_batches(batch_size=SLICE):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{name}:{number}", {key: value for key, value in record.items() if value is not None}
    except pa.ArrowException as error:
        raise Invalid(f"no readable Parquet: {error}", where=name, remedy="write the file again") from error


def _arrow(path: Path, name: str) -> Iterator[Record]:
    """Arrow as Hugging Face saves it (a stream), or an Arrow file; mapped, not read into memory."""
    import pyarrow as pa

    number = 0
    try:
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                for place in range(0, batch.num_rows, SLICE):
                    for record in batch.slice(place, SLICE).to_pylist():
                        number += 1
                        yield f"{name}:{number}", {key: value for key, value in record.items() if value is not None}
    except pa.ArrowException as error:
        raise Invalid(f"no readable Arrow: {error}", where=name, remedy="write the file again") from error


def _batches(source: Any) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if source.read(6) == b"ARROW1":
        source.seek(0)
        opened = pa.ipc.open_file(source)
        yield from (opened.get_batch(place) for place in range(opened.num_record_batches))
    else:
        source.seek(0)
        yield from pa.ipc.open_stream(source)


def _bad(reason: str, origin: str, stood: bytes = b"") -> BadRecord:
    bad = BadRecord(
        f"bad row: {reason}",
        where=origin,
        remedy="correct the row, or set `bad_rows: drop` at its source to go on without",
    )
    bad.stood = stood.decode(errors="replace").strip()
    return bad


READERS: dict[str, Callable[[Path, str], Iterator[Record]]] = {
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow, ".txt": _text,
    ".jsonl.gz": _jsonl, ".ndjson.gz": _jsonl, ".json.gz": _json,
}  # fmt: skip
