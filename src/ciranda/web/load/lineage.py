"""The causal chain, put together from its owners: the registry's graph, and how many answers each version gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ciranda.errors import Forbidden, NotFound, Unavailable
from ciranda.loop.platform import Platform
from ciranda.registry import lineage
from ciranda.registry.lineage import GENERATIONS, Direction, Graph, Node
from ciranda.store import clock


def chain(
    platform: Platform,
    asked: str,
    sees: Callable[[Node], bool],
    *,
    direction: str = "both",
    generations: int = GENERATIONS,
) -> Graph:
    """The chain through what is asked for, as far as somebody sees. Raises NotFound, Forbidden, Invalid."""
    answer = _answer(platform, asked)
    with platform.db.reading() as conn:
        start = answer or lineage.find(conn, asked)
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
