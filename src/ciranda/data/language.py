"""Which language a short text is in. py3langid is named here alone; it needs no download.

A language detector that knows a hundred languages takes short Portuguese for Galician. For a single text this one is offered
the languages that users of such services really write in, and those whose script is theirs alone; it says "und" (undetermined)
for what has too few letters to tell, and for a guess that it is not sure of: "reproduza rádio" is no Czech, and a language that
nobody speaks must not appear in an alert. Texts that came together settle each other's language, out of all there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANGUAGES = (
    "am", "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he", "hi", "hr", "hu", "hy",
    "id", "it", "ja", "ka", "km", "kn", "ko", "lo", "lt", "lv", "ml", "ms", "nl", "no", "pa", "pl", "pt", "ro", "ru", "si", "sk",
    "sl", "sr", "sv", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
SELDOM = (
    0.05  # how much less likely than one of these any other language is, before texts that came together have spoken
)
UNKNOWN = "und"
LETTERS = 6  # below this many letters a guess says more about the detector than about the text
CHARACTERS = 512
ROUNDS = 5
SURE = 0.5  # of 300 short Portuguese commands 9 % got a language that nobody spoke; so 1 % does, and 20 % get none


def detect(text: str) -> str:
    """The language code of a text, or `und`."""
    head = text[:CHARACTERS]
    if not _tellable(head):
        return UNKNOWN
    return str(_identifier().classify(head)[0])


def detect_all(texts: Sequence[str]) -> list[str]:
    """The language of each of texts that came together; what one leaves open, the others often settle.

    The languages' shares among them are the prior of each (expectation maximisation): among Portuguese commands "reproduza
    rádio" is Portuguese, alone it is anything. All languages that the detector knows are offered, the seldom ones for less.
    """
    told = [number for number, text in enumerate(texts) if _tellable(text[:CHARACTERS])]
    named = [UNKNOWN] * len(texts)
    if told:
        every = tuple(
            dict.fromkeys(str(name) for name in _every().nb_classes)
        )  # one written in two scripts stands there twice
        by_text = [dict(_every().rank(texts[number][:CHARACTERS])) for number in told]
        likely = np.array([[float(one[name]) for name in every] for one in by_text])
        usual = np.array([1.0 if name in LANGUAGES else SELDOM for name in every])
        for number, posterior in zip(told, _settled(likely, usual / usual.sum()), strict=True):
            if posterior.max() >= SURE:
                named[number] = every[int(posterior.argmax())]
    return named


def _settled(likely: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posteriors of texts x languages, with the shares of the languages as their common prior; `before` is what it begins with."""
    posterior: NDArray[np.float64] = likely * before
    for _ in range(ROUNDS):
        posterior /= posterior.sum(axis=1, keepdims=True)
        posterior = likely * (posterior.sum(axis=0) + before)
    posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior


def _tellable(text: str) -> bool:
    return sum(character.isalpha() for character in text) >= LETTERS or not text.isascii()


@lru_cache(maxsize=1)
def _identifier() -> Any:
    identifier = _loaded(min_confidence=SURE)
    identifier.set_languages(LANGUAGES)
    return identifier


@lru_cache(maxsize=1)
def _every() -> Any:
    return _loaded()


def _loaded(**options: float) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, **options)
