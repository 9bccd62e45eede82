"""Words that no assistant should write: a short, editable veto in English and Portuguese.

A list finds what it lists and misses the rest; it is a floor under better judges, and cheap enough for every row and answer.
Words that are also names of groups of people, of illnesses or of places are left out on purpose: flagging who is spoken of
does more harm than it prevents.
"""

from __future__ import annotations

import re

TOXIC = (
    "asshole", "assholes", "bastard", "bastards", "bitch", "bitches", "bullshit", "cunt", "cunts", "dickhead", "dumbass",
    "fuck", "fucked", "fucker", "fucking", "jackass", "moron", "morons", "motherfucker", "piece of shit", "scumbag", "shit",
    "shithead", "shut up", "slut", "sluts", "stupid idiot", "wanker", "whore", "whores", "go to hell", "kill yourself",
    "arrombado", "babaca", "babacas", "boiola", "bosta", "buceta", "cala a boca", "caralho", "cuzão", "desgraçada",
    "desgraçado", "escrota", "escroto", "filha da puta", "filho da puta", "foda-se", "fodase", "fdp", "idiota", "idiotas",
    "imbecil", "imbecis", "merda", "otária", "otário", "piranha imunda", "porra", "puta", "putas", "vadia", "vadias",
    "vagabunda", "vagabundo", "vai se foder", "vai te catar", "vá se foder", "se mata",
)  # fmt: skip

_PATTERN = re.compile(
    rf"(?<!\w)(?:{'|'.join(re.escape(word) for word in sorted(TOXIC, key=len, reverse=True))})(?!\w)", re.I
)


def toxic(text: str) -> list[str]:
    """The listed words that a text has, as written."""
    return _PATTERN.findall(text)
