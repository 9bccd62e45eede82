"""Whether a text says what a case of a suite says: exactly, nearly, or in a long run of words.

Exactly: the same but for case, punctuation at the ends and spaces. Nearly, for texts of LONG words and more: a MinHash similarity
from a threshold on (`near`), or so many words in a row that both have (13, as for GPT-3). Shorter texts are compared
exactly alone, since sentences of one template resemble each other on purpose: "turn on the lamp" is not in the test because
"turn off the lamp" is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ciranda.data import near
from ciranda.data.rows import normalised

LONG = 8  # words

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Same:
    """A text (by its place) and the case that it repeats; `how`: exact, near or run."""

    place: int
    suite: str
    case: int
    how: str

    @property
    def reason(self) -> str:
        """As in `asks what suite x asks`."""
        told = {"exact": "asks what", "near": "nearly asks what", "run": "repeats words of what"}
        return f"{told[self.how]} suite {self.suite} asks"


@dataclass(frozen=True)
class Asked:
    """The prompts of suites, to be compared with. Its indexes are built at first use, in each process."""

    suites: Mapping[str, Sequence[str]]
    similarity: float = 0.8
    run: int = 13

    def same(self, texts: Sequence[str]) -> Iterator[Same]:
        """What each text repeats, at most once and the surest; in the order of the texts."""
        if not self._cases:
            return
        plain = [normalised(text) for text in texts]
        found = {place: Same(place, *self._named(case), "exact") for place, text in enumerate(plain)
                 if (case := self._exact.get(text)) is not None}  # fmt: skip
        long = [place for place, text in enumerate(plain) if place not in found and text.count(" ") >= LONG - 1]
        for place in long:
            if (case := self._shared(plain[place])) is not None:
                found[place] = Same(place, *self._named(case), "run")
        rest = [place for place in long if place not in found]
        found |= {one.place: one for one in self._alike(rest, [plain[place] for place in rest])}
        yield from (found[place] for place in sorted(found))

    def _named(self, case: int) -> tuple[str, int]:
        return self._cases[case][0], self._cases[case][1]

    @cached_property
    def _cases(self) -> list[tuple[str, int, str]]:
        cases = [(name, at, normalised(text)) for name, texts in self.suites.items() for at, text in enumerate(texts)]
        return [case for case in cases if case[2]]

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {text: case for case, (_, _, text) in reversed(list(enumerate(self._cases)))}

    @cached_property
    def _runs(self) -> dict[str, int]:
        return {one: case for case, (_, _, text) in reversed(list(enumerate(self._cases))) for one in self._grams(text)}

    def _grams(self, text: str) -> Iterator[str]:
        words = _WORD.findall(text)
        for at in range(len(words) - self.run + 1):
            yield " ".join(words[at : at + self.run])

    def _shared(self, text: str) -> int | None:
        return next((self._runs[one] for one in self._grams(text) if one in self._runs), None) if self._runs else None

    @cached_property
    def _long(self) -> tuple[list[int], near.Array]:
        cases = [case for case, (_, _, text) in enumerate(self._cases) if text.count(" ") >= LONG - 1]
        return cases, near.signatures(self._cases[case][2] for case in cases)

    def _alike(self, places: Sequence[int], texts: Sequence[str]) -> Iterator[Same]:
        cases, slots = self._long
        if not cases or not places:
            return
        sketches = near.signatures(texts)
        seen = set[int]()
        for band in range(near.BANDS):
            keys, mine = near.keys(slots, band), near.keys(sketches, band)
            order = np.argsort(keys, kind="stable")
            first = np.searchsorted(keys[order], mine, side="left")
            last = np.searchsorted(keys[order], mine, side="right")
            for row in map(int, np.flatnonzero(last > first)):
                some = order[first[row] : last[row]]
                alike = near.similarity(sketches[row], slots[some])
                if row not in seen and alike.max() >= self.similarity:
                    seen.add(row)
                    yield Same(places[row], *self._named(cases[int(some[alike.argmax()])]), "near")
