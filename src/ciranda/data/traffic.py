"""Recorded answers as rows of a dataset: what was asked and what was answered, or what a user said it should have been.

Unlike `feedback`, which learns from what users said, this takes whatever somebody chose with filters: a test set out of real
questions, answers of a strong model for a small one to learn from. A correction stands in for the answer; of several the newest.
Answers that failed, are empty, or belong to a prompt that is no plain text make no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ciranda.data.feedback import Voice, rows_of, voices_of_approved
from ciranda.data.rows import Row
from ciranda.errors import Invalid

if TYPE_CHECKING:
    from ciranda.interactions.table import Interaction

MOST = 100_000  # a version is committed as a whole


def rows_from(
    found: Iterable[Interaction], *, languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> tuple[list[Row], int]:
    """One row per prompt, the answer that most interactions support; and how many interactions were looked at.

    Raises:
        Invalid: there are too many for one version.
    """
    seen = list(islice((_voice(one) for one in found), MOST + 1))
    if len(seen) > MOST:
        raise Invalid(f"more than {MOST:,} interactions fit the filters", where="filters",
                      remedy="choose fewer: a model, a version, a shorter time")  # fmt: skip
    rows, _ = rows_of((voice for voice in seen if voice), languages_of=languages_of)
    return rows, len(seen)


def _voice(one: Interaction) -> Voice | None:
    """The interaction as a voice for its answer, or for its newest correction."""
    put_right = [said.correction for said in sorted(one.feedback, key=lambda said: said.ts_ms) if said.correction]
    voices = voices_of_approved([one])
    if not voices:
        return None
    voice = voices[0]
    return Voice(
        voice.messages,
        put_right[-1] if put_right else voice.answer,
        one.id,
        one.user,
        1 if put_right else one.thumb,
        one.ts_ms,
    )
