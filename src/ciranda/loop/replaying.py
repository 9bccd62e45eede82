"""Replay: what users asked yesterday is asked of a candidate, before any user sees it, and held against what they were answered.

    begin      requests that the live version answered are drawn, one for each conversation, and frozen as a suite; a job asks them
    keep       the leader: results become evaluations of both versions and a comparison; a judge says which answer it prefers

The live version's side is its recorded answers, so nothing is asked twice and nothing is made nicer than it was. The candidate is
served by an engine of its own, off the gateway: nothing is recorded of it, no user is touched, no budget is used. It gets the
conversation and the tools of the request, and answers greedily, as in every exam. Only scorers that need no reference speak: an
answer that a user put right is one that the live version got wrong, so corrections as references would favour any newcomer.
Answers that failed, that a client left, of shadows and from a cache are left out.
A gate may name the suite `replay`; a turn then replays the traffic of the day before to its candidate first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data import feedback, reading
from ciranda.data.hearing import Hearing
from ciranda.errors import Conflict, Invalid, Refused
from ciranda.evals import compare, exams, judge, judgements, live, replays, suites
from ciranda.evals.cases import Case, Reply, Suite
from ciranda.evals.replays import SUITE, Replay
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Evaluation
from ciranda.interactions.table import Interaction
from ciranda.jobs.local import ATTEMPTS, JobSpec
from ciranda.loop import candidates, judging, picks
from ciranda.loop.heavy import POLL_S, Told
from ciranda.loop.judging import Question
from ciranda.loop.platform import Platform
from ciranda.registry import models, versions
from ciranda.registry.versions import Version
from ciranda.store import clock, files, ids

PREFIX = "replay:"
WINDOW = timedelta(days=1)
SCANNED, PAGE, MOST = 20_000, 500, 2000
SCORERS = ("valid_json", "refusal", "repetition", "toxicity", "pii_leak")


def begin(
    platform: Platform,
    ref: str,
    *,
    actor: str,
    since: datetime | None = None,
    until: datetime | None = None,
    count: int = 0,
    by: str = "",
    identifier: str = "",
) -> Replay:
    """Begin to ask a version what the live one was asked.

    Args:
        since, until: The window; without them, the last day.
        count: How many requests at most; without it, the model file's `evaluate: cases`.
        by: A judge that says which answers it prefers.
        identifier: The same one again is the same replay.

    Raises:
        Conflict: The version is live, or nothing is.
        Refused: There was no traffic that could be asked again.
    """
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        spec, champion = models.get(conn, version.model).spec, versions.live(conn, version.model)
        known = replays.find(conn, identifier)
        if by:
            judge.get(conn, by)
    if known is not None:
        return known
    if champion is None or champion.ref == version.ref:
        raise Conflict(f"{ref} has nobody to be held against: it is live, or nothing is", where="replay",
                       remedy="replay to a candidate")  # fmt: skip
    end = until or clock.now()
    start = since or end - WINDOW
    if start >= end or count > MOST:
        raise Invalid("an empty window, or too many requests", where="since, until, count",
                      remedy=f"choose a window that ends after it begins, and up to {MOST} requests")  # fmt: skip
    drawn, seen = _drawn(platform, spec.model, champion.ref, start, end, count or spec.evaluate.cases)
    if not drawn:
        raise Refused(f"{champion.ref} answered nothing since {clock.iso(start)} that can be asked again",
                      where=f"traffic of {spec.model}", remedy="wait for traffic, or take a longer window: --since 7d")  # fmt: skip
    name = identifier or ids.new("replay")
    made = Replay(
        name, spec.model, version.ref, champion.ref, clock.iso(start), clock.iso(end), seen, len(drawn), _suite(drawn).digest, by,
        f"{PREFIX}{name}", "running", "", "", "", {}, clock.iso(), actor, "",
    )  # fmt: skip
    said = _freeze(platform, spec, version, made, drawn)
    report = suites.save(platform.home, said)
    with platform.db.writing() as conn:
        kept = _recorded(conn, said, made, champion.ref, report)
        made = replays.begin(conn, replace(made, champion_evaluation=kept))
    _submit(platform, made.job)
    return made


def _recorded(conn: sa.Connection, evaluation: Evaluation, one: Replay, ref: str, report: str) -> str:
    name = f"eval_{ref.replace('@', '-')}_{evaluation.suite_digest[7:23]}-{one.id[-8:]}"
    return suites.record(conn, evaluation, model=one.model, version=ref, report=report, actor="loop", id=name)


# --- what is asked again ----------------------------------------------------------------------------------------------


def _drawn(
    platform: Platform, model: str, champion: str, since: datetime, until: datetime, count: int
) -> tuple[list[tuple[Case, Reply]], int]:
    """Requests with what was answered, one for each conversation, drawn by their ids; and how many there were to draw from."""
    seen, first = 0, dict[str, Interaction]()
    for one in islice(_newest(platform, model, champion, since, until), SCANNED):
        seen += 1
        first.setdefault(one.conversation or one.id, one)
    chosen = nsmallest(count, first.values(), key=lambda one: (candidates.draw(SUITE, one.id), one.id))
    return [found for one in chosen if (found := _case(one))], seen


def _newest(platform: Platform, model: str, version: str, since: datetime, until: datetime) -> Iterator[Interaction]:
    before, hearing = None, Hearing(platform.db, platform.home, reading.itself("evaluation"))
    while True:
        page = platform.interactions.page(
            model=model, version=version, since=since, until=until, status=200, before=before, limit=PAGE
        )
        yield from (
            one
            for one in hearing.these(page)
            if one.arm != "shadow" and one.output_text and not one.cached and not one.failed
        )
        if len(page) < PAGE:
            return
        before = page[-1].place


def _case(one: Interaction) -> tuple[Case, Reply] | None:
    """The request as a case, with the answer that was given; None when it is no plain conversation."""
    voices = feedback.voices_of_approved([one])
    if not voices:
        return None
    slices = {"language": one.language} if one.language else {}
    if one.thumb:
        slices["thumb"] = "up" if one.thumb > 0 else "down"
    said, tools = live.said(one), _tools(one.request)
    case = Case(one.id, voices[0].messages, None, slices, tools=tools)
    reply = Reply(one.output_text, said.tools, one.latency_ms, one.prompt_tokens, one.completion_tokens, one.cost)
    return case, reply


def _tools(request: str) -> tuple[dict[str, Any], ...]:
    try:
        given = json.loads(request).get("tools")
    except (ValueError, AttributeError):
        return ()
    return tuple(tool for tool in given if isinstance(tool, dict)) if isinstance(given, list) else ()


def _suite(drawn: Sequence[tuple[Case, Reply]]) -> Suite:
    return Suite(SUITE, tuple(case for case, _ in drawn))


def _freeze(
    platform: Platform, spec: ModelSpec, version: Version, made: Replay, drawn: Sequence[tuple[Case, Reply]]
) -> Evaluation:
    """The job's spec; what the champion got for the same cases comes back, scored."""
    suite, said = _suite(drawn), {case.id: reply for case, reply in drawn}
    metrics = _metrics(spec)
    champion = suites.run(suite, lambda case: said[case.id], metrics)
    asked = exams.Spec(
        engine=tuple(picks.engine_of(platform.home, spec, version)), name=version.ref, key_file=str(platform.home.engine_key),
        suites=(suite,), metrics=metrics, max_tokens=spec.evaluate.max_tokens, concurrency=spec.serve.slots,
    )  # fmt: skip
    folder = platform.home.jobs / made.job
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(folder / "spec.json", json.dumps(asked.to_dict(), ensure_ascii=False))
    return champion


