"""Which shape a record has, and the row that it is: the formats in which other tools keep what models learn from.

    chat         messages, conversations                    the last turn is the answer
    prompt       prompt and completion, question and answer, instruction (and input) and output, …
    preference   chosen and rejected, with the prompt beside them or in both
    labelled     a chat or a prompt with `label`, `kto_tag` (true, false) or `thumb`
    text         a text alone

A `Layout` says which column holds what. `detect` finds it from the columns of a record and says what it saw; a description of
LLaMA-Factory or a person's own mapping gives it outright. Facts of ours (language, group, split, subject, tags) are read by
their names; any other column that holds one value is kept in `extra`, one that holds more is left out by name (`Layout.beside`).
It refuses a record without an answer, and never guesses between two columns that both could be the answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.data import dialogue
from ciranda.data.dialogue import Tags, Unreadable
from ciranda.data.rows import SPLITS, Message, Row, normalised, split_of
from ciranda.errors import Invalid

FORMATS = ("auto", "chat", "prompt", "preference", "labelled", "text", "alpaca", "sharegpt")
TALKS = ("messages", "conversations", "conversation", "dialogue", "dialog")
ASKED = ("prompt", "instruction", "question", "query", "input", "message")
ANSWERED = ("completion", "response", "output", "answer", "target", "chosen")
TEXTS = ("text", "content", "document", "raw_content")
LABELS = ("label", "kto_tag", "thumb")
SYSTEMS = ("system", "system_prompt")
OURS = ("language", "group", "split", "subject", "thumb", "tags", "extra")
ROLES = (
    "prompt", "query", "completion", "messages", "system", "history", "chosen", "rejected", "label", "text", "tools",
)  # fmt: skip
SPLIT_NAMES = {"train": "train", "training": "train", "valid": "validation", "validation": "validation", "val": "validation",
               "dev": "validation", "eval": "validation", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which column of a record holds what.

    Args:
        shape: chat, prompt, preference, labelled or text.
        columns: Column by role (`ROLES`).
        tags: How turns are written.
    """

    shape: str
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = dialogue.USUAL

    @property
    def saw(self) -> str:
        """What was seen, in a line: `preference (prompt, chosen, rejected)`."""
        named = (name if name == role else f"{name} as {role}" for role, name in self.columns.items())
        return f"{self.shape} ({', '.join(named)})"

    def take(self, record: Mapping[str, Any], role: str) -> Any:
        """What the record holds for a role, or None."""
        return record.get(self.columns[role]) if role in self.columns else None


def detect(record: Mapping[str, Any]) -> Layout:
    """The layout of a record, from the names and kinds of its columns. Raises Unreadable with what was seen."""
    held = {name: value for name, value in record.items() if value is not None}
    talk = next((name for name in TALKS if isinstance(held.get(name), list)), "")
    asked = next((name for name in ASKED if name in held), "")
    system = next((name for name in SYSTEMS if isinstance(held.get(name), str)), "")
    columns = {"system": system} if system else {}
    columns |= {"tools": "tools"} if "tools" in held else {}
    columns |= {"history": "history"} if isinstance(held.get("history"), list) else {}
    better = next((name for name in ("chosen", "completion") if name in held), "") if "rejected" in held else ""
    if better:
        opening = {"messages": talk} if talk else ({"prompt": asked} if asked else {})
        return Layout(
            "preference", {**opening, **_query(held, asked), **columns, "chosen": better, "rejected": "rejected"}
        )
    label = next(
        (name for name in LABELS if isinstance(held.get(name), bool) or (name in held and name != "label")), ""
    )
    if label and (isinstance(held[label], bool) or held[label] not in (0, "", "0")):
        columns["label"] = label
    shape = "labelled" if "label" in columns else ""
    if talk:
        done = {"completion": "completion"} if "completion" in held else {}
        return Layout(shape or "chat", {"messages": talk, **done, **columns})
    if asked:
        answer = _answer(held, asked)
        return Layout(shape or "prompt", {"prompt": asked, **_query(held, asked), "completion": answer, **columns})
    return Layout("text", {"text": _text(held)})


def _answer(held: Mapping[str, Any], asked: str) -> str:
    found = [name for name in ANSWERED if name in held and name != asked and not isinstance(held[name], bool)]
    if "text" in held and not found:
        found = ["text"]
    if len(found) == 1:
        return found[0]
    seen = f"there are {', '.join(found)}" if found else f"the columns are {', '.join(held)}"
    raise Unreadable(f"{asked} is asked, but which column is the answer? {seen}")


def _query(held: Mapping[str, Any], asked: str) -> dict[str, str]:
    return {"query": "input"} if asked == "instruction" and "input" in held else {}


