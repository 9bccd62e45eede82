"""The causal chain, put together from its owners: the registry's graph, and how many answers each version gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from ciranda.data import reading, versions
from ciranda.errors import Forbidden, NotFound, Unavailable
from ciranda.govern.access import Principal
from ciranda.govern.policy import Reader
from ciranda.loop.platform import Platform
from ciranda.registry import lineage
from ciranda.registry.lineage import GENERATIONS, Direction, Graph, Node
from ciranda.store import clock

LINE = 20  # versions that are looked at for a row


def chain(
    platform: Platform,
    asked: str,
    sees: Callable[[Node], bool],
    who: Principal,
    *,
    direction: str = "both",
    generations: int = GENERATIONS,
) -> Graph:
    """The chain through what is asked for, as far as somebody sees. Raises NotFound, Forbidden, Invalid."""
    known = _answer(platform, asked) or _row(platform, asked, sees, who)
    with platform.db.reading() as conn:
        start = known or lineage.find(conn, asked)
        if not sees(start):
            raise Forbidden(
                f"this key does not reach {start.of}", where="lineage", remedy="ask an admin for a key for that model"
            )
        count = _Counted(platform)
        found = lineage.graph(conn, start, direction=cast(Direction, direction), generations=generations, count=count)
    return found.within(sees)


def _answer(platform: Platform, asked: str) -> Node | None:
    """An interaction, when that is what is asked for."""
    kind, _, name = asked.partition(":")
    if kind != "answer" and not (len(asked) == 36 and asked.count("-") == 4):
        return None
    found = platform.interactions.get(name or asked)
    if found is None:
        raise NotFound(f"no interaction {asked!r}", where="lineage", remedy="`ciranda interactions` lists them")
    return lineage.answer(found.id, found.version, clock.iso(found.ts))


def _row(platform: Platform, asked: str, sees: Callable[[Node], bool], who: Principal) -> Node | None:
    """A row, when `row:tickets@2/<key>` is asked for: where it came from, and which of the newest versions hold it."""
    kind, _, name = asked.partition(":")
    if kind != "row":
        return None
    ref, _, key = name.partition("/")
    version = versions.get(platform.db, ref)
    if not sees(Node("dataset", version.ref, version.name)):
        raise Forbidden(
            f"this key does not reach {version.name}", where="lineage", remedy="ask an admin for a key for it"
        )
    reader = reading.asking(who, "viewing")
    found = _held(platform, version.ref, key, reader, ("key", "source", "origin"))
    if found is None:
        raise NotFound(
            f"{version.ref} holds no row {key[:64]!r}",
            where="lineage",
            remedy="its key is in the check report and in exports",
        )
    others = [one.ref for one in versions.line(platform.db, version.name, limit=LINE) if not one.collected_at]
    held = [one for one in others if one == version.ref or _held(platform, one, key, reader, ("key",))]
    facts = {"source": str(found["source"]), "origin": str(found["origin"])}
    return lineage.row(key, [version.ref, *(one for one in held if one != version.ref)], facts)


def _held(platform: Platform, ref: str, key: str, reader: Reader, columns: Sequence[str]) -> dict[str, Any] | None:
    """The row of a version with this key, or None."""
    for batch in reading.batches(platform.db, platform.home, ref, reader, key=key, columns=columns):
        for record in batch.to_pylist():
            return dict(record)
    return None


class _Counted:
    """How many answers a version gave; nothing when their store is away, which is asked once."""

    def __init__(self, platform: Platform) -> None:
        self._platform, self._away = platform, False

    def __call__(self, version: str) -> int | None:
        if self._away:
            return None
        try:
            return self._platform.interactions.count(version=version)
        except Unavailable:
            self._away = True
            return None
