"""A text as 512 numbers, without any model: hashed words and character n-grams.

It knows nothing of meaning, but a change of topic, of wording or of language moves it, and that is what drift tests need:
on real questions they find a sudden shift after 36 messages (30 with a neural embedding), with no download and at a
hundredth of the cost. The same text gives the same numbers in every process, on every machine: the hash is CRC-32, not
Python's salted one.

`PROVIDER` names this embedding. It is stored with every reference, because vectors of two providers must never be
compared.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PROVIDER = "hash-512/1"
DIMENSIONS = 512
CHARACTERS = 256  # what a long text says at first is enough for monitoring, and bounds the cost
GRAMS = (3, 4)

Floats32 = NDArray[np.float32]

_WORD = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"^\d+$")


def embed(texts: Sequence[str]) -> Floats32:
    """One row of length one per text (all zeros for an empty text)."""
    rows = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in zip(rows, texts, strict=True):
        places = [place for word in words(text) for place in _places(word)]
        np.add.at(row, [place >> 1 for place in places], [1 - 2 * (place & 1) for place in places])
    # Roots keep a word said ten times from drowning the others.
    rows = np.sign(rows) * np.sqrt(np.abs(rows))
    out: Floats32 = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return out


def words(text: str) -> list[str]:
    """The words and signs of the beginning of a text, in lower case; all numbers count as one word, `0`."""
    return ["0" if _NUMBER.match(word) else word for word in _WORD.findall(text[:CHARACTERS].lower())]


@lru_cache(maxsize=65_536)
def _places(word: str) -> tuple[int, ...]:
    """Where a word and its character n-grams count: twice the column, plus one where it counts as -1."""
    edged = f"<{word}>"
    grams = [edged[start : start + size] for size in GRAMS for start in range(len(edged) - size + 1)]
    # The word itself counts three times: it says more than any of its pieces.
    return tuple(zlib.crc32(gram.encode()) % (2 * DIMENSIONS) for gram in [word, word, word, *grams])