def _text(held: Mapping[str, Any]) -> str:
    found = [name for name in TEXTS if isinstance(held.get(name), str)]
    if len(found) == 1:
        return found[0]
    raise Unreadable(f"no known columns among {', '.join(held) or 'none'}: name yours, such as prompt=my_column")


def named(format_: str, columns: Mapping[str, str]) -> Layout | None:
    """The layout that a person asked for by a format and a mapping; None leaves it to `detect`. Raises Invalid."""
    if format_ not in FORMATS:
        raise Invalid(f"no format {format_!r}", where="format", remedy=f"choose one of {', '.join(FORMATS)}")
    if wrong := sorted(set(columns) - set(ROLES)):
        raise Invalid(f"no role {wrong[0]!r} for a column", where="map", remedy=f"roles are: {', '.join(ROLES)}")
    usual = {
        "chat": {"messages": "messages"}, "sharegpt": {"messages": "conversations"},
        "prompt": {"prompt": "prompt", "completion": "completion"},
        "alpaca": {"prompt": "instruction", "query": "input", "completion": "output", "system": "system", "history": "history"},
        "preference": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        "labelled": {"prompt": "prompt", "completion": "completion", "label": "label"},
        "text": {"text": "text"},
    }  # fmt: skip
    if format_ == "auto":
        return Layout(_shape_of(columns), dict(columns)) if columns else None
    if format_ == "labelled" and "messages" in columns:
        usual[format_] = {"label": "label"}
    shape = {"sharegpt": "chat", "alpaca": "prompt"}.get(format_, format_)
    return Layout(shape, {**usual[format_], **columns})


def _shape_of(columns: Mapping[str, str]) -> str:
    for role, shape in (("rejected", "preference"), ("label", "labelled"), ("messages", "chat"), ("text", "text")):
        if role in columns:
            return shape
    return "prompt"


def parse(
    record: object, *, origin: str, source: str = "", layout: Layout | None = None, split: str = "", rest: bool = True
) -> Row:
    """The row that a record is. Raises Invalid with the reason, naming `origin`.

    Args:
        layout: Which column holds what; None finds out.
        split: The split for a record that names none; without it one by its group, else by its prompt.
        rest: Keep other columns in `extra`; without it they are refused by name, as typing errors are.
    """
    if not isinstance(record, Mapping):
        raise _bad("a row is an object", origin, record)
    try:
        found = layout or detect(record)
        messages, completion, rejected = _content(record, found)
    except Unreadable as error:
        raise _bad(str(error), origin, record) from None
    if not rest and (unknown := sorted(set(beside(record, found)))):
        raise _bad(f"unknown key {unknown[0]!r} beside {found.saw}", origin, record)
    facts = _facts(record, found, origin)
    row = Row(messages, completion, rejected=rejected, source=source, origin=origin, **facts)
    if not row.split:
        row = row.with_(split=split or split_of(row.group or normalised(row.prompt or row.completion)))
    _sound(row, origin)
    return row


def _sound(row: Row, origin: str) -> None:
    """Half of a surrogate pair, which JSON can spell, is no Unicode and cannot be stored."""
    try:
        _ = row.fingerprint  # kept with the row, so that nobody computes it again
    except UnicodeEncodeError:
        raise _bad("the text has half of a surrogate pair, so it is no Unicode", origin, row.prompt[:40]) from None


def beside(record: Mapping[str, Any], layout: Layout) -> list[str]:
    """The columns that are neither the row's content nor facts of ours."""
    return [name for name, value in record.items()
            if value is not None and name not in layout.columns.values() and name not in OURS]  # fmt: skip


def _content(record: Mapping[str, Any], layout: Layout) -> tuple[tuple[Message, ...], str, str]:
    if layout.shape == "text":
        return (), _said(layout.take(record, "text"), layout, "text"), ""
    opening = _opening(record, layout)
    if layout.shape == "preference":
        talk = layout.take(record, "messages")
        prompt = talk if talk is not None else _question(record, layout, needed=False)
        asked, chosen, rejected = dialogue.pair(
            prompt, _needed(record, layout, "chosen"), _needed(record, layout, "rejected"), layout.tags
        )
        if chosen == rejected:
            raise Unreadable("chosen and rejected are the same")
        return _headed(opening, asked), chosen, rejected
    if "messages" in layout.columns:
        turns = dialogue.messages(_needed(record, layout, "messages"), layout.tags)
        if (given := layout.take(record, "completion")) is not None:
            return _headed(opening, turns), _last(given, layout), ""
        asked, completion = dialogue.answered(turns)
        return _headed(opening, asked), completion, ""
    question, given = _question(record, layout, needed=True), _needed(record, layout, "completion")
    if isinstance(given, list) and given:
        before = dialogue.messages(given, layout.tags)
        asked, completion = dialogue.answered((*dialogue.messages(question, layout.tags), *before))
        return _headed(opening, asked), completion, ""
    return _headed(opening, dialogue.messages(question, layout.tags)), _said(given, layout, "completion"), ""


