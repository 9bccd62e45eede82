"""Judges, comparisons and replays as the pages show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ciranda.data.reviews import queues
from ciranda.errors import Refused
from ciranda.evals import judge, judgements, replays
from ciranda.evals.judge import Judge
from ciranda.evals.replays import Replay
from ciranda.govern.access import Principal
from ciranda.loop import calibrating, comparing, replaying, reviews
from ciranda.loop.platform import Platform
from ciranda.loop.quoting import Quotes
from ciranda.registry import models, versions
from ciranda.web.views.judges import (
    Changed,
    Compared,
    JudgePage,
    JudgeRow,
    Opinion,
    ReplayPage,
    ReplayRow,
    ReplaysPage,
    Sides,
    Worth,
)

SHOWN = 50
OFFERED = 20


def listing(platform: Platform, reach: Sequence[str]) -> tuple[JudgeRow, ...]:
    """Every judge, with what it is worth for the models that a key sees."""
    with platform.db.reading() as conn:
        found = judge.every(conn)
    return tuple(_row(platform, one, since, reach) for one, since in found)


def single(platform: Platform, name: str, who: Principal) -> JudgePage:
    """One judge. Raises NotFound."""
    with platform.db.reading() as conn:
        found = judge.get(conn, name)
        since = next((at for one, at in judge.every(conn) if one.name == name), "")
        said = judgements.of(conn, name, limit=SHOWN)
        known = [one for one in queues.every(conn) if one.model]
    mine = tuple(
        Opinion(one.version, one.against, one.suite, len(one.scores), one.silent, one.to_dict()["mean"], one.created_at)
        for one in said
        if _reached(one.version, who.models)
    )
    able = tuple(one.name for one in known if reviews.reached(platform, one, who.models))
    return JudgePage(_row(platform, found, since, who.models), found.criteria, found.digest, found.mask, mine, able)


def _row(platform: Platform, one: Judge, since: str, reach: Sequence[str]) -> JudgeRow:
    worth = tuple(_worth(told) for told in calibrating.worth(platform, one) if "*" in reach or told["model"] in reach)
    return JudgeRow(one.name, one.model, one.url, one.scale, since, worth)


def _worth(told: Mapping[str, Any]) -> Worth:
    figures = told["figures"]
    return Worth(
        told["kind"], told["model"], told["believed"], told["refusal"], told.get("labels", 0), figures.get("people"),
        figures.get("judge"), figures.get("rise"), figures.get("agreement"), told.get("source", ""), told.get("valid_until", ""),
    )  # fmt: skip


def _reached(version: str, reach: Sequence[str]) -> bool:
    return "*" in reach or version.rpartition("@")[0] in reach


def sides(platform: Platform, model: str, candidate: str, live: str) -> Sides:
    """Two versions of a model side by side; without names, the newest and the live one. Nothing common is an empty page."""
    with platform.db.reading() as conn:
        models.get(conn, model)
        known = [one.ref for one in versions.of(conn, model)]
        now = versions.live(conn, model)
    ordered = sorted(known, key=lambda ref: int(ref.rpartition("@")[2]), reverse=True)
    there = live or (now.ref if now else "")
    here = candidate or next((ref for ref in ordered if ref != there), "")
    if not here or not there or here == there:
        return Sides(here, there, (), tuple(ordered))
    try:
        told = comparing.compared(platform, here, there)
    except Refused:
        return Sides(here, there, (), tuple(ordered))
    found = tuple((one["suite"], tuple(_lines(one["metrics"]))) for one in told["suites"])
    return Sides(here, there, found, tuple(ordered))


def _lines(metrics: Sequence[Mapping[str, Any]]) -> Iterator[Compared]:
    for one in metrics:
        yield _compared(one, "")
        for part, slice_ in one["slices"].items():
            yield _compared(slice_, part)


def _compared(one: Mapping[str, Any], part: str) -> Compared:
    return Compared(
        one["metric"], part, one["n"], one["mean_a"], one["mean_b"], one["difference"], one["low"], one["high"], one["adjusted_p"],
        one["effect"]["size"], one["detectable"], one["needed"], one["verdict"],
    )  # fmt: skip


def replayed(platform: Platform, reach: Sequence[str]) -> ReplaysPage:
    """The newest replays, and what may be replayed to."""
    with platform.db.reading() as conn:
        found = replays.page(conn, None if "*" in reach else tuple(reach), limit=SHOWN)
        known = [model.name for model in models.every(conn) if "*" in reach or model.name in reach]
        able = [
            one
            for name in known
            for one in versions.of(conn, name)
            if one.stage in ("candidate", "approved", "refused")
        ]
        names = tuple(one.name for one, _ in judge.every(conn))
    newest = sorted(able, key=lambda one: one.created_at, reverse=True)[:OFFERED]
    return ReplaysPage(tuple(_replay(one) for one in found), tuple(one.ref for one in newest), names)


def replay(platform: Platform, identifier: str, who: Principal) -> ReplayPage:
    """One replay, with the answers that the reader may hear. Raises NotFound."""
    with platform.db.reading() as conn:
        one = replays.get(conn, identifier)
    changed = tuple(
        Changed(shown["interaction"], shown["prompt"], shown["before"], shown["after"], shown["gain"])
        for shown in Quotes(platform, one.model, who).answers(replaying.examples(platform, one))
    )
    metrics = tuple(_lines(one.figures.get("metrics", ())))
    return ReplayPage(_replay(one), one.since, one.until, one.reason, metrics, _preferred(one), changed)


def _preferred(one: Replay) -> tuple[float, float, float, str] | None:
    if not (found := one.figures.get("preferred")):
        return None
    told = found["people"] or found["raw"]
    return told["difference"], told["low"], told["high"], found["standing"]["refusal"]


def _replay(one: Replay) -> ReplayRow:
    return ReplayRow(
        one.id, one.model, one.version, one.champion, one.state, one.cases, one.seen, one.figures.get("changed"), one.judge,
        one.created_at, one.created_by,
    )  # fmt: skip
