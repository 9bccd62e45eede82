"""Finding data by what it is called and what was said of it: names, owners, descriptions, tags, terms and synonyms, fields.

Each word of a query must stand somewhere in a dataset or its fields, at the beginning of a word or inside one; what it stands in
decides the rank (a name before a tag before a description), a whole word counts more than a part. Accents and case do not
count. It is a plain walk over what is said, with the same answers on SQLite and PostgreSQL: a catalogue has thousands of texts, not
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


def find(query: str, documents: Mapping[str, Sequence[Text]]) -> list[Hit]:
    """The datasets that all words of the query lead to, the best first."""
    wanted = words(query)
    hits = []
    for name, texts in documents.items():
        folded = [(text, words(text.text)) for text in texts]
        best = [_best(word, folded) for word in wanted]
        if wanted and all(score for score, _ in best):
            why = {text: score for score, text in sorted(best, key=lambda one: one[0]) if text is not None}
            ranked = sorted(why, key=lambda text: -why[text])
            hits.append(Hit(name, round(sum(score for score, _ in best), 3), tuple(ranked)))
    return sorted(hits, key=lambda hit: (-hit.score, hit.name))


def words(text: str) -> list[str]:
    """The words of a text without case and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return WORD.findall("".join(one for one in plain if not unicodedata.combining(one)))


def _best(word: str, texts: Iterable[tuple[Text, list[str]]]) -> tuple[float, Text | None]:
    """The best place of a word: its weight times how much of the word it is."""
    score, place = 0.0, None
    for text, known in texts:
        weight = WEIGHTS[text.kind] * max((_match(word, one) for one in known), default=0.0)
        if weight > score:
            score, place = weight, text
    return score, place


def _match(word: str, other: str) -> float:
    if word == other:
        return WHOLE
    if other.startswith(word):
        return START
    return INSIDE if len(word) >= SHORTEST_INSIDE and word in other else 0.0
