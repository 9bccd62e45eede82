"""What each step does with rows. Rows come and go in parts of some thousands, so memory does not grow with the dataset.

Two kinds: a step that looks at rows one by one is a function from a part to a part; a step that must know all rows first (which
say the same, which are drawn) takes notes of each, a few bytes, decides for all at once, and then passes over them again. Notes are
in the order of the rows, decisions do not depend on it: they go by the rows' names and by hashes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda.data import near
from ciranda.data.recipes import expressions, fields, file
from ciranda.data.recipes.spool import Spool
from ciranda.data.rows import Message, Row, normalised
from ciranda.errors import CirandaError, Invalid
from ciranda.govern import guard
from ciranda.store import clock

PART = 4096
Part = list[Row]
Parts = Iterator[Part]
Array = NDArray[Any]
RAISED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, UnicodeError, RecursionError)


@dataclass(frozen=True)
class Work:
    """What steps work with.

    Args:
        seed: Of everything that is drawn.
        functions: The functions that the recipe names, by that name.
        scratch: A folder of this work alone, for rows between two passes.
        place: Which step it is; draws of two steps differ.
    """

    seed: int
    functions: Mapping[str, Callable[[Row], Any]]
    scratch: Path
    place: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def act(step: file.Step, parts: Parts, work: Work) -> Parts:
    """The rows that a step makes of those that come."""
    given = step.given
    if isinstance(given, file.Deduplicate | file.Balance) or (isinstance(given, file.Sample) and given.rows):
        return _whole(given, parts, work)
    if isinstance(given, file.Split):
        return _split(given, parts, work)
    each: dict[type, Callable[[Any, Part, Work], Part]] = {
        file.Filter: _filter, file.Map: _map, dict: _rename, file.Mask: _mask, file.Sample: _share, file.Chat: _chat,
    }  # fmt: skip
    return (done for part in parts if (done := each[type(given)](given, part, work)))


def values(source: str, rows: Sequence[Row]) -> list[Any]:
    """The value of an expression for each row."""
    return expressions.evaluate(
        file.understood(source), lambda name: [fields.value(row, name) for row in rows], len(rows)
    )


def _called(name: str, row: Row, work: Work) -> Any:
    try:
        return work.functions[name](row)
    except CirandaError:
        raise
    except RAISED as error:
        raise Invalid(f"{name} failed on a row: {type(error).__name__}: {error}", where=row.origin or row.key[:12],
                      remedy="mend the function, or filter such rows out before") from error  # fmt: skip


# --- row by row -------------------------------------------------------------------------------------------------------


def _filter(given: file.Filter, part: Part, work: Work) -> Part:
    kept = values(given.where, part) if given.where else [_called(str(given.fn), row, work) for row in part]
    return [row for row, keep in zip(part, kept, strict=True) if keep]


def _map(given: file.Map, part: Part, work: Work) -> Part:
    if given.fn:
        return [made for row in part for made in _made(given.fn, _called(given.fn, row, work), row)]
    columns = {name: values(source, part) for name, source in given.set.items()}
    done = []
    for place, row in enumerate(part):
        for name, column in columns.items():
            try:
                row = fields.written(row, name, column[place])
            except ValueError as error:
                raise Invalid(f"map: {error}", where=part[place].origin or part[place].key[:12],
                              remedy="filter such rows out before, or write another value") from None  # fmt: skip
        done.append(row)
    return done


def _made(name: str, found: Any, row: Row) -> Part:
    rows = [] if found is None else [found] if isinstance(found, Row) else found
    if not isinstance(rows, list | tuple) or not all(isinstance(one, Row) for one in rows):
        raise Invalid(f"{name} gave {type(found).__name__}", where=row.origin or row.key[:12],
                      remedy="it must give a row, a list of rows, or None")  # fmt: skip
    return list(rows)


def _rename(given: Mapping[str, str], part: Part, _work: Work) -> Part:
    done = []
    for row in part:
        moved = {new: fields.value(row, old) for old, new in given.items() if fields.value(row, old) is not None}
        for old in given:
            row = fields.written(row, old, None)
        for new, value in moved.items():
            row = fields.written(row, new, value if new.startswith("extra.") else str(value))
        done.append(row)
    return done


def _mask(given: file.Mask, part: Part, _work: Work) -> Part:
    """Texts of all rows in one column, masked, and put back in the same order."""
    texts = [text for row in part for text in _texts(row, given.fields)]
    if given.pattern is None:
        masked = [guard.mask(text)[0] for text in texts]
    else:
        node = expressions.Node("value", given.pattern), expressions.Node("value", given.with_)
        call = expressions.Node("call", "replace", (expressions.Node("field", "text"), *node))
        masked = expressions.evaluate(call, lambda _: texts, len(texts))
    again = iter(masked)
    return [_retold(row, given.fields, again) for row in part]


def _texts(row: Row, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name == "messages":
            yield from (message.content for message in row.messages)
        elif isinstance(held := fields.value(row, name), str):
            yield held


def _retold(row: Row, names: Sequence[str], texts: Iterator[str]) -> Row:
    for name in names:
        if name == "messages":
            row = row.with_(messages=tuple(Message(one.role, next(texts)) for one in row.messages))
        elif isinstance(fields.value(row, name), str):
            row = fields.written(row, name, next(texts))
    return row


def _chat(given: file.Chat, part: Part, _work: Work) -> Part:
    done = []
    for row in part:
        if given.system is not None and (given.mode == "replace" or fields.value(row, "system") == ""):
            row = fields.headed(row, given.system)
        done.append(_shortened(row, given.turns) if given.turns else row)
    return done


def _shortened(row: Row, turns: int) -> Row:
    """The last exchanges, each from a question on; the system prompt stays."""
    asked = [place for place, message in enumerate(row.messages) if message.role == "user"]
    if len(asked) <= turns:
        return row
    head = row.messages[:1] if row.messages[0].role == "system" else ()
    return row.with_(messages=(*head, *row.messages[asked[-turns] :]))


def _share(given: file.Sample, part: Part, work: Work) -> Part:
    bound = int((given.share or 0) * 2**64)
    return [row for row in part if draw(work, row) < bound]


def draw(work: Work, row: Row) -> int:
    """64 bits that follow from the seed, the step and the row's name."""
    said = f"{work.seed}:{work.place}:{row.key}".encode()
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big")


