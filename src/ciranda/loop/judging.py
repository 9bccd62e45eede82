"""Judges asked by gates: evaluations are judged, and gates are told what to believe.

    consult      what a model's gates ask of judges about two evaluations; jobs (`loop.opinions`), then judgements
    standings    what of that is to be believed now, beside the evaluations with the scores in them

A judge that is not believed is not paid: `consult` leaves it out, and the gate says why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data.rows import Message
from ciranda.evals import calibration, judge, judgements, suites
from ciranda.evals.calibration import Standing
from ciranda.evals.compare import of_pairs
from ciranda.evals.judge import Ask, Judge
from ciranda.evals.judgements import Judgement
from ciranda.evals.suites import Answer, Evaluation
from ciranda.loop import opinions
from ciranda.loop.heavy import POLL_S, Told
from ciranda.loop.platform import Platform
from ciranda.registry.versions import Version
from ciranda.store import clock

Ids = Mapping[str, Mapping[str, str]]


# --- asked about evaluations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What a gate wants to know of a judge: its opinion of a report, against another one for a preference."""

    by: Judge
    kind: str
    suite: str
    version: str
    report: str
    against: str = ""
    against_report: str = ""

    @property
    def id(self) -> str:
        return judgements.identity(self.by.digest, self.kind, self.report, self.against_report)


def questions(
    conn: sa.Connection, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids
) -> list[Question]:
    """What the gates of a model ask of judges about two versions; nothing of judges that nobody registered."""
    found: dict[str, Question] = {}
    for gate in spec.gates:
        named = judge.of_metric(gate.metric)
        by = judge.find(conn, named[1]) if named else None
        reports = [_report(conn, evaluations, version.ref, gate.suite) for version in (candidate, champion)]
        if named is None or by is None or not reports[0]:
            continue
        pairs = [(candidate.ref, reports[0], champion.ref, reports[1])]
        if named[0] == "judge":
            pairs = [(candidate.ref, reports[0], "", ""), (champion.ref, reports[1], "", "")]
        asked = [Question(by, named[0], gate.suite, *pair) for pair in pairs if pair[1] and (pair[3] or not pair[2])]
        found |= {one.id: one for one in asked}
    return list(found.values())


def _report(conn: sa.Connection, evaluations: Ids, ref: str, suite: str) -> str:
    known = evaluations.get(ref, {}).get(suite)
    return str(suites.get(conn, known)["report"]) if known else ""


def consult(
    platform: Platform, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids,
    cases: Mapping[str, Mapping[str, Sequence[Message]]], *, again: bool = False,
) -> list[str]:  # fmt: skip
    """Begin to ask judges what the gates want to know and nobody asked before; the keys of the jobs that are still to end.

    Args:
        cases: The conversation of each case, by suite and id.
        again: Whether a job that failed is tried anew.
    """
    with platform.db.reading() as conn:
        asked = questions(conn, spec, candidate, champion, evaluations)
        known = {one.id for one in asked if judgements.find(conn, one.id)}
        due = [one for one in asked if one.id not in known and not _unbelieved(conn, one, spec.model)]
    keys = [_key(platform, one, again) for one in due]
    for key, one in zip(keys, due, strict=True):
        if platform.jobs.status(key).state in ("unknown", "lost"):
            _ask(platform, key, one, cases.get(one.suite, {}))
    return [key for key in keys if platform.jobs.status(key).state in ("running", "lost", "succeeded")]


def ask(platform: Platform, one: Question, cases: Mapping[str, Sequence[Message]]) -> str:
    """Ask a judge one thing, believed or not; the key of the job, which is the same for the same question."""
    key = _key(platform, one, again=False)
    if platform.jobs.status(key).state in ("unknown", "lost"):
        _ask(platform, key, one, cases)
    return key


def weighed(platform: Platform, model: str, one: Question, made: Judgement) -> dict[str, Any]:
    """The net preference that a judge tells, as it stands and as people would say it; or why it is not believed."""
    with platform.db.reading() as conn:
        found = calibration.newest(conn, one.by.name, one.kind, model)
    metric = f"{one.kind}:{one.by.name}"
    known = calibration.standing(metric, one.by.name, one.by.digest, found, now=clock.now(), served=made.served,
                                 silent=made.silent, asked=len(made.scores) + made.silent)  # fmt: skip
    pairs = [(score, 1 - score) for score in made.scores.values()]
    raw = of_pairs(pairs, metric)
    people = found.compared(raw, [2 * ours - 1 for ours, _ in pairs]) if found and not known.refusal else None
    return {"raw": raw.to_dict(), "people": people.to_dict() if people else None, "standing": known.to_dict()}


def _unbelieved(conn: sa.Connection, one: Question, model: str) -> str:
    known = calibration.newest(conn, one.by.name, one.kind, model)
    metric = f"{one.kind}:{one.by.name}"
    return calibration.standing(metric, one.by.name, one.by.digest, known, now=clock.now()).refusal


