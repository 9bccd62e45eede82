"""A row: what the model is asked (`messages`), what it should have said (`completion`), and where that came from.

A row has one of four shapes. `chat`: messages and the answer to them. `preference`: the completion is the chosen answer, `rejected`
the other one. `labelled`: an answer and the thumb it got. `text`: no messages, the text stands in `completion`.

A row is named by its content: `key` is the SHA-256 of the canonical JSON of messages and completion (and the rejected answer, when
there is one), so the same example has the same name whichever file, order or machine it arrives from. Language, split, tags and the
further fields of a source (`extra`) are facts about a row: `fingerprint` covers key and facts. Where a row came from (`source`,
`origin`) describes it and counts in neither.
`group` is the unit that a split must not cut: rows of one sentence template, one document or one conversation stay together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from ciranda.errors import Invalid

Scalar = str | int | float | bool | None
Shape = Literal["chat", "preference", "labelled", "text"]

SHARES = (("test", 0.2), ("validation", 0.1))  # the rest trains
ROLES = ("system", "user", "assistant", "tool")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def to_dict(self) -> dict[str, str]:
        """As the chat API writes it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Row:
    """One example. Build it with `Row.of` from plain values, or `parse` from a file's record."""

    messages: tuple[Message, ...]
    completion: str
    language: str = ""
    group: str = ""
    split: str = "train"
    source: str = ""
    origin: str = ""
    subject: str = ""
    thumb: int = 0
    rejected: str = ""
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Scalar] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Tags are a set: sorted, each once."""
        if self.tags:
            object.__setattr__(self, "tags", tuple(sorted(set(self.tags))))

    @classmethod
    def of(cls, prompt: str, completion: str, *, system: str = "", **fields: Any) -> Row:
        """A row of one question, with a system prompt when there is one."""
        opening = (Message("system", system),) if system else ()
        return cls((*opening, Message("user", prompt)), completion, **fields)

    @cached_property
    def key(self) -> str:
        """The row's name: SHA-256 (hex) of its canonical content."""
        return hashlib.sha256(canonical(self.messages, self.completion, self.rejected).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of key and facts: what a version's digest is made of."""
        return hashlib.sha256(bytes.fromhex(self.key) + facts_of(self).encode()).hexdigest()

    @property
    def shape(self) -> Shape:
        """What kind of example this is."""
        if not self.messages:
            return "text"
        if self.rejected:
            return "preference"
        return "labelled" if self.thumb else "chat"

    @cached_property
    def prompt(self) -> str:
        """What the person said last."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def sound(self) -> bool:
        """Whether all of it can be written as UTF-8."""
        told = [message.content for message in self.messages]
        return all(
            unicode(text) for text in (*told, self.completion, self.rejected, self.group, self.subject, self.origin)
        )

    def with_(self, **changes: Any) -> Row:
        """The same row with some fields changed (its key follows its content)."""
        return replace(self, **changes)


FACTS = ("split", "language", "group", "subject", "thumb", "tags", "extra")
"""What is kept of a row beside its content; a row that differs in one of these is another row of a version."""


def canonical(messages: Iterable[Message], completion: str, rejected: str = "") -> str:
    """Messages and completion (and the rejected answer) as the one JSON text that every machine writes alike."""
    answers = {"completion": completion, "rejected": rejected} if rejected else {"completion": completion}
    return compact({**answers, "messages": [message.to_dict() for message in messages]})


def facts_of(row: Row) -> str:
    """The facts of a row, in the order of FACTS, as one JSON text."""
    return compact([*(getattr(row, name) for name in FACTS[:5]), list(row.tags), dict(row.extra)])


def compact(value: Any) -> str:
    """JSON as it is hashed and stored: sorted keys, no spaces, no escapes that need not be."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def normalised(text: str) -> str:
    """Text for comparing phrasings: case, punctuation at the ends and runs of spaces do not count."""
    return " ".join(text.casefold().split()).strip(" .,;:!?¿¡")


def split_of(group: str) -> str:
    """The split of a group (or of a prompt that has none), by hash: the same on every machine, for ever."""
    place, bound = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 0x100000000, 0.0
    for split, share in SHARES:
        bound += share
        if place < bound:
            return split
    return "train"


def parse(record: object, *, origin: str, source: str = "", strict: bool = True) -> Row:
    """A row from one record of a file. Raises Invalid with the reason, naming `origin`.

    Accepted shapes: `{"messages": […], "completion": "…"}`, `{"messages": […, {"role": "assistant", …}]}` and
    `{"prompt": "…", "completion": "…", "system": "…"}`, each with `rejected` for the answer that lost. `tags` is a list of texts,
    `extra` an object of further fields, each a text, a number or a truth. With `strict`, keys that nobody reads are refused too.
    A record without `split` gets one by its group, else by its prompt.
    """
    if not isinstance(record, Mapping):
        raise _bad("a row must be an object with prompt (or messages) and completion", origin, record)
    unknown = sorted(set(record) - KEYS) if strict else []
    if unknown:
        raise _bad(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(KEYS))}", origin, record)
    messages, completion = _content(record, origin)
    split = _text(record, "split", origin)
    if split and split not in SPLITS:
        raise _bad(f"split is {split!r}, it must be one of {', '.join(SPLITS)}", origin, record)
    thumb = record.get("thumb") or 0
    if thumb not in (-1, 0, 1):
        raise _bad(f"thumb is {thumb!r}, it must be -1, 0 or 1", origin, record)
    fields = {name: _text(record, name, origin) for name in ("language", "group", "subject", "rejected")}
    tags, extra = _tags(record.get("tags"), origin), _extra(record.get("extra"), origin)
    row = Row(messages, completion, thumb=int(thumb), source=source, origin=origin, tags=tags, extra=extra, **fields)
    return row.with_(split=split or split_of(row.group or normalised(row.prompt)))