# --- all rows first ---------------------------------------------------------------------------------------------------


def _whole(given: Any, parts: Parts, work: Work) -> Parts:
    """Notes of all rows, one decision, and the rows that it leaves."""
    notes: list[dict[str, Array]] = []

    def noted() -> Parts:
        for part in parts:
            notes.append({"key": _numbers(row.key for row in part), "print": _numbers(row.fingerprint for row in part),
                          **_note(given, part, work)})  # fmt: skip
            yield part

    spool = Spool(work.scratch / f"step-{work.place}.arrow").write(noted())
    try:
        if not notes:
            return
        joined = {name: np.concatenate([one[name] for one in notes]) for name in notes[0]}
        notes.clear()
        kept, at = _decided(given, joined), 0
        for part in spool.read():
            if left := [row for row, keep in zip(part, kept[at : at + len(part)], strict=True) if keep]:
                yield left
            at += len(part)
    finally:
        spool.remove()


def _note(given: Any, part: Part, work: Work) -> dict[str, Array]:
    if isinstance(given, file.Balance | file.Sample):
        classes = values(given.by, part) if given.by else [""] * len(part)
        return {"class": np.array([_hash(repr(one)) for one in classes], np.uint64),
                "draw": np.array([draw(work, row) for row in part], np.uint64)}  # fmt: skip
    if isinstance(given, file.Deduplicate):
        texts = ["\n".join(str(fields.value(row, name) or "") for name in given.fields) for row in part]
        if given.near is None:
            said = [
                "\x1f".join(normalised(str(fields.value(row, name) or "")) for name in given.fields) for row in part
            ]
            return {"said": np.array([_hash(text) for text in said], np.uint64)}
        return {"slots": near.signatures(texts)}
    return {}


def _decided(given: Any, notes: dict[str, Array]) -> Array:
    """Which rows stay, in the order in which they came."""
    if isinstance(given, file.Deduplicate) and given.near is not None:
        order = np.lexsort((notes["print"], notes["key"]))
        kept = np.ones(len(order), bool)
        for place, _, _ in near.twins(notes["slots"][order], given.near):
            kept[order[place]] = False
        return kept
    if isinstance(given, file.Deduplicate):
        return first_of(notes["said"], notes["key"], notes["print"])
    return _few(notes, _most(given))


