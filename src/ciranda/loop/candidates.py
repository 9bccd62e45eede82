"""What is most worth labelling, and why: pure choices over interactions, rows and what the monitor found.

    disagreement   the user's thumb and the scorer contradict each other        one of the two is wrong
    thumb_down     a user said no, and nobody said what would be right          a correction is waiting
    low_score      the scorer thinks little of the answer                       probably wrong
    drifted        a question of a kind or language that has grown              little data says how to answer
    flagged        a check found something in a row
    random         chosen by chance                                             says how good answers are on the whole

Reasons take turns, the strongest of each first, and every so often comes a random one: only those tell the share of right answers,
since the others were chosen for being doubtful.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ciranda.data.reviews.items import Candidate
from ciranda.data.rows import normalised
from ciranda.data.vectors import embed
from ciranda.interactions.table import Interaction

HIGH, LOW = 0.8, 0.5
NEAR = 0.8  # of the similarity that a kind's own examples have to their middle
REASONS = ("disagreement", "thumb_down", "drifted", "low_score", "flagged")


@dataclass(frozen=True)
class Grown:
    """A kind of message (or a language) whose share has grown, with examples of it."""

    label: str
    before: float
    after: float
    examples: tuple[str, ...] = ()
    language: bool = False


@dataclass(frozen=True)
class Weighed:
    """A candidate with its strength among those of the same reason."""

    candidate: Candidate
    weight: float
    text: str = ""


def grown(summary: Mapping[str, Any]) -> list[Grown]:
    """The kinds and languages that grew, from the summary of a watched stream."""
    latest = summary.get("latest") or {}
    found = []
    for name in ("groups", "languages"):
        for one in latest.get(name) or ():
            if float(one.get("after", 0)) > float(one.get("before", 0)):
                texts = tuple(str(text) for _, text in one.get("examples") or ())
                found.append(
                    Grown(str(one["label"]), float(one["before"]), float(one["after"]), texts, name == "languages")
                )
    return found


def of_interactions(found: Sequence[Interaction], moved: Sequence[Grown]) -> list[Weighed]:
    """Interactions with a reason to look at them, each under its strongest one."""
    drifted = _drifted(found, moved)
    weighed = []
    for place, one in enumerate(found):
        scores = {score.scorer: score.value for score in one.scores}
        low, high = min(scores.values(), default=1.0), max(scores.values(), default=0.0)
        why: dict[str, Any] = {"thumb": one.thumb, "scores": {name: round(value, 4) for name, value in scores.items()}}
        if scores and ((one.thumb < 0 and low >= HIGH) or (one.thumb > 0 and high <= LOW)):
            reason, weight = "disagreement", 1.0 if one.thumb < 0 else 0.5
        elif one.thumb < 0:
            reason, weight = "thumb_down", 1.0 - low
        elif place in drifted:
            (label, before, after), weight = drifted[place]
            reason, why = "drifted", {**why, "kind": label, "before": before, "after": after}
        elif scores and low <= LOW:
            reason, weight = "low_score", 1.0 - low
        else:
            continue
        weighed.append(Weighed(Candidate("interaction", one.id, reason, why), weight, one.input_text))
    return weighed


def _drifted(found: Sequence[Interaction], moved: Sequence[Grown]) -> dict[int, tuple[tuple[str, float, float], float]]:
    """Places of messages of a kind that grew: the kind, and how near its middle they are."""
    places: dict[int, tuple[tuple[str, float, float], float]] = {}
    if not found or not moved:
        return places
    vectors = embed([one.input_text for one in found])
    for kind in moved:
        told = (kind.label, kind.before, kind.after)
        if kind.language:
            near = {place: 1.0 for place, one in enumerate(found) if one.language and one.language == kind.label}
        elif kind.examples:
            own = embed(kind.examples)
            middle = own.mean(axis=0)
            bound, alike = NEAR * float((own @ middle).min()), vectors @ middle
            near = {int(place): float(alike[place]) for place in np.flatnonzero(alike >= max(bound, 1e-6))}
        else:
            near = {}
        for place, weight in near.items():
            if weight > places.get(place, (told, 0.0))[1]:
                places[place] = (told, weight)
    return places


def at_random(found: Iterable[tuple[str, str, str]], seed: str) -> list[Weighed]:
    """Anything (kind, reference, text), in an order that follows from a seed."""
    return [Weighed(Candidate(kind, ref, "random", {}), draw(seed, ref), text) for kind, ref, text in found]


def draw(seed: str, ref: str) -> float:
    """A number in [0, 1) that follows from a seed and a reference."""
    return int.from_bytes(blake2b(f"{seed}:{ref}".encode(), digest_size=8).digest(), "big") / 2**64


def choose(weighed: Sequence[Weighed], chance: Sequence[Weighed], *, count: int, random: float) -> list[Candidate]:
    """So many candidates in the order in which they are asked: reasons take turns, and a share comes by chance.

    Nothing is asked twice: neither a reference nor a text that was said in the same words.
    """
    piles = {
        reason: sorted((one for one in weighed if one.candidate.reason == reason), key=_strongest) for reason in REASONS
    }
    drawn = sorted(chance, key=_strongest)
    chosen: list[Candidate] = []
    seen: set[str] = set()
    owed, turn = 0.0, 0
    while len(chosen) < count:
        owed += random
        one = _next(drawn, seen) if owed >= 1 else None
        if one is not None:
            owed -= 1
        for _ in REASONS if one is None else ():
            turn += 1
            if one := _next(piles[REASONS[turn % len(REASONS)]], seen):
                break
        if one is None and (random == 0 or (one := _next(drawn, seen)) is None):
            break
        chosen.append(one.candidate)
    return chosen


def _strongest(one: Weighed) -> tuple[float, str]:
    return -one.weight, one.candidate.ref


def _next(pile: list[Weighed], seen: set[str]) -> Weighed | None:
    """The next one of a pile that was not chosen before, neither by its reference nor by its words."""
    while pile:
        one = pile.pop(0)
        said = normalised(one.text)
        if one.candidate.ref not in seen and not (said and said in seen):
            seen |= {one.candidate.ref, said} - {""}
            return one
    return None
