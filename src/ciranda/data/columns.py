"""Rows as Arrow: one schema for everything that is too large for values, and the only place that turns one into the other.

A batch is *sealed* when its derived columns are right: `messages`, `tags` and `extra` as canonical JSON, `prompt`, `key` and
`fingerprint` computed from the rest. Sealing never trusts what a writer filled in there, so a row's name is the same whether it
came as a value, from a file of columns or out of another version.
`key` and `fingerprint` are SHA-256: the first over the canonical content, the second over the key and the canonical facts.
A writer may leave columns out, and give `prompt` (and `system`) instead of `messages`.
It refuses columns that are missing, messages that are no list of {content, role}, and text that is no Unicode.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.data.rows import FACTS, Message, Row, Scalar, compact
from ciranda.errors import Invalid

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH_ROWS = 8192
FEW = 8  # batches
TEXTS = ("completion", "rejected", "language", "group", "split", "source", "origin", "subject")
JSONS = {"messages": "[]", "tags": "[]", "extra": "{}"}
COLUMNS = (
    "key", "messages", "prompt", "completion", "language", "group", "split", "source", "origin", "subject", "thumb",
    "rejected", "tags", "extra", "fingerprint",
)  # fmt: skip
"""As they are stored, in this order. `fingerprint` is 32 bytes, `thumb` a small number, all others are text."""
DERIVED = ("key", "prompt", "fingerprint")


@dataclass(frozen=True)
class Sealed:
    """Batches that are sealed already: they come from a stored version or from the checks, unchanged."""

    batches: Iterable[pa.RecordBatch]


Rows = Iterable[Row] | Iterable["pa.RecordBatch"] | Sealed


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One message; the order of the fields is the canonical one. Millions of them come and go, and none is in a circle."""

    content: str
    role: str


_turns = msgspec.json.Decoder(list[Turn])
_json = msgspec.json.Encoder().encode  # of text and lists of it: byte for byte what `rows.compact` writes


def schema() -> pa.Schema:
    """The stored schema."""
    import pyarrow as pa

    kinds = {"thumb": pa.int8(), "fingerprint": pa.binary(32)}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def batches_of(rows: Rows) -> Iterator[pa.RecordBatch]:
    """Sealed batches of rows that come as values or as Arrow batches, whichever; never more than BATCH_ROWS rows at once."""
    return (batch if sealed else seal(batch) for batch, sealed in parts_of(rows))


def parts_of(rows: Rows) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """The same, but batches that are not sealed yet (the second value says so) are left so, for somebody else to do it."""
    if isinstance(rows, Sealed):
        yield from ((batch, True) for batch in rows.batches)
        return
    given = iter(rows)
    first = next(given, None)
    if first is None:
        return
    every = chain([first], given)
    if isinstance(first, Row):
        while some := list(islice(every, BATCH_ROWS)):
            yield batch_of(some), True
        return
    for batch in every:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS), False


def few(rows: Rows) -> tuple[list[pa.RecordBatch], Iterator[pa.RecordBatch] | None]:
    """Sealed batches that may wait in memory (FEW of them), and those that come after them, sealed as they are asked for; None when
    these are all."""
    given = batches_of(rows)
    first = list(islice(given, FEW))
    more = next(given, None)
    return first, None if more is None else chain([more], given)


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as one sealed batch. Raises Invalid for text that is no Unicode."""
    lists: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in (*TEXTS, "thumb")}
    lists["prompt"] = [row.prompt for row in rows]
    lists["tags"] = [compact(list(row.tags)) if row.tags else "[]" for row in rows]
    lists["extra"] = [compact(dict(row.extra)) if row.extra else "{}" for row in rows]
    try:
        return _sealed(lists, [_json([Turn(one.content, one.role) for one in row.messages]) for row in rows])
    except UnicodeEncodeError as error:
        raise _no_unicode(rows) from error


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch that has all columns."""
    plain = [batch.column(name).to_pylist() for name in (*TEXTS, "thumb")]
    for messages, tags, extra, values in zip(
        *(batch.column(name).to_pylist() for name in JSONS), zip(*plain, strict=True), strict=True
    ):
        told = tuple(Message(turn.role, turn.content) for turn in _turns.decode(messages))
        rest = dict(zip((*TEXTS, "thumb"), values, strict=True))
        yield Row(told, tags=_tags_of(tags), extra=_extra_of(extra), **rest)


