"""What may pass: personal data in English and Brazilian text, by pattern, check digit and context.

One engine, used live by the gateway and on rows of data. What is looked for stands in `kinds` and `names`; this file says how: only
the parts of a text that can hold a kind are searched (those with digits, those around an `@`), each pattern in stretches, so
time grows as the text does, whatever it holds. Recall and precision are measured by `make bench-pii` on sentences and values
that nobody here wrote, beside other tools.
It refuses to guess: what could as well be an order's number or a version needs a word that says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ciranda.govern import names
from ciranda.govern.kinds import BEFORE, FORMS, KINDS

__all__ = ["KINDS", "Finding", "find_pii", "mask"]

STRETCH = 16_384  # characters that are searched without a pause
LONGEST = 1_000  # of one finding
AROUND = 48  # characters on each side of a number's digits that may belong to it
STREET = 130  # the same of an address
MAIL = 330  # and of a mail address's sign

ALL: frozenset[str] = frozenset()

Span = tuple[int, int]

_DIGITS = re.compile(r"\d(?:\D{0,16}\d)*")
_NUMBERS = re.compile(r"\d(?:[ ().\-/]{0,3}\d){6,}")


@dataclass(frozen=True)
class Finding:
    """One piece of personal data: its kind and where it stands in the text (character offsets)."""

    kind: str
    start: int
    end: int


def find_pii(text: str, *, anywhere: bool = False, kinds: frozenset[str] = ALL) -> list[Finding]:
    """Personal data in a text, left to right, without overlaps (the earlier kind of the list wins).

    Args:
        anywhere: Also names that nothing introduces, where a known first name meets a known surname.
        kinds: Only these kinds; all when there are none.

    Time grows as the text does, whatever it holds: who sends nothing but addresses must not hold up the others.
    """
    found: list[Finding] = []
    taken = bytearray(len(text))
    parts, small = _parts(text), text.lower()
    for form in FORMS:
        if (kinds and form.kind not in kinds) or not parts[form.near]:
            continue
        if form.signs and not any(sign in small for sign in form.signs):
            continue
        for match in _matches(form.pattern, text, parts[form.near]):
            start, end = match.span()
            if taken.find(1, start, end) >= 0:
                continue
            held = form.holds(match.group(), text[max(0, start - BEFORE) : start])
            if held:
                end = end if held is True else start + held
                taken[start:end] = b"\x01" * (end - start)
                found.append(Finding(form.kind, start, end))
    for start, end in _names(text, anywhere) if not kinds or "name" in kinds else ():
        if taken.find(1, start, end) < 0:
            taken[start:end] = b"\x01" * (end - start)
            found.append(Finding("name", start, end))
    return sorted(found, key=lambda finding: finding.start)


def mask(text: str, *, anywhere: bool = False, kinds: frozenset[str] = ALL) -> tuple[str, list[Finding]]:
    """The text with each finding replaced by its kind, as in `[cpf]`, and the findings."""
    findings, pieces, at = find_pii(text, anywhere=anywhere, kinds=kinds), [], 0
    for finding in findings:
        pieces += [text[at : finding.start], f"[{finding.kind}]"]
        at = finding.end
    return "".join([*pieces, text[at:]]), findings


def _names(text: str, anywhere: bool) -> Iterator[Span]:
    for match in _matches(names.RUN, text, [(0, len(text))]):
        if name := names.named(match, anywhere=anywhere):
            yield name
    yield from names.spoken(text)


def _parts(text: str) -> dict[str, list[Span]]:
    """The parts of a text that can hold what is near digits or an `@`; see `kinds.Form`."""
    near: dict[str, list[Span]] = {"street": [], "code": [], "short": [], "long": [], "@": [], "text": [(0, len(text))]}
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        _join(near["street"], start - STREET, end + STREET, len(text))
        _join(near["code"], start - AROUND, end + AROUND, len(text))
        if end - start > 5:
            _join(near["short"], start - 12, end + 12, len(text))
            for number in _NUMBERS.finditer(text, start, end):
                _join(near["long"], number.start() - 4, number.end() + 8, len(text))
    for at in _places(text, "@"):
        _join(near["@"], at - MAIL, at + MAIL, len(text))
    return near


def _places(text: str, sign: str) -> Iterator[int]:
    at = text.find(sign)
    while at >= 0:
        yield at
        at = text.find(sign, at + 1)


def _join(spans: list[Span], start: int, end: int, length: int) -> None:
    """Add a span behind the others, within the text; those that touch become one."""
    start, end = max(0, start), min(length, end)
    if spans and start <= spans[-1][1]:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def _matches(pattern: re.Pattern[str], text: str, parts: Iterable[Span]) -> Iterator[re.Match[str]]:
    """Every match in the parts, left to right. A search holds the interpreter until it ends, so it goes in stretches."""
    for start, end in parts:
        at = start
        while at < end:
            after = at + STRETCH
            for match in pattern.finditer(text, at, min(after + LONGEST, end)):
                if match.start() >= at + STRETCH:
                    break
                after = max(after, match.end())
                yield match
            at = after
