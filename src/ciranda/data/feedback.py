"""What users said of answers, as rows to learn from.

A correction is worth most: the prompt that was sent, and what should have come. An answer with a thumb up is a row too. A
thumb down alone says what was wrong, not what would be right, so it makes no row. Each prompt becomes one row: the
answer that most voices support, the latest among equals. Prompts on which voices disagree are named as contradictions, because
people press the wrong button and dictate the wrong word, and somebody should look.
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
    heard: dict[tuple[Message, ...], list[Voice]] = defaultdict(list)
    for voice in voices:
        if voice.answer.strip() and any(message.role == "user" for message in voice.messages):
            heard[_same(voice.messages)].append(voice)
    rows, contradictions = [], []
    for group in heard.values():
        votes = _votes(group)
        winner = max(group, key=lambda voice: (votes[voice.answer.strip()], voice.at, voice.origin))
        rows.append(_row(winner))
        if len(votes) > 1:
            contradictions.append(Contradiction(rows[-1].prompt, votes))
    if languages_of is not None:
        named = languages_of([row.prompt for row in rows])
        rows = [row.with_(language=name) for row, name in zip(rows, named, strict=True)]
    return rows, contradictions


def voices_of_corrections(found: Iterable[Correction]) -> list[Voice]:
    """Each correction as a voice for itself, whatever the thumb said of the answer it put right; prompts that are no plain text
    are left out."""
    voices = []
    for one in found:
        if messages := _messages(one.messages):
            voices.append(Voice(messages, one.correction, one.interaction, one.user, 1, one.ts_ms))
    return voices


def voices_of_approved(found: Iterable[Interaction]) -> list[Voice]:
    """Each whole, good answer with a thumb up as a voice for itself."""
    voices = []
    for one in found:
        messages = _messages(_sent(one.request))
        if messages and one.status == 200 and one.output_text:
            voices.append(Voice(messages, one.output_text, one.id, one.user, 1, one.ts_ms))
    return voices


@dataclass(frozen=True)
class Heard:
    """What came since the cursor, and the cursor to go on from."""

    voices: tuple[Voice, ...]
    cursor: str


def listen(traffic: Traffic, model: str, cursor: str | None) -> Heard:
    """Everything said about `model` since `cursor` (None: since ever), read page by page.

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
    return Heard((*voices_of_corrections(corrections), *voices_of_approved(traffic.spoken_of(wanted))), end or "")


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
