"""Fine-tuning files in OpenAI's form, as rows: every answer of the assistant in a conversation is one row.

    supervised   {"messages": [{"role", "content", "weight"?, "tool_calls"?}, …], "tools"?}
    dpo          {"input": {"messages": […], "tools"?}, "preferred_output": [one turn], "non_preferred_output": [one turn]}

A turn of the assistant with `weight: 0` is not learnt. All rows of one conversation are one group, so that no split cuts it.
The fields `language`, `subject`, `group` and `tags` are read where a line has them; a split that a line names is not, since who
sends a file does not choose what a version is judged by. The validation rows are the validation file's, else a tenth of the
training file by its prompts' digests. It refuses what it would have to guess, and names the line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from ciranda.data import shapes, uploads
from ciranda.data.rows import Row, normalised
from ciranda.data.shapes import Layout
from ciranda.errors import Invalid

Method = Literal["supervised", "dpo"]
LEAST = 10  # examples; OpenAI's own bound
SMALL = 2000  # up to so many rows a validation share is counted, not drawn
KEPT = ("language", "subject", "tags")
REMEDY = "correct the file, upload it again, then create another job"


def rows(path: Path, *, method: Method, name: str, split: str) -> Iterator[Row]:
    """Every row of a file. Raises Invalid with the line of the first that is none, or when there are too few."""
    count = 0
    for number, line in uploads.lines(path):
        count += 1
        yield from _rows(line, method, f"{name}:{number}", name, split)
    if split == "train" and count < LEAST:
        raise Invalid(
            f"Training file has {count} example(s), but must have at least {LEAST} examples", where=name, remedy=REMEDY
        )


def _rows(line: bytes, method: Method, where: str, name: str, split: str) -> list[Row]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, Mapping):
        raise _bad("is no JSON object", where)
    return _pair(record, where, name, split) if method == "dpo" else _answers(record, where, name, split)


def _answers(record: Mapping[str, Any], where: str, name: str, split: str) -> list[Row]:
    turns = _turns(record, "messages", where)
    learnt = [at for at, turn in enumerate(turns) if _is_learnt(turn)]
    if not learnt or learnt[0] == 0:
        raise _bad("has no assistant message that answers something", where)
    layout = Layout("chat", {"messages": "messages", **_tools(record)})
    facts = _facts(record, turns, split)
    return [
        shapes.parse({**facts, "messages": turns[: at + 1]}, origin=where, source=name, layout=layout) for at in learnt
    ]


def _is_learnt(turn: Any) -> bool:
    return isinstance(turn, Mapping) and turn.get("role") == "assistant" and turn.get("weight", 1) != 0


def _pair(record: Mapping[str, Any], where: str, name: str, split: str) -> list[Row]:
    asked = record.get("input")
    if not isinstance(asked, Mapping):
        raise _bad('is missing key "input"', where)
    turns = _turns(asked, "messages", where)
    good, bad = (_turns(record, key, where) for key in ("preferred_output", "non_preferred_output"))
    layout = Layout("preference", {"messages": "messages", "chosen": "chosen", "rejected": "rejected", **_tools(asked)})
    facts = {**_facts(record, turns, split), **({"tools": asked["tools"]} if asked.get("tools") else {})}
    whole = {**facts, "messages": turns, "chosen": good, "rejected": bad}
    return [shapes.parse(whole, origin=where, source=name, layout=layout)]


def _turns(record: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = record.get(key)
    if found is None:
        raise _bad(f'is missing key "{key}"', where)
    if not isinstance(found, list) or not found:
        raise _bad(f'key "{key}" is no list of messages', where)
    return found


def _tools(record: Mapping[str, Any]) -> dict[str, str]:
    return {"tools": "tools"} if record.get("tools") else {}


def _facts(record: Mapping[str, Any], turns: Sequence[Any], split: str) -> dict[str, Any]:
    """What a line says beside its conversation; the group is the conversation's opening, so that it stays in one split."""
    opening = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"][:1]
    mark = hashlib.sha256(
        json.dumps(opening, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
    ).hexdigest()
    told = {key: record[key] for key in KEPT if record.get(key)}
    tools = {"tools": record["tools"]} if record.get("tools") else {}
    return {**told, **tools, "group": record.get("group") or f"said:{mark[:16]}", "split": split}


def _bad(what: str, where: str) -> Invalid:
    return Invalid(f"Invalid file format. Example {where.rpartition(':')[2]} {what}", where=where, remedy=REMEDY)


def parted(found: Iterable[Row]) -> Iterator[Row]:
    """The rows, a tenth of them (by group, at least one) for validation instead of training."""
    arriving = iter(found)
    first = list(islice(arriving, SMALL + 1))
    if len(first) <= SMALL:
        yield from _counted(first)
        return
    for row in chain(first, arriving):
        yield row.with_(split="validation") if int(_place(row)[:8], 16) < 2**32 // 10 else row


def _counted(found: Sequence[Row]) -> Iterator[Row]:
    sizes: dict[str, int] = {}
    for row in found:
        sizes[_place(row)] = sizes.get(_place(row), 0) + 1
    held: set[str] = set()
    left = max(1, len(found) // 10)
    for place in sorted(sizes)[:-1]:  # one group is left to learn from
        if left <= 0:
            break
        held.add(place)
        left -= sizes[place]
    yield from (row.with_(split="validation") if _place(row) in held else row for row in found)


def _place(row: Row) -> str:
    """Where a row's group falls, evenly over hex digits and the same on any machine."""
    return hashlib.sha256(f"validation:{row.group or normalised(row.prompt)}".encode("utf-8", "replace")).hexdigest()
