"""What the labels of an item come to: pure, from what was looked at and what was said of it.

Most annotators decide whether the answer was right; where they are split for good, nothing follows. Of several corrections that
most gave alike counts, the latest among equals. A row says who labelled it (`extra.annotator`), what (`extra.verdict`) and when
(`extra.labelled_at`), and where what was looked at came from (`origin`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ciranda.data.reviews.items import Label
from ciranda.data.reviews.queues import Makes
from ciranda.data.rows import Message, Row, normalised, split_of


@dataclass(frozen=True)
class Shown:
    """What an annotator looks at. `row` is there when it is a row of a dataset."""

    messages: tuple[Message, ...]
    answer: str
    origin: str
    subject: str = ""
    language: str = ""
    thumb: int = 0
    version: str = ""
    at: str = ""
    scores: tuple[tuple[str, float], ...] = ()
    row: Row | None = None


@dataclass(frozen=True)
class Taught:
    """Rows that come, and keys of rows that go."""

    add: tuple[Row, ...] = ()
    remove: tuple[str, ...] = ()


def taught(shown: Shown, said: Sequence[Label], makes: Makes) -> Taught:
    """What follows from the labels of one item."""
    given = [one for one in said if one.verdict != "skip"]
    right = [one for one in given if one.verdict == "right"]
    if not given or len(right) * 2 == len(given):
        return Taught()
    agreed = right if len(right) * 2 > len(given) else [one for one in given if one.verdict != "right"]
    better = _correction(agreed)
    if shown.row is not None:
        return _of_row(shown.row, agreed, better)
    return Taught(tuple(_of_answer(shown, agreed, better, makes)))


def _correction(said: Sequence[Label]) -> str:
    """The correction that most gave; the latest among equals; empty without one."""
    texts = [one.correction.strip() for one in said if one.correction.strip()]
    counted = Counter(texts)
    return max(reversed(texts), key=lambda text: counted[text]) if texts else ""


def _of_row(row: Row, said: Sequence[Label], better: str) -> Taught:
    if said[0].verdict == "right":
        return Taught((_signed(row, said, "right"),))
    if better:
        return Taught((_signed(row.with_(completion=better, rejected=""), said, "correct"),), (row.key,))
    return Taught((), (row.key,))


def _of_answer(shown: Shown, said: Sequence[Label], better: str, makes: Makes) -> list[Row]:
    right = said[0].verdict == "right"
    answer, found = _row(shown, shown.answer), []
    if makes == "pairs":
        pair = _row(shown, better).with_(rejected=shown.answer)
        return [_signed(pair, said, "correct")] if better and better != shown.answer.strip() else []
    if right or makes == "labelled":
        found.append(_signed(answer.with_(thumb=1 if right else -1), said, "right" if right else "wrong"))
    if better:
        found.append(_signed(_row(shown, better).with_(thumb=1), said, "correct"))
    return found


def _row(shown: Shown, completion: str) -> Row:
    """A row in the split of its prompt, as rows from users' feedback are."""
    row = Row(
        shown.messages, completion, source="review", origin=shown.origin, subject=shown.subject, language=shown.language
    )
    group = f"prompt:{hashlib.sha256(normalised(row.prompt).encode()).hexdigest()[:16]}"
    return row.with_(group=group, split=split_of(group))


def _signed(row: Row, said: Sequence[Label], verdict: str) -> Row:
    names = ", ".join(sorted({one.annotator for one in said}))
    told = {"annotator": names, "labelled_at": max(one.at for one in said), "verdict": verdict}
    return row.with_(extra={**row.extra, **told})
