"""What users said of answers, as rows to learn from.

    rows_of       what should have come: a correction, else an answer with a thumb up; one row for each prompt
    labelled_of   each answer with the thumb that most gave it, up or down; a correction counts as up, what it put right as down
    pairs_of      the better answer to a prompt and each worse one

Of the first, a correction is worth most, and a thumb down alone says what was wrong, not what would be right, so it makes no row
there. The answer counts that most voices support, the latest among equals. Prompts on which voices disagree are named as
contradictions, because people press the wrong button and dictate the wrong word, and somebody should look.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ciranda.data.rows import ROLES, Message, Row, normalised, split_of

if TYPE_CHECKING:
    from datetime import datetime

    from ciranda.interactions.query import Correction
    from ciranda.interactions.table import Feedback, Interaction

PAGE = 500
MOST_APPROVED = 2000  # answers with a thumb up that one ingestion reads; corrections are never left out


class Traffic(Protocol):
    """The part of `interactions.query.Interactions` that is read here."""

    def corrections(
        self, model: str, cursor: str | None = None, *, since: datetime | None = None, limit: int = 500
    ) -> list[Correction]:
        """Corrections with the messages that were sent, in the order of arrival."""

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]:
        """Votes in the order of arrival."""

    def spoken_of(self, votes: Sequence[Feedback]) -> list[Interaction]:
        """The interactions that these votes speak of."""


@dataclass(frozen=True)
class Voice:
    """One person's word for one answer to one prompt."""

    messages: tuple[Message, ...]
    answer: str
    origin: str
    subject: str
    thumb: int
    at: int


@dataclass(frozen=True)
class Contradiction:
    """A prompt on which voices disagree: the answers and how many stand behind each."""

    prompt: str
    answers: dict[str, int]


