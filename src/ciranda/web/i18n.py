"""Languages: which one a request gets, and its messages. English is in the source; others are gettext catalogues.

A person's choice (cookie) wins over the browser's `Accept-Language`. Names, prompts and answers are never translated.
Catalogues are compiled by `hatch_build.py`; one that is missing shows English, and a test says how to build it.
"""

from __future__ import annotations

import gettext
from functools import lru_cache
from pathlib import Path

LANGUAGES = {"en": "English", "pt-BR": "Português (Brasil)"}
DEFAULT = "en"
FOLDER = Path(__file__).parent / "locale"


def negotiate(chosen: str, accepted: str) -> str:
    """The language tag for a request.

    Args:
        chosen: What the person picked, or nothing.
        accepted: The `Accept-Language` header.
    """
    if chosen in LANGUAGES:
        return chosen
    for tag in _by_weight(accepted):
        for known in LANGUAGES:
            if tag == known.lower() or tag.split("-")[0] == known.split("-")[0].lower():
                return known
    return DEFAULT


def _by_weight(accepted: str) -> list[str]:
    weighted: list[tuple[float, str]] = []
    for part in accepted.split(",")[:20]:
        tag, _, weight = part.strip().lower().partition(";q=")
        try:
            weighted.append((-float(weight or 1), tag))
        except ValueError:
            continue
    return [tag for _, tag in sorted(weighted, key=lambda pair: pair[0])]


@lru_cache
def messages(tag: str) -> gettext.NullTranslations:
    """The catalogue of a language; English for one that was not compiled."""
    return gettext.translation("ciranda", FOLDER, languages=[tag.replace("-", "_")], fallback=True)
