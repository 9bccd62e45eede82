"""Checks of one row at a time.

schema      prompt and answer are there, the conversation ends with a question, no control characters
length      all texts of a row together stay below a bound
language    the text is in a language that may be, or in the one that the row says
pii         no personal data (`mask` replaces it by its kind)
secrets     no keys and passwords (`mask` replaces them by their issuer)
toxicity    no listed word
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ciranda.config.checks import Language, Pii
from ciranda.data import columns
from ciranda.data import language as languages
from ciranda.data.checks.check import Bounds, Flaw, Part
from ciranda.data.columns import Turn
from ciranda.data.rows import Message, Row
from ciranda.data.words import toxic
from ciranda.govern import guard
from ciranda.govern import secrets as keys

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
UNPRINTED = bytes(code < 0x20 and code not in b"\t\n\r" for code in range(256))  # the same, byte by byte
ESCAPES = bytes(code == 0x5C for code in range(256))  # what JSON writes all of them with


def schema(part: Part, _bounds: Bounds) -> Iterator[Flaw]:
    """Rows that lack something, by their shape."""
    strange = columns.holding(part.batch.column("messages"), ESCAPES)
    for name in ("completion", "rejected"):
        strange |= columns.holding(part.batch.column(name), UNPRINTED)
    every = zip(part.turns, part.prompts, part.completions, part.rejected, strange.tolist(), strict=True)
    for place, (turns, prompt, completion, rejected, maybe) in enumerate(every):
        if (reason := _wrong(turns, prompt, completion, rejected)) or (
            maybe and (reason := _controlled(turns, completion, rejected))
        ):
            yield Flaw(place, reason)


def length(part: Part, bounds: Bounds) -> Iterator[Flaw]:
    """Rows whose texts have more characters than `max_characters`."""
    every = zip(part.turns, part.completions, part.rejected, strict=True)
    for place, (turns, completion, rejected) in enumerate(every):
        size = len(completion) + len(rejected) + sum([len(turn.content) for turn in turns])
        if size > bounds.max_characters:
            yield Flaw(place, f"{size} characters, more than {bounds.max_characters}")


def language(part: Part, bounds: Bounds) -> Iterator[Flaw]:
    """Rows in a language that may not be, or that say another one than their text is in; what cannot be told is fine."""
    only = tuple(_short(one) for one in (bounds.settings.language or Language()).only)
    said = [prompt or completion for prompt, completion in zip(part.prompts, part.completions, strict=True)]
    for place, (told, read) in enumerate(zip(part.column("language"), languages.detect_all(said), strict=True)):
        if read == languages.UNKNOWN:
            continue
        if only and _short(read) not in only:
            yield Flaw(place, f"reads as {read}, not as {' or '.join(only)}")
        elif told and not only and _short(told) not in (_short(read), languages.UNKNOWN):
            yield Flaw(place, f"the row says {told}, its text reads as {read}")


def pii(part: Part, bounds: Bounds) -> Iterator[Flaw]:
    """Rows with personal data, and the same rows with its kind in its place."""
    setting = bounds.settings.pii or Pii()
    masked = partial(guard.mask, anywhere=setting.names == "anywhere", kinds=frozenset(setting.kinds))
    yield from _masked(part, masked, "personal data")


def secrets(part: Part, _bounds: Bounds) -> Iterator[Flaw]:
    """Rows with keys or passwords, and the same rows with the issuer in their place."""
    yield from _masked(part, keys.mask, "secrets")


def toxicity(part: Part, _bounds: Bounds) -> Iterator[Flaw]:
    """Rows that say a listed word."""
    for place, (prompt, completion) in enumerate(zip(part.prompts, part.completions, strict=True)):
        if found := toxic(completion) or toxic(prompt):
            yield Flaw(place, f"listed word: {found[0]}")


def _masked(part: Part, mask: Callable[[str], tuple[str, list[guard.Finding]]], what: str) -> Iterator[Flaw]:
    for place, texts in enumerate(part.texts):
        masked = [mask(text) for text in texts]
        kinds = Counter(one.kind for _, findings in masked for one in findings)
        if kinds:
            named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            yield Flaw(place, f"{what}: {named}", _with_texts(part.rows[place], [text for text, _ in masked]))


def _short(name: str) -> str:
    """The language of a tag: `pt` of `pt-BR`."""
    return name.replace("_", "-").split("-")[0].lower()


def _wrong(turns: Sequence[Turn], prompt: str, completion: str, rejected: str) -> str:
    if not turns and not completion.strip():
        return "the text is empty"
    if turns and not prompt.strip():
        return "the prompt is empty"
    if not completion.strip():
        return "the completion is empty"
    if turns and turns[-1].role not in ("user", "tool"):
        return f"the conversation ends with the {turns[-1].role}, not with a question"
    if len(turns) > 1 and any(turn.role == "system" for turn in turns[1:]):
        return "a system message stands after the first place"
    return "the chosen and the rejected answer are the same" if rejected and rejected == completion else ""


def _controlled(turns: Sequence[Turn], completion: str, rejected: str) -> str:
    texts = (*(turn.content for turn in turns), completion, rejected)
    return "a control character is in the text" if any(CONTROL.search(text) for text in texts) else ""


def _with_texts(row: Row, texts: list[str]) -> Row:
    """The row with its texts replaced, in the order of `Part.texts`."""
    told = zip(row.messages, texts, strict=False)
    messages = tuple(Message(message.role, text) for message, text in told)
    answers = texts[len(row.messages) :]
    return row.with_(messages=messages, completion=answers[0], rejected=answers[1] if row.rejected else "")
