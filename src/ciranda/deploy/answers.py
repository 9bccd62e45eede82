"""What the arms of a rollout answered, as numbers in [0, 1] that can be compared.

Interactions arrive in their own order and late, so they are read by cursor, once each; the cursors live beside the evidence.
The candidate's probability at the moment of a request comes from the list of shares, not from the present stage. Requests within a
second after a change are passed over: a gateway may not have heard of it yet, and a wrong probability would bias the bets.

    error_rate       1 when the engine failed; requests that the client spoilt (4xx) or left (499) count for neither arm
    latency_p95_ms   1 when slower than the champion's 95th percentile, which is frozen before the first comparison.
                     Not asked of shadows: a copy runs beside the original, so the two are not alike
    quality          the scorer of `release.quality` on the answer; a failed answer scores 0
    thumbs_up        1 for a thumb up, 0 for a thumb down; answers without a vote say nothing

A unit is what the gateway assigns by: the user, else the conversation. Each counts once per metric, since answers to one person
resemble one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ciranda.deploy.bets import Rules
from ciranda.deploy.evidence import Arm, Evidence, One, Pair, add
from ciranda.evals import live, scorers
from ciranda.interactions import query
from ciranda.interactions.table import Feedback, Interaction

BATCH = 500
BATCHES = 20
SETTLING_MS = 1000
LATENCIES = 50

Scorer = Callable[[Interaction], float | None]


class Reader(Protocol):
    """The part of `interactions.query.Interactions` that a rollout reads."""

    def cursor(self) -> str: ...

    def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]: ...

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]: ...

    def pairs(self, rollout: str, cursor: str | None = None, *, limit: int = 500) -> list[query.Pair]: ...


@dataclass(frozen=True)
class Watch:
    """What to read, and how to count it.

    Args:
        rollout: Id of the rollout, written by the gateway into every interaction of either arm.
        model: Its model.
        candidate: The version on trial.
        shares: `[since when in ms, the candidate's probability]`, oldest first.
        latencies: The champion's first latencies; with 50 of them the limit is frozen.
        latency_limit_ms: The champion's 95th percentile; 0 while unknown.
        score: The quality of an answer in [0, 1]; None when the scorer has nothing to say.
    """

    rollout: str
    model: str
    candidate: str
    shares: tuple[tuple[int, float], ...]
    latencies: tuple[float, ...]
    latency_limit_ms: float
    score: Scorer

    def share_at(self, ts_ms: int) -> float | None:
        """The candidate's probability for a request at that moment; None when it cannot be told or nothing is compared."""
        known = [(since, share) for since, share in self.shares if since <= ts_ms]
        if not known or ts_ms - known[-1][0] < SETTLING_MS or not 0 < known[-1][1] < 1:
            return None
        return known[-1][1]

    def reading(self) -> dict[str, Any]:
        """What must be remembered until the next look, as JSON values."""
        return {
            "shares": [list(item) for item in self.shares],
            "latencies": list(self.latencies),
            "latency_limit_ms": self.latency_limit_ms,
        }


@dataclass(frozen=True)
class Look:
    """The result of one reading: the evidence with the new answers counted, and what to remember."""

    evidence: Evidence
    watch: Watch
    seen: int


def quality(name: str) -> Scorer:
    """The scorer of that name on live answers, turned so that more is better."""
    chosen = scorers.scorer(name)

    def score(one: Interaction) -> float | None:
        value = None if chosen.needs_reference else chosen.score(live.said(one))
        return None if value is None else chosen.good(value)

    return score


def begin(reader: Reader) -> dict[str, str]:
    """Cursors from which everything of a rollout that begins now will be read."""
    now = reader.cursor()
    return {"interactions": now, "feedback": now, "pairs": now}


def read(reader: Reader, watch: Watch, known: Evidence, rules: Rules) -> Look:
    """Count everything that arrived since the last look, at most ten thousand of each kind.

    Raises:
        Unavailable: The collector is down; nothing was counted.
    """
    look = Look(known, watch, 0)
    for stream in (_interactions, _feedback, _pairs):
        for _ in range(BATCHES):
            look, more = stream(reader, look, rules)
            if not more:
                break
    return look


