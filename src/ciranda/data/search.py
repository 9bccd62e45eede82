"""Finding data by what it is called and what was said of it: names, owners, descriptions, tags, terms and synonyms, fields.

Each word of a query must stand somewhere in a dataset or its fields, at the beginning of a word or inside one; what it stands in
decides the rank (a name before a tag before a description), a whole word counts more than a part. Accents and case do not
count. The words are kept in memory, with the same answers on SQLite and PostgreSQL: a catalogue has thousands of texts, not
millions, and two full-text engines would rank and fold in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W_]+")
WEIGHTS = {"name": 10.0, "tag": 6.0, "term": 6.0, "owner": 5.0, "field": 4.0, "purpose": 2.0, "description": 2.0}
WHOLE, START, INSIDE = 1.0, 0.6, 0.2
SHORTEST_INSIDE = 3  # characters that a part inside a word needs to count


@dataclass(frozen=True)
class Text:
    """One thing that is said of a dataset (or of `field`): what kind of thing, and its words."""

    kind: str
    text: str
    field: str = ""


@dataclass(frozen=True)
class Hit:
    """A dataset that was found, how well, and the texts that it was found by, the best first."""

    name: str
    score: float
    why: tuple[Text, ...]


class Index:
    """The words of a catalogue, each with the texts that it stands in; made once for as long as nothing changes."""

    def __init__(self, documents: Mapping[str, Iterable[Text]]) -> None:
        self._places: dict[str, list[tuple[str, Text]]] = {}
        for name, texts in documents.items():
            for text in texts:
                for word in dict.fromkeys(words(text.text)):
                    self._places.setdefault(word, []).append((name, text))

    def find(self, query: str) -> list[Hit]:
        """The datasets that all words of the query lead to, the best first."""
        found = [self._best(word) for word in dict.fromkeys(words(query))]
        if not found:
            return []
        names = set(found[0]).intersection(*found[1:])
        return sorted(
            (_hit(name, [best[name] for best in found]) for name in names), key=lambda hit: (-hit.score, hit.name)
        )

    def _best(self, word: str) -> dict[str, tuple[float, Text]]:
        """For each dataset the best place of a word: the place's weight times how much of the word it is."""
        best: dict[str, tuple[float, Text]] = {}
        for other, places in self._places.items():
            if not (share := _match(word, other)):
                continue
            for name, text in places:
                score = WEIGHTS[text.kind] * share
                if name not in best or score > best[name][0]:
                    best[name] = (score, text)
        return best


def _hit(name: str, best: Sequence[tuple[float, Text]]) -> Hit:
    ranked = sorted(best, key=lambda one: -one[0])
    return Hit(name, round(sum(score for score, _ in best), 3), tuple(dict.fromkeys(text for _, text in ranked)))


def words(text: str) -> list[str]:
    """The words of a text without case and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return WORD.findall("".join(one for one in plain if not unicodedata.combining(one)))


def _match(word: str, other: str) -> float:
    if word == other:
        return WHOLE
    if other.startswith(word):
        return START
    return INSIDE if len(word) >= SHORTEST_INSIDE and word in other else 0.0
