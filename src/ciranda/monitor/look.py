"""One look at a model: interactions and votes go in, the next state of each channel and its alarms come out. Pure.

What the platform asked itself (shadow copies) is no traffic. Requests that the gateway turned away (4xx) are none of the
model's business, those that clients left (499) were asked all the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ciranda.govern import guard
from ciranda.interactions.table import Feedback, Interaction
from ciranda.monitor import alerts, rates, streams
from ciranda.monitor.explain import SHARE_MOVED
from ciranda.monitor.rates import Level, Rate, RateAlarm, Value
from ciranda.monitor.streams import Baseline, DriftAlarm, Message, Stream
from ciranda.store import clock

CHANNELS = ("input", "output", "quality", "feedback")
HISTORY = 60

Quality = Callable[[Interaction], float | None]
Watched = Stream | Level
Alarm = DriftAlarm | RateAlarm


def fresh(channel: str, *, alpha: float, margin: float, baseline: Baseline | None) -> Watched:
    """A channel at its beginning."""
    if channel == "input" and baseline is not None:
        return Stream.on(channel, baseline, alpha=alpha)
    return (
        Stream(channel, alpha) if channel in ("input", "output") else Level(channel, Rate(alpha=alpha, margin=margin))
    )


def to_bytes(watched: Watched) -> bytes:
    """The state of a channel without its baseline."""
    return watched.to_bytes() if isinstance(watched, Stream) else json.dumps(watched.to_dict()).encode()


def from_bytes(channel: str, blob: bytes, baseline: Baseline | None) -> Watched:
    """What `to_bytes` wrote."""
    return Stream.from_bytes(blob, baseline) if channel in ("input", "output") else Level.from_dict(json.loads(blob))


def look(
    held: Mapping[str, Watched],
    *,
    version: str,
    asked: Sequence[Interaction],
    voted: Sequence[Feedback],
    quality: Quality | None,
) -> tuple[dict[str, Watched], list[Alarm]]:
    """Every channel after these interactions and votes, and the alarms they raised."""
    real = [one for one in asked if one.arm != "shadow"]
    own = [one for one in real if one.version == version]
    after: dict[str, Watched] = {}
    alarms: list[Alarm] = []
    for channel, watched in held.items():
        if isinstance(watched, Stream):
            after[channel], drifted = streams.observe(watched, inputs(real) if channel == "input" else outputs(own))
            alarms += drifted
        else:
            values = qualities(own, quality) if channel == "quality" else votes(voted, version)
            after[channel], risen = rates.observe(watched, values)
            alarms += risen
    return after, alarms


def inputs(asked: Sequence[Interaction]) -> list[Message]:
    """What people asked, whatever came of it."""
    return [_message(one, one.input_text) for one in asked if one.input_text and not 400 <= one.status < 499]


def outputs(own: Sequence[Interaction]) -> list[Message]:
    """What the version answered."""
    return [_message(one, one.output_text) for one in own if one.output_text and one.status < 400 and not one.error]


def qualities(own: Sequence[Interaction], quality: Quality | None) -> list[Value]:
    """How bad each answer was, where the scorers have an opinion."""
    said = [(one, quality(one)) for one in own if quality]
    return [
        Value(1 - value, one.id, clock.iso(one.ts), _masked(one.input_text)) for one, value in said if value is not None
    ]


def votes(voted: Sequence[Feedback], version: str) -> list[Value]:
    """The first thumb on each answer of the version: a test counts no answer twice."""
    return [Value(float(one.thumb < 0), one.interaction, clock.iso(one.ts), _masked(one.comment or one.correction))
            for one in voted if one.first and one.version == version and one.arm != "shadow"]  # fmt: skip


def _message(one: Interaction, text: str) -> Message:
    return streams.message(one.id, text, at=clock.iso(one.ts), conversation=one.conversation)


def _masked(text: str) -> str:
    return guard.mask(text[: 2 * streams.SHOWN])[0][: streams.SHOWN]


def without(watched: Watched, gone: set[str]) -> Watched:
    """The channel without the texts of these interactions (the very same when it held none); numbers learned stay."""
    held = {one[0] for one in watched.examples} if isinstance(watched, Level) else _held(watched)
    if not held & gone:
        return watched
    latest = alerts.scrub(watched.latest, gone)
    if isinstance(watched, Level):
        kept = tuple(one for one in watched.examples if one[0] not in gone)
        return replace(watched, examples=kept, latest=latest)
    recent = tuple(replace(one, text="") if one.id in gone else one for one in watched.recent)
    gathered = tuple(one for one in watched.gathered if one.id not in gone)
    baseline = watched.baseline.without(gone) if watched.baseline else None
    return replace(watched, recent=recent, gathered=gathered, baseline=baseline, latest=latest)


def _held(stream: Stream) -> set[str]:
    """The interactions of which a stream holds a text."""
    sample = stream.baseline.sample if stream.baseline else ()
    return {one.id for one in (*stream.recent, *sample) if one.text} | {one.id for one in stream.gathered}


def summarise(channel: str, watched: Watched, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A channel as pages show it; `history` holds the latest sixty looks as (messages seen, log10 of the e-value)."""
    now = _stream(watched) if isinstance(watched, Stream) else _level(watched)
    point = [now["seen"], round(math.log10(max(now["e_value"], 1e-6)), 3)]
    history = [*earlier.get("history", []), point]
    return {"name": channel, **now, "history": history[-HISTORY:]}


def _stream(stream: Stream) -> dict[str, Any]:
    bet, found = stream.bet, stream.found
    return {
        "state": stream.state, "seen": stream.seen, "e_value": _short(bet.e_value if bet else 0.0),
        "e_limit": round(1 / stream.alpha), "shift": (stream.latest or {}).get("moved") if found else None,
        "shift_limit": SHARE_MOVED, "since": found.since_at if found else "", "needed": streams.START,
        "reference": stream.baseline.reference.size if stream.baseline else 0,
        "false_alarms_per_100k": round(bet.bound.per_100k, 3) if bet else None, "latest": stream.latest,
    }  # fmt: skip


def _level(level: Level) -> dict[str, Any]:
    rate = level.rate
    state = "learning" if rate.learning else "drift" if rate.worsened else "quiet"
    return {
        "state": state, "seen": rate.seen, "e_value": _short(rate.evidence), "e_limit": round(1 / rate.alpha),
        "shift": None if rate.learning else round(rate.now - rate.before, 4), "shift_limit": rate.margin,
        "since": level.began_at if rate.worsened else "", "needed": rate.start, "reference": min(rate.seen, rate.start),
        "false_alarms_per_100k": round(rate.bound.per_100k, 3), "before": round(rate.before, 4),
        "now": round(rate.now, 4), "limit": round(rate.limit, 4), "latest": level.latest,
    }  # fmt: skip


def _short(value: float) -> float:
    return float(f"{min(value, 1e12):.4g}")