def _interactions(reader: Reader, look: Look, rules: Rules) -> tuple[Look, bool]:
    batch = reader.since(look.evidence.cursors["interactions"], model=look.watch.model, limit=BATCH)
    watch, items = look.watch, list[One | Pair]()
    for one in batch:
        if one.rollout == watch.rollout and one.arm in ("live", "canary") and _counts(one):
            items += _singles(one, watch)
            watch = _learn(watch, one)
    sequences = [str(one.sequence) for one in batch]
    return _taken(replace(look, watch=watch), rules, items, "interactions", sequences)


def _feedback(reader: Reader, look: Look, rules: Rules) -> tuple[Look, bool]:
    batch = reader.feedback_since(look.evidence.cursors["feedback"], model=look.watch.model, limit=BATCH)
    items = [
        One("thumbs_up", _arm(vote.version, look.watch), float(vote.thumb > 0), share, vote.user)
        for vote in batch
        if vote.rollout == look.watch.rollout
        and vote.first  # one answer is one observation; a changed mind shows in the figures
        and vote.arm in ("live", "canary")
        and (share := look.watch.share_at(vote.interaction_ts_ms)) is not None
    ]
    return _taken(look, rules, items, "feedback", [str(vote.sequence) for vote in batch])


def _pairs(reader: Reader, look: Look, rules: Rules) -> tuple[Look, bool]:
    batch = reader.pairs(look.watch.rollout, look.evidence.cursors["pairs"], limit=BATCH)
    both = [pair for pair in batch if _counts(pair.live) and _counts(pair.shadow)]
    items = [item for pair in both for item in _twos(pair, look.watch)]
    return _taken(look, rules, items, "pairs", [pair.cursor for pair in batch])


def _taken(
    look: Look, rules: Rules, items: Sequence[One | Pair], stream: str, cursors: Sequence[str]
) -> tuple[Look, bool]:
    """The look with these items counted and the cursor moved, and whether there may be more."""
    if not cursors:
        return look, False
    evidence = add(look.evidence, items, rules).at(stream, cursors[-1])
    return replace(look, evidence=evidence, seen=look.seen + len(items)), len(cursors) == BATCH


def _counts(one: Interaction) -> bool:
    """Whether the answer says something of the version: not when the client spoilt the request or left."""
    return not 400 <= one.status < 500


def _failed(one: Interaction) -> bool:
    return one.status >= 500 or one.error != ""


def _arm(version: str, watch: Watch) -> Arm:
    return "candidate" if version == watch.candidate else "champion"


def _unit(one: Interaction) -> str:
    """What the gateway assigned by; empty when it was chance alone."""
    return f"user {one.user}" if one.user else f"conversation {one.conversation}" if one.conversation else ""


def _singles(one: Interaction, watch: Watch) -> Iterator[One]:
    share = watch.share_at(one.ts_ms)
    if share is None:
        return
    arm, unit, failed = _arm(one.version, watch), _unit(one), _failed(one)
    yield One("error_rate", arm, float(failed), share, unit)
    if watch.latency_limit_ms and not failed:
        yield One("latency_p95_ms", arm, float(one.latency_ms > watch.latency_limit_ms), share, unit)
    quality = 0.0 if failed else watch.score(one)
    if quality is not None:
        yield One("quality", arm, quality, share, unit)


def _twos(pair: query.Pair, watch: Watch) -> Iterator[Pair]:
    failed, failed_live = _failed(pair.shadow), _failed(pair.live)
    unit = _unit(pair.live)
    yield Pair("error_rate", float(failed), float(failed_live), unit)
    candidate = 0.0 if failed else watch.score(pair.shadow)
    champion = 0.0 if failed_live else watch.score(pair.live)
    if candidate is not None and champion is not None:
        yield Pair("quality", candidate, champion, unit)


def _learn(watch: Watch, one: Interaction) -> Watch:
    """Take one of the champion's first latencies into the limit."""
    if watch.latency_limit_ms or one.version == watch.candidate or _failed(one):
        return watch
    latencies = (*watch.latencies, one.latency_ms)
    if len(latencies) < LATENCIES:
        return replace(watch, latencies=latencies)
    limit = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]
    return replace(watch, latencies=(), latency_limit_ms=limit)