def rows_of(
    voices: Iterable[Voice], *, languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> tuple[list[Row], list[Contradiction]]:
    """One row per prompt, and the prompts on which voices disagree."""
    rows, contradictions = [], []
    for group in _heard(voices).values():
        votes = _votes(group)
        winner = max(group, key=lambda voice: (votes[voice.answer.strip()], voice.at, voice.origin))
        rows.append(_row(winner))
        if len(votes) > 1:
            contradictions.append(Contradiction(rows[-1].prompt, votes))
    return _spoken(rows, languages_of), contradictions


def labelled_of(
    voices: Iterable[Voice], *, languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> tuple[list[Row], list[Contradiction]]:
    """One row for each answer to a prompt, with the thumb that most voices gave it; a tie says nothing and makes none."""
    rows, contradictions = [], []
    for group in _heard(voices).values():
        for answer, thumbs in _thumbs(group).items():
            if len(thumbs) > 1:
                told = {f"{answer} ({'up' if way > 0 else 'down'})": count for way, count in thumbs.items()}
                contradictions.append(Contradiction(_row(group[0]).prompt, told))
            if sum(way * count for way, count in thumbs.items()):
                rows.append(_row(_newest(group, answer)).with_(thumb=_side(thumbs)))
    return _spoken(rows, languages_of), contradictions


def pairs_of(
    voices: Iterable[Voice], *, languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> tuple[list[Row], list[Contradiction]]:
    """The best liked answer to each prompt beside each disliked one; a prompt with answers of one kind only makes no row."""
    rows, contradictions = [], []
    for group in _heard(voices).values():
        thumbs = _thumbs(group)
        good = [voice for voice in group if _side(thumbs[voice.answer.strip()]) > 0]
        if not good:
            continue
        votes = _votes(good)
        best = max(good, key=lambda voice: (votes[voice.answer.strip()], voice.at, voice.origin))
        rows += [_row(best).with_(thumb=0, rejected=answer) for answer, said in thumbs.items() if _side(said) < 0]
        if len(votes) > 1:
            contradictions.append(Contradiction(_row(best).prompt, votes))
    return _spoken(rows, languages_of), contradictions


def _heard(voices: Iterable[Voice]) -> dict[tuple[Message, ...], list[Voice]]:
    """Voices by prompt; those that say nothing, or to nobody, are left out."""
    heard: dict[tuple[Message, ...], list[Voice]] = defaultdict(list)
    for voice in voices:
        if voice.answer.strip() and any(message.role == "user" for message in voice.messages):
            heard[_same(voice.messages)].append(voice)
    return heard


def _thumbs(group: Sequence[Voice]) -> dict[str, dict[int, int]]:
    """How many voices are for and against each answer."""
    told: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for voice in group:
        if voice.thumb:
            told[voice.answer.strip()][1 if voice.thumb > 0 else -1] += 1
    return told


def _side(thumbs: Mapping[int, int]) -> int:
    """What most said: 1, -1, or 0 in a tie."""
    balance = sum(way * count for way, count in thumbs.items())
    return (balance > 0) - (balance < 0)


def _newest(group: Sequence[Voice], answer: str) -> Voice:
    return max((one for one in group if one.answer.strip() == answer), key=lambda one: (one.at, one.origin))


def _spoken(rows: list[Row], languages_of: Callable[[Sequence[str]], Sequence[str]] | None) -> list[Row]:
    if languages_of is None:
        return rows
    named = languages_of([row.prompt for row in rows])
    return [row.with_(language=name) for row, name in zip(rows, named, strict=True)]


def voices_of_corrections(found: Iterable[Correction]) -> list[Voice]:
    """Each correction as a voice for itself, whatever the thumb said of the answer it put right; prompts that are no plain text
    are left out."""
    voices = []
    for one in found:
        if messages := _messages(one.messages):
            voices.append(Voice(messages, one.correction, one.interaction, one.user, 1, one.ts_ms))
    return voices


def voices_against(found: Iterable[Correction]) -> list[Voice]:
    """The answers that corrections put right, each as a voice against itself."""
    return [
        Voice(messages, one.output_text, one.interaction, one.user, -1, one.ts_ms)
        for one in found
        if (messages := _messages(one.messages)) and one.output_text.strip() != one.correction.strip()
    ]


def voices_of_approved(found: Iterable[Interaction], thumb: int = 1) -> list[Voice]:
    """Each whole, good answer with a thumb up as a voice for itself, or with `thumb` -1 as one against itself."""
    voices = []
    for one in found:
        messages = _messages(_sent(one.request))
        if messages and one.status == 200 and one.output_text:
            voices.append(Voice(messages, one.output_text, one.id, one.user, thumb, one.ts_ms))
    return voices


@dataclass(frozen=True)
class Heard:
    """What came since the cursor, and the cursor to go on from."""

    voices: tuple[Voice, ...]
    cursor: str


def listen(traffic: Traffic, model: str, cursor: str | None, *, both: bool = False) -> Heard:
    """Everything said about `model` since `cursor` (None: since ever), read page by page; with `both` also what was disliked.

    Corrections and votes share one order of arrival. Votes are read first, to an end; a correction that arrives meanwhile
    lies behind that end and is left for the next time, so one cursor serves both and nothing falls between.
    """
    votes, end = _votes_since(traffic, model, cursor)
    heard = {(vote.interaction, vote.correction) for vote in votes if vote.correction}
    corrections = [one for one in _corrections(traffic, model, cursor) if (one.interaction, one.correction) in heard]
    put_right = {one.interaction for one in corrections}
    newest = {vote.interaction: vote for vote in votes if vote.thumb}
    approved = {name: vote for name, vote in reversed(newest.items()) if vote.thumb > 0 and not vote.correction}
    wanted = [vote for identifier, vote in approved.items() if identifier not in put_right][:MOST_APPROVED]
    found = [*voices_of_corrections(corrections), *voices_of_approved(traffic.spoken_of(wanted))]
    if both:
        against = [vote for name, vote in reversed(newest.items()) if vote.thumb < 0 and name not in put_right]
        found += voices_against(corrections)
        found += voices_of_approved(traffic.spoken_of(against[:MOST_APPROVED]), thumb=-1)
    return Heard(tuple(found), end or "")


def _votes_since(traffic: Traffic, model: str, cursor: str | None) -> tuple[list[Feedback], str | None]:
    """All votes up to a page that is not full: while people vote, no page is ever empty."""
    found: list[Feedback] = []
    while True:
        page = traffic.feedback_since(cursor, model=model, limit=PAGE)
        found += page
        cursor = page[-1].cursor if page else cursor
        if len(page) < PAGE:
            return found, cursor


def _corrections(traffic: Traffic, model: str, cursor: str | None) -> list[Correction]:
    found: list[Correction] = []
    while True:
        page = traffic.corrections(model, cursor, limit=PAGE)
        found += page
        cursor = page[-1].cursor if page else cursor
        if len(page) < PAGE:
            return found


def _votes(group: Sequence[Voice]) -> dict[str, int]:
    votes: dict[str, int] = defaultdict(int)
    for voice in group:
        votes[voice.answer.strip()] += 1
    return dict(votes)


def _row(voice: Voice) -> Row:
    row = Row(
        voice.messages,
        voice.answer.strip(),
        source="interactions",
        origin=voice.origin,
        subject=voice.subject,
        thumb=max(-1, min(1, voice.thumb)),
    )
    phrase = normalised(row.prompt)
    group = f"prompt:{hashlib.sha256(phrase.encode()).hexdigest()[:16]}"
    return row.with_(group=group, split=split_of(group))


def _same(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Prompts that differ in case, spaces or a full stop are one."""
    return tuple(Message(message.role, normalised(message.content)) for message in messages)


def _messages(sent: Any) -> tuple[Message, ...]:
    """The conversation as it was sent; empty when a part of it is no text."""
    messages: list[Message] = []
    for item in sent if isinstance(sent, list | tuple) else ():
        content = _text(item.get("content")) if isinstance(item, Mapping) else None
        if content is None or item.get("role") not in ROLES:
            return ()
        messages.append(Message(item["role"], content))
    return tuple(messages)


def _text(content: Any) -> str | None:
    """A content that is text, or a list of text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    return None


def _sent(request: str) -> Any:
    try:
        body = json.loads(request)
    except ValueError:
        return ()
    return body.get("messages") if isinstance(body, Mapping) else ()
