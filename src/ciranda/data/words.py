"""Words that no assistant should write: an editable veto in English and Portuguese.

A list finds what it lists and misses the rest; it is a floor under better judges, and cheap enough for every row and answer.
Words that are also names of groups of people, of illnesses or of places are left out on purpose: flagging who is spoken of
does more harm than it prevents. A word is found with its endings where the list says `+`, and with signs in the place of
letters (`f*ck`, `sh1t`). How much it finds, and what it takes wrongly, is measured by `make bench-text`.
"""

from __future__ import annotations

import re

TOXIC = (
    "arsehole+", "ass kisser", "asshat+", "asshole+", "assed", "bastard", "bastards", "bellend", "bitch+", "blowjob+",
    "bollocks", "bullshit+", "bust a nut", "clusterfuck+", "cocksuck+", "cunt+", "cum dump+", "dickhead+", "dick suck+",
    "suck a dick", "suck my dick", "suck his dick", "suck dick", "your dick", "his big dick", "big dick", "dipshit+",
    "douche", "douchebag+", "dumbass+", "dumb ass+", "dumbfuck+", "fat ass+", "fatass+", "stupid ass+", "my ass",
    "your ass", "his ass", "her ass", "their ass", "the ass", "fucking ass", "ass off", "badass mother+", "faggot+", "fag",
    "fags", "fuck+", "fuk", "fukin", "fcuk+", "fuckin", "f off", "get lost loser", "go to hell", "burn in hell", "goddamn+",
    "goddammit", "horseshit", "i will kill you", "i'll kill you", "going to kill you", "hope you die", "idiot", "idiots",
    "idiotic", "jackass+", "jerkoff", "kill yourself", "kys", "moron", "morons", "moronic", "motherfuck+", "motherf+",
    "mother fuck+", "nigga", "niggas", "nigger+", "piece of shit", "piece of crap", "piss off", "pissed off", "prick",
    "pricks", "pussy", "pussies", "retarded", "retards", "scumbag+", "shit", "shits", "shitty", "shithead+", "shithole+",
    "shitload", "shitting", "shitted", "shitshow", "shut up", "shut your mouth", "skank+", "slut+", "smartass",
    "son of a bitch", "stupid idiot", "stupid cow", "stupid bitch", "suck my balls", "suck it", "suck cock", "tits",
    "titties", "tosser", "twat+", "wanker+", "weak ass", "whore+", "whoring", "you pig", "a disgusting pig", "you're a pig",
    "you suck", "dumb fuck", "dirty slut", "damn you",
    # Portuguese
    "arrombad+", "babaca", "babacas", "bando de merda", "boiola", "boiolas", "bosta", "bostas", "buceta+", "boceta+",
    "cala a boca", "cale a boca", "canalha", "caralho+", "chupa meu", "corno manso", "cuzão", "cuzões", "cuzona",
    "desgraçada", "desgraçado", "escrota", "escroto", "escrotos", "enfia no cu", "enfiar no cu", "filha da puta",
    "filho da puta", "filhos da puta", "filho de puta", "foda-se", "fodase", "foder+", "fodida", "fodido", "fodam-se",
    "fodeu", "fdp", "idiota", "idiotas", "imbecil", "imbecis", "lixo humano", "merda", "merdas", "morre desgraça", "otária",
    "otário", "otários", "pau no cu", "piranha imunda", "piroca", "porra", "porras", "pqp", "puta", "putas",
    "puta que pariu", "putinha", "putaria", "punheta+", "retardada", "retardado", "rola na boca", "seu burro", "seu lixo",
    "se mata", "tomar no cu", "toma no cu", "traveco", "trouxa do caralho", "vadia", "vadias", "vagabunda", "vagabundas",
    "vagabundo", "vagabundos", "vai se foder", "vai se ferrar", "vai te catar", "vá se foder", "vá à merda", "vou te matar",
    "vsf", "vtnc", "vtmnc", "xota", "xoxota",
)  # fmt: skip

_SIGNS = {"a": "[a@4*]", "e": "[e3*]", "i": "[i1!*]", "o": "[o0*]", "u": "[uv*]", "s": "[s$5]", "c": "[ck*]"}


def _form(word: str) -> str:
    """A word as a pattern; its first letter stands as it is, so that the search is fast."""
    stem = word.removesuffix("+")
    signed = "".join(_SIGNS.get(letter, "[ \\-]" if letter == " " else re.escape(letter)) for letter in stem[1:])
    return re.escape(stem[0]) + signed + (r"\w{0,12}" if word.endswith("+") else "")


_PATTERN = re.compile(
    "|".join(
        rf"{first}(?<!\w{first})(?:{'|'.join(forms)})(?!\w)"
        for first in sorted({word[0] for word in TOXIC})
        for forms in [[_form(word)[1:] for word in sorted(TOXIC, key=len, reverse=True) if word[0] == first]]
    )
    + r"|f(?<!\wf)[*\-–—.]{2,3}(?:k|c|in|ing|ed|er)?\w{0,4}(?=[\s,!.?]|$)|s(?<!\ws)\*\*+t?(?!\w)"
)


def toxic(text: str) -> list[str]:
    """The listed words that a text has, as written."""
    small = text.lower()
    if len(small) != len(text):
        return _PATTERN.findall(small)
    return [text[found.start() : found.end()] for found in _PATTERN.finditer(small)]
