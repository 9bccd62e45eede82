"""What changed, and by how much: the size of a change that a bet has made certain, in words and examples.

Living streams change all the time, so certainty alone would cry wolf. This measures size: which kinds of message and which
languages grew or shrank, from what share to what share, and how much of the present stream the past cannot account for.
Kinds are found by k-means over past and present messages together; a share counts as moved only by more than its own noise
(z >= 3), and what chance alone would move is taken off the total.
Texts come in masked and leave as examples; nothing here reads a store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda.data.vectors import Floats32, embed, words

KINDS = 12
ROUNDS = 8
EXAMPLES = 3
WORDS = 6
SHARE_MOVED = 0.05
FRACTION = 0.10
CERTAIN_Z = 3.0


@dataclass(frozen=True, slots=True)
class Text:
    """One message: the id of its interaction, its masked beginning, its language."""

    id: str
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A kind of message whose share moved: its words, the shares, and examples (interaction id, masked text)."""

    label: str
    before: float
    after: float
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> float:
        return abs(self.after - self.before)


@dataclass(frozen=True, slots=True)
class Change:
    """The size of a change.

    Args:
        fraction: About how much of the present stream the past does not account for.
        kinds: The kinds of message that grew or shrank, largest move first.
        languages: The languages that did.
    """

    fraction: float
    kinds: tuple[Move, ...]
    languages: tuple[Move, ...]

    @property
    def moved(self) -> float:
        """The largest move of a share."""
        return max((move.size for move in (*self.kinds, *self.languages)), default=0.0)

    @property
    def large(self) -> bool:
        """Whether somebody should be told: a share moved by 5 points, or a tenth of the stream is new."""
        return self.moved >= SHARE_MOVED or self.fraction >= FRACTION

    @property
    def words(self) -> str:
        """One sentence on the largest moves."""
        told = [f"{m.label} {m.before:.0%} -> {m.after:.0%}" for m in (*self.languages[:2], *self.kinds[:2])]
        return "; ".join(told) or f"about {self.fraction:.0%} of the messages are of a new kind"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, in the shape that pages show: groups with label, before, after, examples."""
        return {"fraction": round(self.fraction, 4), "moved": round(self.moved, 4), "summary": self.words,
                "groups": [_plain(move) for move in self.kinds],
                "languages": [_plain(move) for move in self.languages]}  # fmt: skip


def _plain(move: Move) -> dict[str, Any]:
    return {"label": move.label, "before": round(move.before, 4), "after": round(move.after, 4),
            "examples": [list(example) for example in move.examples]}  # fmt: skip


def explain(before: Sequence[Text], now: Sequence[Text], *, seed: int = 0) -> Change:
    """The size of the change between two samples of messages, neither of them empty."""
    languages = _languages(before, now)
    vectors = embed([one.text for one in (*before, *now)])
    kinds = _cluster(vectors, seed)
    old, new = kinds[: len(before)], kinds[len(before) :]
    count = int(kinds.max()) + 1
    then, since = _shares(old, count), _shares(new, count)
    moved = [kind for kind in range(count) if _certain(then[kind], since[kind], len(before), len(now))]
    moves = [_move(kind, kinds, before, now, vectors) for kind in moved]
    return Change(_fraction(then, since, len(before), len(now), seed), _by_size(moves)[:4], languages)


def _languages(before: Sequence[Text], now: Sequence[Text]) -> tuple[Move, ...]:
    old, new = Counter(one.language for one in before), Counter(one.language for one in now)
    moves = [
        Move(language, old[language] / len(before), new[language] / len(now), _examples(language, now))
        for language in {*old, *new} - {""}
        if _certain(old[language] / len(before), new[language] / len(now), len(before), len(now))
    ]
    return _by_size(moves)[:4]


def _examples(language: str, now: Sequence[Text]) -> tuple[tuple[str, str], ...]:
    return tuple((one.id, one.text) for one in now if one.language == language)[-EXAMPLES:]


def _by_size(moves: Sequence[Move]) -> tuple[Move, ...]:
    return tuple(sorted(moves, key=lambda move: (-move.size, move.label)))


def _certain(before: float, now: float, n_before: int, n_now: int) -> bool:
    """Whether two shares differ by more than three standard errors."""
    pooled = (before * n_before + now * n_now + 1) / (n_before + n_now + 2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_before + 1 / n_now))
    return abs(now - before) >= CERTAIN_Z * error


def _shares(kinds: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.bincount(kinds, minlength=count) / len(kinds)
    return out


def _fraction(then: NDArray[np.float64], since: NDArray[np.float64], n_then: int, n_since: int, seed: int) -> float:
    """Total variation between the shares, less the most of what chance alone brings in samples of these sizes."""
    total = 0.5 * float(np.abs(then - since).sum())
    dice = np.random.default_rng(seed)
    mixed = (then * n_then + since * n_since) / (n_then + n_since)
    one, two = (dice.multinomial(n, mixed, size=200) / n for n in (n_then, n_since))
    chance = 0.5 * np.abs(one - two).sum(axis=1)
    return max(0.0, total - float(chance.mean())) if total > float(np.quantile(chance, 0.99)) else 0.0


def _move(kind: int, kinds: NDArray[np.int64], before: Sequence[Text], now: Sequence[Text], vectors: Floats32) -> Move:
    texts = (*before, *now)
    inside = kinds == kind
    old, new = inside[: len(before)], inside[len(before) :]
    grew = new.mean() > old.mean()
    nearest = np.argsort(-(vectors @ vectors[inside].mean(axis=0)), kind="stable")
    wanted = range(len(before), len(texts)) if grew else range(len(before))
    shown = [place for place in nearest.tolist() if inside[place] and place in wanted][:EXAMPLES]
    side, rest = (now, before) if grew else (before, now)
    own = new if grew else old
    label = _label([one.text for one, inner in zip(side, own, strict=True) if inner], [one.text for one in rest])
    return Move(label, float(old.mean()), float(new.mean()), tuple((texts[at].id, texts[at].text) for at in shown))


def _label(inside: Sequence[str], outside: Sequence[str]) -> str:
    """The words of a kind that the other time did not say: log odds of the share of messages with the word."""
    own, other = _counts(inside), _counts(outside)
    odds = {word: math.log((n + 0.5) / (len(inside) + 1)) - math.log((other[word] + 0.5) / (len(outside) + 1))
            for word, n in own.items() if n >= max(2, 0.05 * len(inside))}  # fmt: skip
    best = sorted(odds, key=lambda word: (-odds[word] * math.sqrt(own[word]), word))[:WORDS]
    return ", ".join(word for word in best if odds[word] > 0) or "various"


def _counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in set(words(text)) if len(word) > 1)


def _cluster(vectors: Floats32, seed: int) -> NDArray[np.int64]:
    """Spherical k-means; starts are drawn far from one another."""
    centres = _starts(vectors, min(KINDS, len(vectors)), np.random.default_rng(seed))
    kinds = np.zeros(len(vectors), np.int64)
    for _ in range(ROUNDS):
        kinds = (vectors @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, kinds, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres)
    return kinds


def _starts(vectors: Floats32, count: int, dice: np.random.Generator) -> Floats32:
    chosen = [int(dice.integers(len(vectors)))]
    far = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        weight = np.maximum(far, 0).astype(np.float64) ** 2 + 1e-12
        chosen.append(int(dice.choice(len(vectors), p=weight / weight.sum())))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen]


def texts_from(rows: Sequence[Mapping[str, str]]) -> tuple[Text, ...]:
    """What was kept as JSON."""
    return tuple(Text(row["id"], row["text"], row["language"]) for row in rows)