def _metrics(spec: ModelSpec) -> tuple[str, ...]:
    """What both sides are scored by: nothing that needs an engine of its own."""
    named = {*SCORERS, spec.release.quality, *(gate.metric for gate in spec.gates), *spec.evaluate.scorers}
    return tuple(sorted(name for name in named if not scorer(name).needs and not scorer(name).needs_reference))


def _submit(platform: Platform, key: str) -> None:
    folder = platform.home.jobs / key
    platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder))


# --- what came of it --------------------------------------------------------------------------------------------------


def keep(platform: Platform) -> None:
    """Move every replay that is under way by what its jobs have done."""
    with platform.db.reading() as conn:
        under_way = replays.open_ones(conn)
    for one in under_way:
        state = platform.jobs.status(one.job)
        if state.state in ("unknown", "lost") and state.attempt < ATTEMPTS:
            _submit(platform, one.job)
        elif state.state == "failed":
            _end(platform, one, "failed", reason=_reason(platform.home.jobs / one.job, state.reason))
        elif state.state == "succeeded":
            _judge(platform, one) if one.state == "judging" else _evaluated(platform, one)


def _reason(folder: Path, otherwise: str) -> str:
    log = folder / "log.txt"
    end = log.read_text(errors="replace")[-600:].strip() if log.exists() else ""
    return f"{otherwise}; its log ends: {end}" if end else otherwise