def _key(platform: Platform, one: Question, again: bool) -> str:
    keys = [f"{opinions.PREFIX}ask:{one.id[:32]}{end}" for end in ("", *(f":{n}" for n in range(2, 100)))]
    tried = [key for key in keys if platform.jobs.status(key).state != "unknown"]
    if not tried:
        return keys[0]
    failed = platform.jobs.status(tried[-1]).state == "failed"
    return keys[len(tried)] if again and failed and len(tried) < len(keys) else tried[-1]


def _ask(platform: Platform, key: str, one: Question, cases: Mapping[str, Sequence[Message]]) -> None:
    mine = suites.load(platform.home, one.report)
    theirs = {answer.case: answer for answer in _answers(platform, one.against_report)}
    asks: list[Ask] = []
    for answer in mine.answers:
        said = cases.get(answer.case) or (Message("user", answer.prompt),)
        if one.kind == "judge":
            asks.append(judge.grading(one.by, answer.case, said, answer.answer, answer.reference))
        elif other := theirs.get(answer.case):
            asks += judge.comparing(one.by, answer.case, said, answer.answer, other.answer, answer.reference)
    about = {
        "purpose": "consult", "id": one.id, "judge": one.by.name, "digest": one.by.digest, "kind": one.kind, "scale": one.by.scale,
        "version": one.version, "against": one.against, "suite": mine.suite, "report": one.report,
        "against_report": one.against_report, "actor": "loop",
    }  # fmt: skip
    opinions.begin(platform, key, one.by, asks, about)


def _answers(platform: Platform, report: str) -> Sequence[Answer]:
    return suites.load(platform.home, report).answers if report else ()


def wait(platform: Platform, keys: Sequence[str], *, tell: Told) -> None:
    """Wait until each of these jobs has ended, however it did, telling how far they are."""
    while open_ := [key for key in keys if platform.jobs.status(key).state in ("running", "lost")]:
        opinions.revive(platform, open_)
        lines, _ = platform.jobs.progress(open_[0], 0)
        if lines:
            tell(f"{lines[-1]['done']} of {lines[-1]['all']} opinions")
        time.sleep(POLL_S)
    opinions.keep(platform)


# --- what is to be believed -------------------------------------------------------------------------------------------


def standings(
    platform: Platform,
    spec: ModelSpec,
    candidate: Version,
    champion: Version,
    evaluations: Ids,
    loaded: Mapping[str, Mapping[str, Evaluation]],
) -> tuple[dict[str, Standing], dict[str, dict[str, Evaluation]]]:
    """What is to be believed of each judge's metric of the gates now, and the evaluations with the judges' scores in them."""
    joined = {ref: dict(by_suite) for ref, by_suite in loaded.items()}
    with platform.db.reading() as conn:
        asked = questions(conn, spec, candidate, champion, evaluations)
        found = {one.id: judgements.find(conn, one.id) for one in asked}
        metrics = {gate.metric for gate in spec.gates if judge.of_metric(gate.metric)}
        for one in asked:
            if made := found[one.id]:
                _join(joined, one, made)
        told = {
            metric: _standing(conn, spec.model, metric, [one for one in asked if f"{one.kind}:{one.by.name}" == metric], found,
                              candidate.ref, champion.ref)
            for metric in metrics
        }  # fmt: skip
    return told, joined


def evidence(
    conn: sa.Connection, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids
) -> dict[str, dict[str, Any]]:
    """What a verdict stands on beside evaluations: each judge's calibration, and the opinions that it gave."""
    told: dict[str, dict[str, Any]] = {}
    for one in questions(conn, spec, candidate, champion, evaluations):
        found = calibration.newest(conn, one.by.name, one.kind, spec.model)
        held = told.setdefault(
            f"{one.kind}:{one.by.name}", {"calibration": found.id if found else "", "judgements": []}
        )
        held["judgements"] += [one.id] if judgements.find(conn, one.id) else []
    return told


def _join(joined: dict[str, dict[str, Evaluation]], one: Question, made: Judgement) -> None:
    mine = joined[one.version]
    mine[one.suite] = judgements.joined(mine[one.suite], made.metric, made.scores)
    if one.kind == "preferred":
        theirs = joined[one.against]
        turned = {case: 1 - score for case, score in made.scores.items()}
        theirs[one.suite] = judgements.joined(theirs[one.suite], made.metric, turned)


def _standing(
    conn: sa.Connection, model: str, metric: str, asked: Sequence[Question], found: Mapping[str, Judgement | None],
    candidate: str, champion: str,
) -> Standing:  # fmt: skip
    kind, name = judge.of_metric(metric) or ("", "")
    by = judge.find(conn, name)
    if by is None:
        remedy = f"`ciranda judges create {name}`"
        return Standing(metric, refusal=f"there is no judge {name}; {remedy}")
    made = [one for question in asked if (one := found[question.id])]
    told = calibration.standing(
        metric, name, by.digest, calibration.newest(conn, name, kind, model), now=clock.now(),
        served=[version for one in made for version in one.served], silent=sum(one.silent for one in made),
        asked=sum(len(one.scores) + one.silent for one in made), candidate=candidate, live=champion,
    )  # fmt: skip
    if not told.refusal and len(made) < len(asked):
        why = f"the judge {name} gave no opinion; look at its job, then `ciranda evaluate {candidate}`"
        return Standing(metric, told.calibration, why, candidate, champion)
    return told