def _most(given: Any) -> int:
    """How many rows of each class stay; 0 is as many as the smallest has."""
    most = given.rows if isinstance(given, file.Sample) else given.to
    return most if isinstance(most, int) else 0


def _few(notes: Mapping[str, Array], most: int) -> Array:
    """The rows of each class that are drawn first."""
    _, classes, counts = np.unique(notes["class"], return_inverse=True, return_counts=True)
    order = np.lexsort((notes["print"], notes["key"], notes["draw"], classes))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    chosen: Array = rank < (most or int(counts.min()))
    return chosen


def first_of(same: Array, key: Array, print_: Array) -> Array:
    """Of the rows with the same number, the one with the smallest name (and of that, facts) stays."""
    order = np.lexsort((print_, key, same))
    fresh = np.concatenate(([True], same[order][1:] != same[order][:-1]))
    kept = np.zeros(len(order), bool)
    kept[order[fresh]] = True
    return kept


def _numbers(names: Iterator[str]) -> Array:
    return np.array([int(name[:16], 16) for name in names], np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


# --- splits -----------------------------------------------------------------------------------------------------------


def _split(given: file.Split, parts: Parts, work: Work) -> Parts:
    if given.by == "time":
        return _timed(given, parts, work)
    return ([_settled(row, given, work.seed) for row in part] for part in parts)


def _settled(row: Row, given: file.Split, seed: int) -> Row:
    if given.by == "hash":
        unit = row.key
    elif given.by == "template":
        unit = f"template:{sha256(template(row.prompt or row.completion).encode()).hexdigest()[:16]}"
        row = row.with_(group=unit)
    else:
        unit = row.group or normalised(row.prompt or row.completion)
    place = int(sha256(f"{seed}:{unit}".encode()).hexdigest()[:16], 16) / 2**64
    split = "test" if place < given.test else "validation" if place < given.test + given.validation else "train"
    return row if split == row.split else row.with_(split=split)


_LOOSE = re.compile(
    r"""https?://\S+|\S+@\S+\.\S+|"[^"\n]{0,200}"|'[^'\n]{1,200}'|“[^”\n]{0,200}”|[^\W_]*\d[\w.,:/-]*"""
)


def template(text: str) -> str:
    """A sentence without what differs from one use to the next: numbers, quotations, addresses."""
    return normalised(_LOOSE.sub("#", text))


def _timed(given: file.Split, parts: Parts, work: Work) -> Parts:
    """The latest rows are the test, those before the validation: by moments, else by shares of the rows."""
    if given.test_from or given.validation_from:
        test = _seconds(given.test_from) if given.test_from else float("inf")
        bounds = (_seconds(given.validation_from) if given.validation_from else test, test)
        for part in parts:
            yield [_dated(row, at, bounds) for row, at in zip(part, _times(given, part), strict=True)]
        return
    seen: list[Array] = []

    def noted() -> Parts:
        for part in parts:
            seen.append(np.array(_times(given, part)))
            yield part

    spool = Spool(work.scratch / f"step-{work.place}.arrow").write(noted())
    try:
        ordered = np.sort(np.concatenate(seen)) if seen else np.empty(0)
        cuts = [int(len(ordered) * (1 - share)) for share in (given.test + given.validation, given.test)]
        bounds = tuple(float(ordered[cut]) if cut < len(ordered) else float("inf") for cut in cuts)  # type: ignore[assignment]
        for part in spool.read():
            yield [_dated(row, at, bounds) for row, at in zip(part, _times(given, part), strict=True)]
    finally:
        spool.remove()


def _dated(row: Row, at: float, bounds: tuple[float, float]) -> Row:
    split = "test" if at >= bounds[1] else "validation" if at >= bounds[0] else "train"
    return row if split == row.split else row.with_(split=split)


def _times(given: file.Split, part: Part) -> list[float]:
    found = []
    for row, said in zip(part, values(str(given.time), part), strict=True):
        try:
            found.append(_seconds(said))
        except (ValueError, TypeError):
            raise Invalid(f"split by time: {said!r} is no time", where=row.origin or row.key[:12],
                          remedy="filter such rows out before; a time is written 2026-11-23T14:00:00Z") from None  # fmt: skip
    return found


def _seconds(said: Any) -> float:
    if isinstance(said, bool):
        raise TypeError("no time")
    return float(said) if isinstance(said, int | float) else clock.parse(said).timestamp()
