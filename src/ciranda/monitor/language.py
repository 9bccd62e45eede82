"""Which language a short text is in. py3langid is named here alone; it needs no download.

A language detector that knows a hundred languages takes short Portuguese for Galician. This one is offered the languages
that users of such services really write in, and says "und" (undetermined) for what has too few letters to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

LANGUAGES = (
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it",
    "ja", "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "ta", "th", "tr", "uk", "ur",
    "vi", "zh",
)  # fmt: skip
UNKNOWN = "und"
LETTERS = 6  # below this many letters a guess says more about the detector than about the text
CHARACTERS = 512


def detect(text: str) -> str:
    """The language code of a text, or `und`."""
    head = text[:CHARACTERS]
    if sum(character.isalpha() for character in head) < LETTERS and head.isascii():
        return UNKNOWN
    return str(_identifier().classify(head)[0])


def detect_all(texts: Sequence[str]) -> list[str]:
    """The language of each text."""
    return [detect(text) for text in texts]


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    return identifier