def _evaluated(platform: Platform, one: Replay) -> None:
    """Keep what the candidate said; it is compared with what users got, and a judge is asked when one was named."""
    (candidate,) = exams.results(platform.home.jobs / one.job)
    champion = _evaluation(platform, one.champion_evaluation)
    report = suites.save(platform.home, candidate)
    told = {"metrics": _compared(candidate, champion), "changed": _changed(candidate, champion)}
    with platform.db.writing() as conn:
        kept = _recorded(conn, candidate, one, one.version, report)
        state: replays.State = "judging" if one.judge else "complete"
        replays.change(conn, one.id, state=state, figures=told, evaluation=kept)


def _evaluation(platform: Platform, identifier: str) -> Evaluation:
    with platform.db.reading() as conn:
        report = str(suites.get(conn, identifier)["report"])
    return suites.load(platform.home, report)


def _compared(candidate: Evaluation, champion: Evaluation) -> list[dict[str, Any]]:
    """Every metric that both have, as one family, each with its slices."""
    metrics = [name for name in candidate.metrics if name in champion.metrics]
    whole = compare.together([compare.compare(candidate, champion, name) for name in metrics])
    return [
        {**one.to_dict(), "slices": {
            part: found.to_dict() for part, found in compare.by_slice(candidate, champion, one.metric).items()
        }}
        for one in whole
    ]  # fmt: skip


def _changed(candidate: Evaluation, champion: Evaluation) -> int:
    """How many users would have got another answer."""
    before = {one.case: one.answer.strip() for one in champion.answers}
    return sum(before.get(one.case) != one.answer.strip() for one in candidate.answers)


def _judge(platform: Platform, one: Replay) -> None:
    """Ask the judge which answer it prefers; what it says is added, on the scale of people where it is believed."""
    with platform.db.reading() as conn:
        by = judge.find(conn, one.judge)
        reports = [str(suites.get(conn, name)["report"]) for name in (one.evaluation, one.champion_evaluation)]
    if by is None:
        _end(platform, one, "failed", reason=f"there is no judge {one.judge} any more")
        return
    asked = Question(by, "preferred", SUITE, one.version, reports[0], one.champion, reports[1])
    with platform.db.reading() as conn:
        made = judgements.find(conn, asked.id)
    if made is None:
        key = judging.ask(platform, asked, _conversations(platform, one))
        if platform.jobs.status(key).state == "failed":
            _end(platform, one, "failed", reason=f"the judge {one.judge} gave no opinion: job {key}")
        return
    found = judging.weighed(platform, one.model, asked, made)
    _end(platform, one, "complete", figures={**one.figures, "preferred": found})


def _conversations(platform: Platform, one: Replay) -> dict[str, Any]:
    return {case.id: case.messages for case in replays.frozen(platform.home, one).cases}


def _end(platform: Platform, one: Replay, state: replays.State, **values: Any) -> None:
    with platform.db.writing() as conn:
        replays.change(conn, one.id, state=state, **values)


# --- as a gate's suite ------------------------------------------------------------------------------------------------


def freeze(platform: Platform, candidate: Version, *, tell: Told) -> None:
    """Replay the day before to a candidate, once, to the end; without traffic there is nothing to replay."""
    try:
        one = begin(platform, candidate.ref, actor="loop", identifier=f"replay:{candidate.ref}")
    except Refused as nothing:
        tell(nothing.message)
        return
    while one.state in replays.OPEN:
        time.sleep(POLL_S)
        keep(platform)
        lines, _ = platform.jobs.progress(one.job, 0)
        if lines and "all" in lines[-1]:
            tell(f"replay: {lines[-1]['done']} of {lines[-1]['all']} requests")
        with platform.db.reading() as conn:
            one = replays.get(conn, one.id)


def examples(platform: Platform, one: Replay, *, limit: int = 20) -> list[dict[str, Any]]:
    """Answers that would have been others, with both and their scores: those with the largest loss first."""
    if not one.evaluation:
        return []
    mine, theirs = (_evaluation(platform, name) for name in (one.evaluation, one.champion_evaluation))
    before = {answer.case: answer for answer in theirs.answers}
    changed = [(answer, before[answer.case]) for answer in mine.answers
               if answer.case in before and before[answer.case].answer.strip() != answer.answer.strip()]  # fmt: skip
    ordered = sorted(changed, key=lambda pair: (_gain(*pair), pair[0].case))
    return [
        {"interaction": new.case, "prompt": new.prompt, "before": old.answer, "after": new.answer or new.error,
         "gain": _gain(new, old), "scores": {"before": old.scores, "after": new.scores}}
        for new, old in ordered[:limit]
    ]  # fmt: skip


def _gain(new: suites.Answer, old: suites.Answer) -> float:
    """By how much the scores are better, each turned so that more is better."""
    common = [(name, value) for name, value in new.scores.items() if name in old.scores]
    return sum((value - old.scores[name]) * (1 if scorer(name).higher_is_better else -1) for name, value in common)
