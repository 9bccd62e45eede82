"""Names of persons: after words that introduce one, and, where asked, wherever a known first name meets a known surname.

"My name is", "Sr.", "paciente:" introduce a name whatever it is; "I'm", "dear", "aqui é" introduce many things, so there the
first word must be a first name of the gazetteer (the censuses of Brazil and the United States; see bench/gazetteer.py).
Names that nothing introduces are found only on request (`anywhere`): a question about Michael Jordan would be masked too, which
spoils a live model more often than it protects anybody, while rows for training lose nothing by it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SURE = (
    "my name is ", "name is ", "meu nome é ", "meu nome e ", "nome completo: ", "full name: ", "nome: ", "name: ", "me chamo ",
    "chamo-me ", "sr. ", "sra. ", "srta. ", "dr. ", "dra. ", "mr. ", "mrs. ", "ms. ", "miss ", "dona ", "prof. ",
    "paciente: ", "cliente: ", "titular: ", "customer: ", "patient: ", "client: ", "prezado ", "prezada ", "em nome de ",
    "on behalf of ", "signed, ", "assinado: ",
)  # fmt: skip
PERHAPS = (
    "i'm ", "i am ", "this is ", "called ", "sou o ", "sou a ", "eu sou ", "aqui é o ", "aqui é a ", "aqui é ", "dear ", "hi ",
    "hello ", "olá, ", "olá ", "oi, ", "oi ", "caro ", "cara ", "senhor ", "senhora ", "regards,\n", "regards, ", "best,\n",
    "atenciosamente,\n", "atenciosamente, ", "att,\n", "att, ", "filho de ", "filha de ", "mãe: ", "pai: ", "married to ",
    "casado com ", "casada com ", "husband ", "wife ", "marido ", "esposa ", "doctor ", "with ", "para o ", "para a ",
)  # fmt: skip
WORDS = 5  # of one name, at most
SPOKEN = (
    "my name is ",
    "meu nome é ",
    "meu nome e ",
    "me chamo ",
    "chamo-me ",
    "nome: ",
    "name: ",
)  # before a name in small letters too

_PART = r"[A-ZÀ-Ý](?:[\w'’-]{1,25}|\.)"
_LINK = r"(?:d[aeo]s?|d'|e|von|van|der|den|de la|del|bin|ben)"
RUN = re.compile(rf"[A-ZÀ-Ý](?<![\w.'’-].)(?:[\w'’-]{{1,25}}|\.)(?: (?:{_LINK} )?{_PART}){{0,{WORDS - 1}}}")
_SMALL = re.compile(rf"[\w'’-]{{2,25}}(?: (?:{_LINK} )?[\w'’-]{{2,25}}){{0,{WORDS - 1}}}")
_LONGEST = max(map(len, (*SURE, *PERHAPS)))


def named(run: re.Match[str], *, anywhere: bool) -> tuple[int, int] | None:
    """Where the name in a run of capitalised words stands (`RUN` finds them), if there is one.

    A title may be the run's own first word: in "Dr. Ana Lima" the name is Ana Lima.
    """
    text, start, end = run.string, *run.span()
    sure, title = False, _TITLE.match(text, start, end)
    while title:
        sure, start = title.group("greeting") is None, title.end()
        title = _TITLE.match(text, start, end)
    first = _folded(text[start:end].split(" ", 1)[0])
    if first in _TITLES:  # "Prezada Sra." ends where a sentence could: the name begins another run
        return None
    before = text[max(0, start - _LONGEST) : start].lower()
    introduced = start > run.start() or before.endswith(PERHAPS)
    if sure or before.endswith(SURE) or (introduced and first in _gazetteer()[0]):
        return start, end
    return _known(run) if anywhere and " " in run.group() else None


def spoken(text: str) -> Iterator[tuple[int, int]]:
    """Where names in small letters stand, right after the words that surely introduce one."""
    small = text.lower()
    if len(small) != len(text):  # a letter whose small form is two
        small = "".join(one if len(one.lower()) != 1 else one.lower() for one in text)
    for phrase in SPOKEN:
        at = small.find(phrase)
        while at >= 0:
            at += len(phrase)
            found = _SMALL.match(text, at)
            if found and not found.group()[0].isupper() and (end := _small(found, at)):
                yield at, end
            at = small.find(phrase, at)


def _small(spoken: re.Match[str], at: int) -> int:
    """A name without capitals: as far as its words are names."""
    first, last = _gazetteer()
    end, words = 0, spoken.group().split(" ")
    for place, word in enumerate(words):
        plain = _folded(word)
        linked = (
            word in ("da", "de", "do", "das", "dos") and place + 1 < len(words) and _folded(words[place + 1]) in last
        )
        if plain in first if place == 0 else plain in first or plain in last or linked:
            end = at + len(word) + (0 if place == 0 else 1)
            at = end
        else:
            break
    return end


def _known(run: re.Match[str]) -> tuple[int, int] | None:
    """The part of a run of capitalised words that begins with a first name and ends with a surname."""
    first, last = _gazetteer()
    words = [(match.start(), match.end(), _folded(match.group())) for match in _WORD.finditer(run.group())]
    for place, (start, _, word) in enumerate(words[:-1]):
        ends = [end for _, end, other in words[place + 1 :] if other in last or other in first]
        if word in first and len(word) > 2 and ends:
            return run.start() + start, run.start() + ends[-1]
    return None


def _folded(word: str) -> str:
    """Small, without accents and possessive."""
    plain = word.lower().removesuffix("'s").removesuffix("’s")
    if plain.isascii():
        return plain
    return "".join(one for one in unicodedata.normalize("NFD", plain) if not unicodedata.combining(one))


@lru_cache(maxsize=1)
def _gazetteer() -> tuple[frozenset[str], frozenset[str]]:
    """First names and surnames."""
    lines = Path(__file__).with_name("gazetteer.txt").read_text("ascii").splitlines()
    first, last = (frozenset(line.split()) for line in lines[1:3])
    return first, last


_TITLE = re.compile(
    r"(?:(?P<greeting>Dear|Prezad[oa]|Car[oa]|Olá|Ola|Oi|Hi|Hello|Hey|Senhora?|Doctor)|Sra?|Srta|Dra?|Mr|Mrs|Ms|Profa?|Miss|Dona)\b"
    r"\.?,? (?=[A-ZÀ-Ý])"
)
_TITLES = frozenset(
    {"sr", "sra", "srta", "dr", "dra", "mr", "mrs", "ms", "prof", "profa", "miss", "dona", "dear", "prezado", "prezada"}
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
