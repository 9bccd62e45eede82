"""Decisions of policy, carried out on Arrow batches: rows left out, values hashed, masked or emptied, a column at a time.

Conditions look at the values as they are stored. Each distinct value of a column is worked on once. Columns that follow from a
restricted one follow its effect (the prompt is part of the messages); those that are digests of it are hashed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ciranda.govern import pseudonyms
from ciranda.govern.policy import TEXTS, WHOLE, Condition, Decision, Effect, Rule

if TYPE_CHECKING:
    import pyarrow as pa

MASKED = "[masked]"
DIGESTS = ("key", "group", "fingerprint")
EFFECTS: tuple[Effect, ...] = ("hash", "mask", "deny")  # the later one covers the earlier one
Word = Callable[[str], str]


@dataclass(frozen=True)
class Veil:
    """A decision ready to be carried out; `key` is that of the hashes."""

    decision: Decision
    key: bytes

    def needs(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns to read in order to give these: what conditions look at comes along."""
        asked = {_column(field) for field in self.decision.asked}
        return (*columns, *sorted(asked - set(columns)))

    def over(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """These columns of the batch, as the reader may see them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.decision.rows:
            batch = batch.filter(pc.invert(self._where(batch, "deny", WHOLE)))
        made = [self._column(batch, name) for name in columns]
        return pa.RecordBatch.from_arrays(made, schema=pa.schema([batch.schema.field(name) for name in columns]))

    def _column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        found = batch.column(name)
        if name in DIGESTS:
            return self._digested(found, name) if self._tells(name) else found
        for field in sorted(self.decision.fields):
            if _column(field) == name or (field == "messages" and name == "prompt"):
                found = self._veiled(batch, name, field, found)
        return found

    def _tells(self, digest: str) -> bool:
        """Whether a column of digests would tell something that is restricted."""
        fields = self.decision.fields
        if digest in fields or (digest == "fingerprint" and fields):
            return True
        # A key is of what was said alone: a person's name that is hidden leaves it, so that an exam is the same one everywhere.
        return bool(fields & {*TEXTS}) if digest == "key" else self.decision.texts

    def _veiled(self, batch: pa.RecordBatch, name: str, field: str, found: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        for effect in EFFECTS:
            where = self._where(batch, effect, field)
            if not pc.any(where).as_py():
                continue
            if pa.types.is_integer(found.type):
                hidden = pa.repeat(pa.scalar(0, found.type), len(found))
            else:
                hidden = _changed(batch.column(name), self._change(effect, name, field))
            found = pc.if_else(where, hidden, found)
        return found

    def _where(self, batch: pa.RecordBatch, effect: Effect, field: str) -> pa.Array:
        """The rows on which an effect binds a field (or the row): by rules, and by allow-lists without the reader."""
        import pyarrow.compute as pc

        bound = _any(batch, (r for r in self.decision.rules if r.effect == effect and r.field == field))
        if effect != "deny":
            return bound
        shut = _any(batch, (r for r, mine in self.decision.lists if not mine and r.field == field))
        opened = _any(batch, (r for r, mine in self.decision.lists if mine and r.field == field))
        return pc.or_(bound, pc.and_not(shut, opened))

    def _digested(self, found: pa.Array, name: str) -> pa.Array:
        """A column of digests under other names: what is equal stays equal, and nobody can compute it from a guessed row."""
        import pyarrow as pa

        if pa.types.is_fixed_size_binary(found.type):
            names = (pseudonyms.hashed(self.key, name, value.hex()) for value in found.to_pylist())
            return pa.array([sha256(one.encode()).digest() for one in names], found.type)
        return _changed(found, lambda value: pseudonyms.hashed(self.key, name, value) if value else "")

    def _change(self, effect: Effect, name: str, field: str) -> Word:
        """What becomes of one stored value of a column."""
        word = self._word(effect, field)
        if name == "messages":
            return lambda text: _messages(text, word)
        if name == "tags":
            return lambda text: _tags(text, word)
        if name == "extra":
            return lambda text: _extra(text, field.removeprefix("extra").removeprefix("."), effect, word)
        return word

    def _word(self, effect: Effect, field: str) -> Word:
        """What becomes of one word; nothing stays nothing."""
        if effect == "hash":
            return lambda value: pseudonyms.hashed(self.key, field, value) if value else ""
        return lambda value: MASKED if value and effect == "mask" else ""


def _column(field: str) -> str:
    return "extra" if field.startswith("extra.") else field


def _changed(column: pa.Array, change: Word) -> pa.Array:
    """The column with every distinct value changed once."""
    import pyarrow as pa

    coded = column.dictionary_encode()
    values = pa.array([change(value or "") for value in coded.dictionary.to_pylist()], type=column.type)
    return values.take(coded.indices)


def _messages(text: str, word: Word) -> str:
    return _compact([{**one, "content": word(one["content"])} for one in json.loads(text or "[]")])


def _tags(text: str, word: Word) -> str:
    return _compact(sorted({found for tag in json.loads(text or "[]") if (found := word(tag))}))


def _extra(text: str, only: str, effect: Effect, word: Word) -> str:
    """The further fields, one of them or all veiled; what is denied is gone."""
    held: dict[str, Any] = json.loads(text or "{}")
    chosen = {name for name, value in held.items() if only in ("", name) and value is not None}
    kept = {name: value for name, value in held.items() if not (name in chosen and effect == "deny")}
    return _compact({name: word(str(value)) if name in chosen else value for name, value in kept.items()})


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _any(batch: pa.RecordBatch, rules: Iterable[Rule]) -> pa.Array:
    """The rows on which one of the rules holds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.repeat(pa.scalar(False), len(batch))
    for rule in rules:
        found = pc.or_(found, _holds(batch, rule.rows))
    return found


def _holds(batch: pa.RecordBatch, conditions: Iterable[Condition]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.repeat(pa.scalar(True), len(batch))
    for condition in conditions:
        found = pc.and_(found, _true(batch.column(_column(condition.field)), condition))
    return found


def _true(column: pa.Array, condition: Condition) -> pa.Array:
    """Where a condition is true, by distinct values of its column."""
    import pyarrow as pa

    coded = column.dictionary_encode()
    values = pa.array([_meets(value, condition) for value in coded.dictionary.to_pylist()], type=pa.bool_())
    return values.take(coded.indices).fill_null(False)


def _meets(value: Any, condition: Condition) -> bool:
    held = _values(value, condition.field)
    if condition.present is not None:
        return bool([one for one in held if one not in ("", None)]) == condition.present
    wanted = condition.among if condition.among is not None else (condition.equals,)
    return any(_same(one, two) for one in held for two in wanted)


def _values(value: Any, field: str) -> list[Any]:
    """What a field of a row holds: several of tags, the contents of messages, one of any other."""
    if field == "tags":
        return list(json.loads(value or "[]"))
    if field == "messages":
        return [one["content"] for one in json.loads(value or "[]")]
    if field == "extra":
        return list(json.loads(value or "{}").values())
    if field.startswith("extra."):
        held = json.loads(value or "{}")
        return [held[name]] if (name := field.removeprefix("extra.")) in held else []
    return [value]


def _same(one: Any, two: Any) -> bool:
    """Equal, and of one kind: true is not 1."""
    return one == two and isinstance(one, bool) == isinstance(two, bool)
