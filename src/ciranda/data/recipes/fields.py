"""What an expression may read of a row, and what a step may write to it.

Read: messages (how many), prompt, completion, rejected, system, all (every text of the row), shape, key, language, group, split,
source, origin, subject, thumb, tags, and `extra.<name>`. Written: prompt (what the person said last), completion, rejected, system,
language, group, split, subject, thumb, tags and `extra.<name>`; the others follow from them or say where the row came from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ciranda.data.rows import SPLITS, Message, Row

EXTRA = re.compile(r"extra\.[A-Za-z_][\w.-]{0,99}")


def _system(row: Row) -> str:
    return row.messages[0].content if row.messages and row.messages[0].role == "system" else ""


def _all(row: Row) -> str:
    return "\n".join([*(message.content for message in row.messages), row.completion, row.rejected]).strip("\n")


READ: Mapping[str, Callable[[Row], Any]] = {
    "messages": lambda row: len(row.messages), "prompt": lambda row: row.prompt, "completion": lambda row: row.completion,
    "rejected": lambda row: row.rejected, "system": _system, "all": _all, "shape": lambda row: row.shape,
    "key": lambda row: row.key, "language": lambda row: row.language, "group": lambda row: row.group,
    "split": lambda row: row.split, "source": lambda row: row.source, "origin": lambda row: row.origin,
    "subject": lambda row: row.subject, "thumb": lambda row: row.thumb, "tags": lambda row: list(row.tags),
}  # fmt: skip
WRITTEN = ("prompt", "completion", "rejected", "system", "language", "group", "split", "subject", "thumb", "tags")


def readable(name: str) -> bool:
    """Whether an expression may read it."""
    return name in READ or EXTRA.fullmatch(name) is not None


def writable(name: str) -> bool:
    """Whether a step may write it."""
    return name in WRITTEN or EXTRA.fullmatch(name) is not None


def value(row: Row, name: str) -> Any:
    """A field of a row; a further field that it has not is null."""
    return READ[name](row) if name in READ else row.extra.get(name.removeprefix("extra."))


def written(row: Row, name: str, given: Any) -> Row:
    """The row with a field changed. Raises ValueError for a value that the field cannot hold."""
    if name.startswith("extra."):
        return _extra(row, name.removeprefix("extra."), given)
    if name == "thumb":
        if given not in (-1, 0, 1) or isinstance(given, bool):
            raise ValueError(f"thumb is -1, 0 or 1, not {given!r}")
        return row.with_(thumb=int(given))
    if name == "tags":
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            raise ValueError(f"tags are a list of texts, not {given!r}")
        return row.with_(tags=tuple(given))
    if not isinstance(given, str):
        raise ValueError(f"{name} is a text, not {given!r}")
    if name == "split" and given not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {given!r}")
    if name == "prompt":
        return _prompted(row, given)
    return headed(row, given) if name == "system" else row.with_(**{name: given})


def _extra(row: Row, name: str, given: Any) -> Row:
    if not isinstance(given, str | int | float | bool | None) or (
        isinstance(given, float) and not math.isfinite(given)
    ):
        raise ValueError(f"extra.{name} is one value, not {given!r}")
    rest = {one: held for one, held in row.extra.items() if one != name}
    return row.with_(extra=rest if given is None else {**rest, name: given})


def _prompted(row: Row, text: str) -> Row:
    """Another text for what the person said last. A text alone has no question."""
    place = next((n for n in reversed(range(len(row.messages))) if row.messages[n].role == "user"), None)
    if place is None:
        raise ValueError("the row has no question")
    messages = [*row.messages]
    messages[place] = Message("user", text)
    return row.with_(messages=tuple(messages))


def headed(row: Row, system: str) -> Row:
    """The row with this system prompt, or without one when it is empty; a text alone stays as it is."""
    if not row.messages:
        return row
    rest = row.messages[1:] if row.messages[0].role == "system" else row.messages
    return row.with_(messages=(Message("system", system), *rest) if system else rest)