def turns_of(batch: pa.RecordBatch) -> list[list[Turn]]:
    """The messages of each row of a batch that has that column. Raises Invalid."""
    try:
        return [_turns.decode(text) for text in batch.column("messages").to_pylist()]
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise _no_turns(error) from error


def seal(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the stored schema with its derived columns computed. Raises Invalid for what is no batch of rows."""
    return sealing(batch)[0]


def sealing(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[list[Turn]]]:
    """The same, with the messages of each row, which were read on the way."""
    arrays = _filled(batch)
    lists = {name: arrays[name].to_pylist() for name in ("completion", "rejected", *FACTS)}
    if "messages" in arrays:
        try:
            turns = [_turns.decode(text) for text in arrays["messages"].to_pylist()]
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise _no_turns(error) from error
        lists["prompt"] = [_prompt(told) for told in turns]
    else:
        turns = _asked(arrays)
    lists["tags"] = [_canonical_tags(text) for text in lists["tags"]]
    lists["extra"] = [_canonical_extra(text) for text in lists["extra"]]
    kept = {name: array for name, array in arrays.items() if name in (*TEXTS, "thumb") or name == "prompt"}
    return _sealed(lists, [_json(told) for told in turns], kept), turns


def _sealed(
    lists: dict[str, list[Any]], messages: Sequence[bytes], kept: Mapping[str, pa.Array] | None = None
) -> pa.RecordBatch:
    """Columns whose JSON is canonical, with key and fingerprint; `kept` are those that are Arrow already."""
    import pyarrow as pa

    keys = _keys(lists["completion"], messages, lists["rejected"])
    facts = zip(*(lists[name] for name in FACTS), strict=True)
    lists["fingerprint"] = [sha256(key + _facts(*fact)).digest() for key, fact in zip(keys, facts, strict=True)]
    lists["key"] = [key.hex() for key in keys]
    told = pa.array(messages, pa.binary()).view(pa.string())  # msgspec writes UTF-8
    stored, ready = schema(), {**(kept or {}), "messages": told}
    arrays = [ready[one.name] if one.name in ready else pa.array(lists[one.name], one.type) for one in stored]
    return pa.RecordBatch.from_arrays(arrays, schema=stored)


def digests(found: Any, name: str) -> np.ndarray[Any, Any]:
    """A column of SHA-256 (64 hex letters or 32 bytes) of a batch or table, as an array of 32 bytes each."""
    import numpy as np

    column = found.column(name)
    parts = [_bytes32(chunk) for chunk in getattr(column, "chunks", [column])]
    return np.concatenate(parts) if parts else np.empty(0, dtype="S32")


def among(values: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which values of 32 bytes are one of a few, in whatever order: nearly all others are told from them by a table of marks."""
    import numpy as np

    marks = np.zeros(1 << MARKS, dtype=bool)
    marks[_marks(wanted)] = True
    chosen: np.ndarray[Any, Any] = marks[_marks(values)]
    chosen[chosen] = np.isin(values[chosen], wanted)
    return chosen


MARKS = 22  # bits


def _marks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A number of MARKS bits for each value."""
    import numpy as np

    found: np.ndarray[Any, Any] = np.ascontiguousarray(values).view("u8").reshape(-1, 4)[:, 0] >> np.uint64(64 - MARKS)
    return found


def holding(column: pa.Array, picked: bytes) -> np.ndarray[Any, Any]:
    """Which values of a text column have one of the bytes that `picked`, a table of 256 zeros and ones, has a one for."""
    import numpy as np

    found = np.zeros(len(column), dtype=bool)
    places = np.flatnonzero(np.frombuffer(picked, dtype=bool)[np.frombuffer(_letters(column), dtype=np.uint8)])
    if len(places):
        ends = _offsets(column)[1:]
        found[np.searchsorted(ends, places + _offsets(column)[0], side="right")] = True
    return found


def _offsets(column: pa.Array) -> np.ndarray[Any, Any]:
    """Where each value of a text column begins, and where the last one ends."""
    import numpy as np

    return np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]


def _letters(column: pa.Array) -> memoryview:
    """All letters of a text column, one value after the other, where they lie."""
    if not len(column):
        return memoryview(b"")
    offsets = _offsets(column)
    return memoryview(column.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])]


def _bytes32(column: pa.Array) -> np.ndarray[Any, Any]:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_fixed_size_binary(column.type):
        start, end = column.offset, column.offset + len(column)
        return np.frombuffer(column.buffers()[1], dtype="S32")[start:end]
    return np.frombuffer(bytes.fromhex(str(_letters(column), "ascii")), dtype="S32")


def _filled(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Every column that a writer fills, cast to its stored type; what may be left out is empty.

    There is `messages`, or `prompt` (and perhaps `system`) in its place.
    """
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    stored, given = schema(), batch.schema.names
    asked = "prompt" in given and "messages" not in given
    for name in (*TEXTS, *JSONS, "thumb"):
        kind = stored.field(name).type
        empty = pa.scalar(0 if name == "thumb" else JSONS.get(name, "train" if name == "split" else ""), kind)
        if name in given:
            columns[name] = _cast(batch.column(name), kind, name).fill_null(empty)
        elif name == "messages" and asked:
            for one in {"prompt", "system"} & set(given):
                columns[one] = _cast(batch.column(one), pa.string(), one).fill_null("")
        elif name in ("messages", "completion"):
            raise Invalid(f"the batch has no column {name}", where=name, remedy=f"give it: {', '.join(COLUMNS)}")
        else:
            columns[name] = pa.repeat(empty, batch.num_rows)
    return columns


def _asked(arrays: Mapping[str, pa.Array]) -> list[list[Turn]]:
    """Messages out of a prompt, and a system prompt when there is one."""
    prompts = arrays["prompt"].to_pylist()
    if "system" not in arrays:
        return [[Turn(prompt, "user")] for prompt in prompts]
    both = zip(arrays["system"].to_pylist(), prompts, strict=True)
    return [[*([Turn(system, "system")] if system else []), Turn(prompt, "user")] for system, prompt in both]


def _cast(column: Any, kind: Any, name: str) -> Any:
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Invalid(f"column {name} is {column.type}, not {kind}", where=name, remedy="cast it before") from error


def _keys(completions: Sequence[str], messages: Sequence[bytes], rejected: Sequence[str]) -> list[bytes]:
    """SHA-256 of `rows.canonical`, spliced from parts that are canonical already."""
    keys = []
    for completion, told, other in zip(completions, messages, rejected, strict=True):
        more = b',"rejected":' + _json(other) if other else b""
        text = b"".join((b'{"completion":', _json(completion), b',"messages":', told, more, b"}"))
        keys.append(sha256(text).digest())
    return keys


def _facts(split: str, language: str, group: str, subject: str, thumb: int, tags: str, extra: str) -> bytes:
    """`rows.facts_of`, spliced in the same way."""
    start = _json([split, language, group, subject, thumb])[:-1]
    return b"".join((start, b",", tags.encode(), b",", extra.encode(), b"]"))


def _prompt(told: Sequence[Turn]) -> str:
    return next((turn.content for turn in reversed(told) if turn.role == "user"), "")


@lru_cache(4096)
def _tags_of(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(4096)
def _canonical_tags(text: str) -> str:
    tags = _loaded(text, "tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Invalid(f"tags are no list of texts: {text[:80]}", where="tags", remedy='write them as JSON: ["a", "b"]')
    return compact(sorted(set(tags)))


def _extra_of(text: str) -> Mapping[str, Scalar]:
    return dict(json.loads(text)) if text != "{}" else {}


@lru_cache(4096)
def _canonical_extra(text: str) -> str:
    extra = _loaded(text, "extra")
    if not isinstance(extra, dict) or not all(isinstance(one, Scalar | None) for one in extra.values()):
        raise Invalid(
            f"extra is no object of fields: {text[:80]}", where="extra", remedy='write it as JSON: {"tier": 1}'
        )
    return compact(extra)


def _loaded(text: str, name: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise Invalid(f"{name} is no JSON: {error}", where=name, remedy="write it as JSON text") from error


def _no_turns(error: Exception) -> Invalid:
    return Invalid(
        f"messages are no list of {{content, role}}: {error}", where="messages", remedy="write them as JSON text"
    )


def _no_unicode(rows: Sequence[Row]) -> Invalid:
    """The row that cannot be written as UTF-8, named."""
    broken = next((row for row in rows if not row.sound), rows[0])
    return Invalid(
        "the row has half of a surrogate pair, so it is no Unicode",
        where=broken.origin or broken.prompt[:80].encode(errors="replace").decode(),
        remedy="correct the text where it came from",
    )
