"""The fields that a source's records have, and what changed in them since the last good run: new, missing, retyped.

A field counts as missing when every record had it before and none has it now; as retyped when a type came that it never had
(whole numbers that become fractions are no other type). What was seen stays known, so each change is told once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from ciranda.data.sources.mapping import plain

MOST = 500
ALL = 0.999


class Fields:
    """Counts the fields of records as they pass."""

    def __init__(self) -> None:
        self.records = 0
        self._types: dict[str, Counter[str]] = defaultdict(Counter)

    def see(self, record: object) -> None:
        """Take note of one record."""
        if not isinstance(record, Mapping):
            return
        self.records += 1
        for name, value in record.items():
            if name in self._types or len(self._types) < MOST:
                self._types[str(name)][type_of(value)] += 1

    def seen(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is known now, for the next run to compare with."""
        known = {name: {**told, "share": 0.0} for name, told in (before or {}).items()} if self.records else before
        for name, types in self._types.items():
            past = set(known[name]["types"]) if known and name in known else set()
            share = (types.total() - types["null"]) / self.records
            known = {**(known or {}), name: {"types": sorted(past | set(types) - {"null"}), "share": round(share, 4)}}
        return dict(known or {})

    def changes(self, before: Mapping[str, Any] | None) -> tuple[dict[str, str], ...]:
        """What is new, missing or retyped against the last good run; nothing before the first."""
        if not before or not self.records:
            return ()
        found = []
        for name, told in before.items():
            types = set(self._types.get(name, ())) - {"null"}
            if not types and told["share"] >= ALL:
                found.append({"change": "missing", "field": name, "before": " or ".join(told["types"]), "now": ""})
            elif (new := types - _widened(set(told["types"]))) and told["types"]:
                was, now = " or ".join(told["types"]), " or ".join(sorted(new))
                found.append({"change": "retyped", "field": name, "before": was, "now": now})
        for name in self._types:
            types = set(self._types[name]) - {"null"}
            if name not in before and types:
                found.append({"change": "new", "field": name, "before": "", "now": " or ".join(sorted(types))})
        return tuple(found)


def said(changes: tuple[dict[str, str], ...]) -> str:
    """Changes in a line."""
    words = {"new": "{field} is new ({now})", "missing": "{field} is missing", "retyped": "{field}: {before} -> {now}"}
    return "; ".join(words[one["change"]].format(**one) for one in changes)


def type_of(value: Any) -> str:
    """The type of a value as people say it."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list | tuple):
        return "list"
    value = plain(value)
    if isinstance(value, bool):
        return "truth"
    return {int: "whole number", float: "number"}.get(type(value), "text")


def _widened(types: set[str]) -> set[str]:
    return types | {"number", "whole number"} if types & {"number", "whole number"} else types
