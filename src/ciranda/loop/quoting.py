"""Sentences of people that stand in what the platform says of itself: examples of alerts and of drift, answers of replays.

They were taken when it was written, for everybody; who reads them later is somebody in particular. So each is put to the policies
as the interaction that it comes from: what the reader may not see of that is masked, and what is not for them is left out. Words
that a twentieth of all messages share, by which a kind of message is named, are figures and stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ciranda.data.hearing import Hearing
from ciranda.data.masks import MASKED
from ciranda.data.reading import asking
from ciranda.govern.access import Principal
from ciranda.govern.policy import TEXTS
from ciranda.interactions.table import Interaction
from ciranda.loop.platform import Platform

EXAMPLES = "examples"
TOLD = ("prompt", "before", "after")


class Quotes:
    """What one reader may hear of the sentences of one model's users.

    Raises Unavailable, from both methods, when something binds the reader and the record cannot be asked.
    """

    def __init__(self, platform: Platform, model: str, who: Principal) -> None:
        self._platform = platform
        self._hearing = Hearing(platform.db, platform.home, asking(who, "viewing"))
        decided = self._hearing.decision(model)
        self._closed = bool(decided.closed)
        self._free = not (decided.closed or decided.rows or decided.fields & set(TEXTS))

    def body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """An explanation as monitors write it, with its examples, each an id and a text, as the reader may hear them."""
        if self._free:
            return dict(body)
        told = self._told(str(pair[0]) for pair in _pairs(body))
        return {name: _again(name, value, told) for name, value in body.items()}

    def answers(self, examples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers of a replay, each of an `interaction`."""
        found = [dict(one) for one in examples]
        if self._free:
            return found
        told = self._told(str(one["interaction"]) for one in found)
        return [
            one if told[one["interaction"]] else one | dict.fromkeys(TOLD, MASKED)
            for one in found
            if one["interaction"] in told
        ]

    def _told(self, ids: Iterable[str]) -> dict[str, bool]:
        """Those that are for the reader, and whether they hear them as they were said."""
        if self._closed:
            return {}
        found = self._platform.interactions.several(sorted(set(ids) - {""}))
        return {one.id: _said(one) == _said(found[one.id]) for one in self._hearing.these(list(found.values()))}


def _said(one: Interaction) -> tuple[str, ...]:
    return one.input_text, one.output_text, one.request, one.response


def _pairs(value: Any) -> list[Any]:
    """All examples in a body, however deep."""
    if isinstance(value, Mapping):
        own = [pair for pair in value.get(EXAMPLES) or () if len(pair) == 2]
        return own + [pair for name, inner in value.items() if name != EXAMPLES for pair in _pairs(inner)]
    return [pair for inner in value for pair in _pairs(inner)] if isinstance(value, list) else []


def _again(name: str, value: Any, told: Mapping[str, bool]) -> Any:
    if name == EXAMPLES:
        kept = [pair for pair in value or () if len(pair) == 2 and str(pair[0]) in told]
        return [[pair[0], pair[1] if told[str(pair[0])] else MASKED] for pair in kept]
    if isinstance(value, Mapping):
        return {inner: _again(inner, one, told) for inner, one in value.items()}
    return [_again("", one, told) for one in value] if isinstance(value, list) else value
