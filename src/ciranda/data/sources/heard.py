"""Our own interactions as a source: what users said of answers, or whatever filters choose, such as bad answers with
corrections.

Feedback is read from a cursor on. Chosen interactions are looked for anew over the last days each time, since a vote, a score
or a correction comes later than the answer; an interaction that is found again takes the place of its row."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from ciranda.config.source import Chosen, Source
from ciranda.data import feedback
from ciranda.data.feedback import Contradiction, Voice
from ciranda.data.rows import Row
from ciranda.data.sources.found import BEGINNING, Desk, label
from ciranda.errors import Invalid, Unavailable
from ciranda.interactions.filters import Filters
from ciranda.store import clock

if TYPE_CHECKING:
    from ciranda.data.sources.found import Recorded
    from ciranda.interactions.table import Interaction

MOST = 100_000
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
EVER = timedelta(days=36_500)


def rows(source: Source, desk: Desk) -> tuple[list[Row], list[Contradiction], int]:
    """Rows, the prompts on which people disagree, and how many voices were heard."""
    if desk.inputs.traffic is None:
        raise Unavailable(
            "the interactions cannot be read", where=desk.label, remedy="start the platform: `ciranda up`"
        )
    traffic = desk.inputs.traffic
    both = source.interactions in ("thumbs", "pairs")
    voices = _feedback(desk, traffic, both=both) if source.spoken else list(_chosen(source, desk, traffic))
    learnt = {"thumbs": feedback.labelled_of, "pairs": feedback.pairs_of}
    how = (
        learnt.get(source.interactions, feedback.rows_of) if isinstance(source.interactions, str) else feedback.rows_of
    )
    found, contradictions = how(voices, languages_of=desk.inputs.languages_of)
    desk.tally.add(size=sum(len(row.prompt) + len(row.completion) for row in found))
    if source.interactions != "feedback":
        found = [row.with_(source=label(source)) for row in found]
    return found, contradictions, len(voices)


def _feedback(desk: Desk, traffic: Recorded, *, both: bool) -> list[Voice]:
    heard = feedback.listen(traffic, desk.model, None if desk.window.since else desk.cursor or None, both=both)
    desk.place.cursor = heard.cursor
    since, until = _bounds(desk)
    return [voice for voice in heard.voices if since <= voice.at < until] if desk.window else list(heard.voices)


def _bounds(desk: Desk) -> tuple[float, float]:
    """The window in milliseconds since the epoch."""
    since, until = desk.window.since, desk.window.until
    return (
        clock.parse(since).timestamp() * 1000 if since and since != BEGINNING else 0.0,
        clock.parse(until).timestamp() * 1000 if until else float("inf"),
    )


def _chosen(source: Source, desk: Desk, traffic: Recorded) -> Iterator[Voice]:
    chosen = source.interactions
    assert isinstance(chosen, Chosen)
    since, until = clock.now() - timedelta(seconds=chosen.last), None
    if desk.window.since:
        since = clock.now() - EVER if desk.again else clock.parse(desk.window.since)
    if desk.window.until:
        until = clock.parse(desk.window.until)
    given: dict[str, Any] = {
        name: getattr(chosen, name) for name in ("version", "arm", "status", "user", "conversation", "search")
    }
    wanted = cast(Filters, given)
    if chosen.thumb and not (chosen.any and chosen.score):
        wanted["thumb"] = 1 if chosen.thumb == "up" else -1
    model = chosen.model or desk.model
    if not model:
        raise Invalid("no model is named", where=desk.label, remedy="write `interactions: {model: …}`")
    wanted["model"], wanted["since"], wanted["until"] = model, since, until
    for number, one in enumerate(traffic.everything(**wanted)):
        if number >= MOST:
            raise Invalid(
                f"more than {MOST:,} interactions", where=desk.label, remedy="choose fewer, or a shorter time"
            )
        if _fits(one, chosen) and (voice := _voice(one, chosen)):
            yield voice


def _fits(one: Interaction, chosen: Chosen) -> bool:
    """Whether vote and score are as wanted: both, or with `any` one of them."""
    told = []
    if chosen.thumb:
        told.append(one.thumb == (1 if chosen.thumb == "up" else -1))
    if chosen.score:
        told.append(_scored(one, chosen.score))
    return (any(told) if chosen.any else all(told)) if told else True


def _scored(one: Interaction, rule: str) -> bool:
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(-?[\d.]+)\s*", rule)
    assert found is not None, "the model file was checked"
    name, sign, bound = found.groups()
    return any(score.scorer == name and SIGNS[sign](score.value, float(bound)) for score in one.scores)


def _voice(one: Interaction, chosen: Chosen) -> Voice | None:
    """The interaction as a voice for its newest correction, or where none is demanded for its answer."""
    put_right = [said.correction for said in sorted(one.feedback, key=lambda said: said.ts_ms) if said.correction]
    voices = feedback.voices_of_approved([one])
    if not voices or (chosen.corrected and not put_right):
        return None
    answer, thumb = (put_right[-1], 1) if put_right else (voices[0].answer, one.thumb)
    return Voice(voices[0].messages, answer, one.id, one.user, thumb, one.ts_ms)