def _headed(opening: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """System prompt and history before the turns; a system turn of the conversation's own goes first."""
    if turns and turns[0].role == "system":
        opening = tuple(one for one in opening if one.role != "system")
        return (turns[0], *opening, *turns[1:])
    return (*opening, *turns)


def _opening(record: Mapping[str, Any], layout: Layout) -> tuple[Message, ...]:
    system = layout.take(record, "system")
    opening = [Message("system", system)] if isinstance(system, str) and system.strip() else []
    for past in layout.take(record, "history") or ():
        if not isinstance(past, list | tuple) or len(past) != 2 or not all(isinstance(one, str) for one in past):
            raise Unreadable("history is a list of [question, answer]")
        opening += [Message("user", past[0]), Message("assistant", past[1])]
    return tuple(opening)


def _question(record: Mapping[str, Any], layout: Layout, *, needed: bool) -> Any:
    """The prompt, with the input of alpaca's form below it."""
    prompt, query = layout.take(record, "prompt"), layout.take(record, "query")
    if prompt is None and query is None:
        if needed:
            raise Unreadable(f"{layout.columns.get('prompt', 'prompt')} is missing")
        return None
    if isinstance(prompt, list):
        return prompt
    parts = [one for one in (prompt, query) if one not in (None, "")]
    if not all(isinstance(one, str) for one in parts):
        raise Unreadable("the prompt is no text")
    return "\n".join(parts)


def _needed(record: Mapping[str, Any], layout: Layout, role: str) -> Any:
    value = layout.take(record, role)
    if value is None:
        raise Unreadable(f"{layout.columns.get(role, role)} is missing")
    return value


def _said(value: Any, layout: Layout, role: str) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{layout.columns.get(role, role)} is a {type(value).__name__}, it must be text")
    return value


def _last(value: Any, layout: Layout) -> str:
    """A completion beside messages: a text, or one turn of the assistant."""
    if isinstance(value, list | Mapping):
        turns = dialogue.messages(value, layout.tags)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise Unreadable("the completion is more than one turn of the assistant")
        return turns[0].content
    return _said(value, layout, "completion")


def _facts(record: Mapping[str, Any], layout: Layout, origin: str) -> dict[str, Any]:
    """Language, group, split, subject, thumb, tags, and what else the record says in one value each."""
    facts: dict[str, Any] = {}
    for name in ("language", "group", "subject"):
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            raise _bad(f"{name} is a {type(value).__name__}, it must be text", origin, record)
        facts[name] = value or ""
    facts["split"] = _split(record.get("split"), origin)
    facts["thumb"] = _thumb(layout.take(record, "label"), origin) if "label" in layout.columns else 0
    tags = record.get("tags") or ()
    if not isinstance(tags, list | tuple) or not all(isinstance(one, str) for one in tags):
        raise _bad("tags is no list of texts", origin, tags)
    extra = record.get("extra") or {}
    if not isinstance(extra, Mapping) or not all(_plain(one) for one in extra.values()):
        raise _bad("extra is no object of single values", origin, extra)
    others = {name: record[name] for name in beside(record, layout) if _plain(record[name])}
    tools = layout.take(record, "tools")
    if tools is not None:
        others["tools"] = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
    return {**facts, "tags": tuple(tags), "extra": {**others, **extra}}


def _plain(value: object) -> bool:
    return isinstance(value, str | int | bool | None) or (isinstance(value, float) and math.isfinite(value))


def _split(value: Any, origin: str) -> str:
    if value in (None, ""):
        return ""
    if found := split_named(str(value)):
        return found
    raise _bad(f"split is {value!r}, it must be one of {', '.join(SPLITS)}", origin, value)


def split_named(name: str) -> str:
    """Our split of that name (`train_sft`, `valid` and `dev` too); empty when it is none."""
    lowered = name.lower()
    head = lowered.replace("-", "_").partition("_")[0]
    return SPLIT_NAMES.get(lowered) or SPLIT_NAMES.get(head, "")


def _thumb(value: Any, origin: str) -> int:
    if value is None or value == "":
        return 0
    known = {True: 1, False: -1, "true": 1, "false": -1, "up": 1, "down": -1, "1": 1, "-1": -1, -1: -1, "0": -1}
    if isinstance(value, str):
        value = value.lower()
    if isinstance(value, bool | int | str) and value in known:
        return known[value]
    raise _bad(f"the label is {value!r}, it must be true or false", origin, value)


def _bad(reason: str, origin: str, value: object) -> Invalid:
    shown = repr(value)
    return Invalid(
        f"bad row: {reason} (got {shown[:120]}{'…' if len(shown) > 120 else ''})",
        where=origin,
        remedy="correct the row, name the columns (`--map prompt=…`), or go on without such rows (`bad_rows: drop`)",
    )