KEYS = frozenset(
    {"messages", "prompt", "system", "completion", "language", "group", "split", "subject", "thumb", "rejected", "tags", "extra"}
)  # fmt: skip


def _content(record: Mapping[str, Any], origin: str) -> tuple[tuple[Message, ...], str]:
    """The conversation and the answer, whichever of the shapes the record has."""
    if "messages" in record and "prompt" in record:
        raise _bad("has both messages and prompt; keep one", origin, record)
    if "messages" not in record:
        prompt, completion = _needed(record, "prompt", origin), _needed(record, "completion", origin)
        row = Row.of(prompt, completion, system=_text(record, "system", origin))
        return row.messages, row.completion
    messages = _messages(record["messages"], origin)
    if record.get("completion") is None and len(messages) > 1 and messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, _needed(record, "completion", origin)


def _messages(value: object, origin: str) -> tuple[Message, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise _bad("messages must be a non-empty list of {role, content}", origin, value)
    return tuple(_message(item, origin) for item in value)


def _message(item: object, origin: str) -> Message:
    if not isinstance(item, Mapping) or not isinstance(item.get("content"), str):
        raise _bad("every message needs a role and a content that is text", origin, item)
    if item.get("role") not in ROLES:
        raise _bad(f"role is {item.get('role')!r}, it must be one of {', '.join(ROLES)}", origin, item)
    return Message(str(item["role"]), _sound(item["content"], origin))


def _tags(value: object, origin: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple | None) or not all(isinstance(tag, str) and tag for tag in value or ()):
        raise _bad("tags must be a list of texts", origin, value)
    return tuple(_sound(tag, origin) for tag in value or ())


def _extra(value: object, origin: str) -> dict[str, Scalar]:
    if not isinstance(value, Mapping | None) or not all(isinstance(name, str) and name for name in value or ()):
        raise _bad("extra must be an object of named fields", origin, value)
    for name, one in (value or {}).items():
        if not isinstance(one, str | int | float | bool | None) or (isinstance(one, float) and not math.isfinite(one)):
            raise _bad(f"extra.{name} must be a text, a finite number, a truth or null", origin, one)
        _sound(name, origin), _sound(one, origin) if isinstance(one, str) else None
    return dict(value or {})


def unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: half of a surrogate pair, which JSON can spell, cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _sound(text: str, origin: str) -> str:
    if not unicode(text):
        raise _bad("the text has half of a surrogate pair, so it is no Unicode", origin, text)
    return text


def _needed(record: Mapping[str, Any], name: str, origin: str) -> str:
    if record.get(name) is None:
        raise _bad(f"{name} is missing", origin, record)
    return _text(record, name, origin)


def _text(record: Mapping[str, Any], name: str, origin: str) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise _bad(f"{name} is a {type(value).__name__}, it must be text", origin, record)
    return _sound(value or "", origin)


def _bad(reason: str, origin: str, value: object) -> Invalid:
    shown = repr(value)
    return Invalid(
        f"bad row: {reason} (got {shown[:120]}{'…' if len(shown) > 120 else ''})",
        where=origin,
        remedy="correct the row, or set `checks: {bad_rows: drop}` to go on without it",
    )
