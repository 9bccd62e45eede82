"""Judges, what they are worth, and two versions side by side."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ciranda.config.shape import NAME
from ciranda.evals import calibration, judge, judgements
from ciranda.evals.judge import Judge
from ciranda.loop import calibrating, comparing, opinions, sampling
from ciranda.web.api import reviews, rows
from ciranda.web.api.asked import Asked, Nothing, Page
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item

SHOWN = 20


class JudgeSpec(Asked):
    """A model that judges answers."""

    name: str = Field(pattern=NAME, description="Its name; gates say `judge:NAME` or `preferred:NAME`.")
    model: str = Field(min_length=1, max_length=200, description="A model of ours, or with `url` its name there.")
    criteria: str = Field(min_length=1, max_length=8000, description="What makes an answer good.")
    url: str = Field("", max_length=500, description="An OpenAI-compatible address; without it, our own gateway.")
    key: str = Field("", max_length=500, description="Where its key lies: env:NAME or file:/path.")
    scale: int = Field(5, ge=2, le=100, description="Grades go from 1 to this.")
    mask: bool = Field(True, description="Mask personal data before it is sent.")
    max_tokens: int = Field(256, ge=1, le=8192, description="Bound of one opinion.")


class Calibrate(Asked):
    """Which labelled answers a judge is held against."""

    queue: str = Field("", max_length=63, description="A review queue with labels.")
    suite: str = Field("", max_length=200, description="Or a registered suite whose cases carry labels.")
    model: str = Field("", max_length=63, description="Whose answers they are; else the queue's model.")
    kind: Literal["judge", "preferred"] = Field("judge", description="Grades, or preferences between two answers.")
    days: float = Field(30.0, gt=0, le=365, description="How long it holds.")
    all: bool = Field(False, description="Also items that were chosen for being doubtful.")


class Against(Asked):
    """How two versions are compared."""

    margin: float = Field(0.0, ge=0, le=1, description="How much worse still counts as not worse.")


def listing(call: Call[Page]) -> Item:
    """Judges by name, each with its newest calibration for each kind and model."""
    with call.platform.db.reading() as conn:
        found = judge.every(conn, after=call.asked.cursor, limit=call.asked.limit + 1)
    shown = found[: call.asked.limit]
    items = [{**one.to_dict(), "since": since, "worth": _worth(call, one)} for one, since in shown]
    return rows.listed(items, shown[-1][0].name if len(found) > len(shown) else None)


def one(call: Call[Nothing]) -> Item:
    """One judge, whole: what it is asked by, what it is worth, what it said."""
    with call.platform.db.reading() as conn:
        found = judge.get(conn, call.path["judge"])
        known = [made for made in calibration.of(conn, found.name) if call.reaches(made.model)]
        said = [
            made
            for made in judgements.of(conn, found.name, limit=SHOWN)
            if call.reaches(made.version.partition("@")[0])
        ]
        live = [one for one in sampling.told(conn, found.name) if call.reaches(one["model"])]
    return {
        **found.to_dict(), "worth": _worth(call, found), "calibrations": [made.to_dict() for made in known],
        "judgements": [made.to_dict() for made in said], "live": live,
    }  # fmt: skip


def _worth(call: Call[Any], found: Judge) -> list[Item]:
    return [one for one in calibrating.worth(call.platform, found) if call.reaches(one["model"])]


def create(call: Call[JudgeSpec]) -> Item:
    """Register a judge; under a known name it takes the place of the one before."""
    made = Judge(**call.asked.model_dump())
    if not made.url:
        call.require(made.model, right="apply")
    with call.platform.db.writing() as conn:
        return judge.register(conn, made, actor=call.actor).to_dict()


def calibrate(call: Call[Calibrate]) -> Item:
    """Begin to hold a judge against labelled answers."""
    asked = call.asked
    if asked.queue:
        queue = reviews.demand(Call(call.platform, call.principal, {"queue": asked.queue}, call.asked))
        call.require(asked.model or queue.model, right="evaluate")
    elif asked.model:
        call.require(asked.model, right="evaluate")
    key = calibrating.calibrate(
        call.platform, call.path["judge"], call.principal, kind=asked.kind, queue=asked.queue, suite=asked.suite,
        model=asked.model, days=asked.days, everything=asked.all,
    )  # fmt: skip
    return {"job": key}


def job(call: Call[Nothing]) -> Item:
    """How a job of a judge stands."""
    return opinions.told(call.platform, call.path["job"])


def against(call: Call[Against]) -> Item:
    """Candidate minus live on every suite that both were asked."""
    model = call.path["model"]
    candidate, live = (f"{model}@{call.path[name]}" for name in ("number", "other"))
    return comparing.compared(call.platform, candidate, live, margin=call.asked.margin)
