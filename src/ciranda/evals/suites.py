"""Suites: cases to ask a version, and what came of it.

A suite is registered (`evals.library`), a file of cases (`evals.written`) or the test split of a dataset version. `run` asks
every case through a callable (the loop gives one that speaks to the real endpoint), scores each answer and keeps them all: an
evaluation is its answers, figures are derived.
A question that the engine refuses counts as the worst answer, since a user would have got none; an engine that is away
stops the run, since that says nothing of the model.
Metrics carry 95 % intervals, over all cases and by slice. The report with every answer is a content-addressed artefact.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import reading
from ciranda.data.rows import SPLITS, Row
from ciranda.errors import CirandaError, Invalid, NotFound, Refused
from ciranda.evals.cases import Call, Case, Reply, Said, Suite
from ciranda.evals.intervals import Estimate, estimate
from ciranda.evals.scorers import Scorer, scorer, scorers
from ciranda.evals.written import from_yaml
from ciranda.govern import audit
from ciranda.govern.policy import Reader
from ciranda.store import clock, files, ids
from ciranda.store.database import Database, metadata

__all__ = ["Answer", "Case", "Evaluation", "Suite", "evaluations", "from_dataset", "from_yaml", "run"]

Ask = Callable[[Case], Reply]
Progress = Callable[[int, int], None]
EVALUATING = reading.itself("evaluation")

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(80), nullable=False, index=True),
    sa.Column("suite", sa.String(500), nullable=False),
    sa.Column("suite_digest", sa.String(71), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("errors", sa.Integer, nullable=False),
    sa.Column("scorers", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("slices", sa.JSON, nullable=False),
    sa.Column("report", sa.String(200), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Answer:
    """What one case got: the answer, its scores, how long it took; `error` when none came."""

    case: str
    prompt: str
    reference: str | None
    answer: str
    scores: dict[str, float]
    slices: dict[str, str]
    seconds: float
    error: str = ""
    tools: tuple[Call, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    logprobs: tuple[float, ...] | None = None
    pair: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Answer:
        """From the JSON of a report."""
        calls = tuple(Call(**call) for call in values.get("tools", ()))
        logprobs = values.get("logprobs")
        return cls(**{**values, "tools": calls, "logprobs": tuple(logprobs) if logprobs is not None else None})

    @property
    def reply(self) -> Reply:
        """What the engine gave."""
        latency = None if self.error else self.seconds * 1000
        return Reply(self.answer, self.tools, latency, self.tokens_in, self.tokens_out, self.cost, self.logprobs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without what is not known."""
        whole = asdict(self)
        return {name: value for name, value in whole.items() if name not in LATER or value not in (None, (), "", {})}


LATER = ("tools", "tokens_in", "tokens_out", "cost", "logprobs", "pair", "labels")


@dataclass(frozen=True)
class Evaluation:
    """One scored run of a suite."""

    suite: str
    suite_digest: str
    answers: tuple[Answer, ...]
    scorers: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.answers)

    @property
    def errors(self) -> int:
        """Cases that got no answer."""
        return sum(bool(one.error) for one in self.answers)

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Mean and interval by metric, over all cases."""
        return self._estimates(self.answers)

    @property
    def slices(self) -> dict[str, dict[str, Estimate]]:
        """The same by slice, named as in `language=en`."""
        parts: dict[str, list[Answer]] = defaultdict(list)
        for one in self.answers:
            for name, value in one.slices.items():
                parts[f"{name}={value}"].append(one)
        return {name: self._estimates(part) for name, part in sorted(parts.items())}

    def scores(self, metric: str, where: Mapping[str, str] | None = None) -> dict[str, float]:
        """Score by case, of the cases whose slices match `where`."""
        chosen = (one for one in self.answers if all(one.slices.get(k) == v for k, v in (where or {}).items()))
        return {one.case: one.scores[metric] for one in chosen if metric in one.scores}

    def estimate(self, metric: str, where: Mapping[str, str] | None = None) -> Estimate | None:
        """Mean and interval of one metric (in a slice); None when no case has it."""
        scores = list(self.scores(metric, where).values())
        return estimate(scores, rate=scorer(metric).rate) if scores else None

    def to_dict(self) -> dict[str, Any]:
        """The whole report, answers and derived figures, as JSON."""
        return {
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "n": self.n,
            "errors": self.errors,
            "scorers": list(self.scorers),
            "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
            "slices": {part: {m: one.to_dict() for m, one in ms.items()} for part, ms in self.slices.items()},
            "answers": [one.to_dict() for one in self.answers],
        }

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Evaluation:
        """The evaluation of a report that `to_dict` wrote."""
        answers = tuple(Answer.of(one) for one in report["answers"])
        return cls(report["suite"], report["suite_digest"], answers, tuple(report.get("scorers", ())))

    def _estimates(self, answers: Sequence[Answer]) -> dict[str, Estimate]:
        by_metric: dict[str, list[float]] = defaultdict(list)
        for one in answers:
            for metric, score in one.scores.items():
                by_metric[metric].append(score)
        return {metric: estimate(scores, rate=scorer(metric).rate) for metric, scores in by_metric.items()}


def from_dataset(
    db: Database, home: Home, ref: str, *, split: str = "test", limit: int | None = None, reader: Reader = EVALUATING
) -> Suite:
    """The rows of a split as cases, sliced by language and source, as far as the policies leave them to the reader.

    Text asks nothing, and an answer with a thumb down is no reference: neither is a case.

    With `limit` so many are chosen by their digests, evenly over languages: the same ones for every version that is
    asked, and mostly the same ones again when the dataset grows.
    """
    if split not in SPLITS:
        raise Invalid(f"no split {split!r}", where=ref, remedy=f"choose one of {', '.join(SPLITS)}")
    found = reading.read(db, home, ref, reader, split=split)
    rows = sorted((row for row in found if row.messages and row.thumb >= 0), key=lambda row: row.key)
    if not rows:
        raise Refused(f"{ref} has no {split} rows to ask", where=ref, remedy="add rows, or gate on a suite from a file")
    chosen = rows if limit is None else evenly(rows, limit)
    return Suite(f"{ref}/{split}", tuple(_of_row(row) for row in chosen))


def run(
    suite: Suite,
    ask: Ask,
    names: Iterable[str],
    *,
    aids: Mapping[str, Any] | None = None,
    concurrency: int = 4,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask every case and score the answers; the order of answers is that of the cases.

    Args:
        ask: Takes the case, gives what the engine replied; raises CirandaError when there is no answer.
        names: Scorers by name.
        aids: The engines that some scorers need, by need (`embedding`, `judge`).
        progress: Called with cases done and cases in all, from this thread.

    Raises what `ask` raises when trying again may help (Unavailable, LimitReached): that says nothing of the model.
    """
    chosen, answers = scorers(names, aids), []
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        waiting = [pool.submit(_answered, case, ask, chosen) for case in suite.cases]
        try:
            for done in waiting:
                answers.append(done.result())
                if progress:
                    progress(len(answers), len(waiting))
        finally:
            for future in waiting:
                future.cancel()
    return Evaluation(
        suite.name, suite.digest, tuple(paired(suite, answers, chosen)), tuple(one.name for one in chosen)
    )


def paired(suite: Suite, answers: Sequence[Answer], chosen: Sequence[Scorer]) -> list[Answer]:
    """The answers with the scores that compare a case with its counterfactual partner; each pair is scored once."""
    both = [one for one in chosen if one.needs == "partner"]
    said = {case.id: Said.of(case, one.reply) for case, one in zip(suite.cases, answers, strict=True) if not one.error}
    found = list(answers)
    for place, case in enumerate(suite.cases):
        other = said.get(case.pair)
        if both and other and case.id in said and not _counted(case, other):
            told = replace(said[case.id], partner=other)
            found[place] = replace(found[place], scores={**found[place].scores, **_scores(told, both)})
    return found


def _counted(case: Case, other: Said) -> bool:
    """Whether a pair is scored with its other case: each names the other, and this one's id is the later."""
    return other.case is not None and other.case.pair == case.id and case.id > case.pair


def save(home: Home, evaluation: Evaluation) -> str:
    """Write the report as a content-addressed artefact; returns its name, `sha256:…`. Writing it again changes nothing."""
    content = json.dumps(evaluation.to_dict(), ensure_ascii=False, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    path = report_path(home, f"sha256:{digest}")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(path, content)
    return f"sha256:{digest}"


def load(home: Home, report: str) -> Evaluation:
    """The evaluation behind a report's name. Raises NotFound, or Invalid when the file is not what its name says."""
    path = report_path(home, report)
    if not path.exists():
        raise NotFound(f"no report {report}", where=str(path), remedy="evaluate the version again")
    content = path.read_bytes()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != report:
        raise Invalid(f"the report {report} was changed on disk", where=str(path), remedy="evaluate the version again")
    return Evaluation.of(json.loads(content))


def report_path(home: Home, report: str) -> Path:
    """Where a report lies. Raises Invalid for what is no digest."""
    digest = report.removeprefix("sha256:")
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise Invalid(f"{report!r} names no report", where="report", remedy="use the `report` of an evaluation")
    return home.artefacts / "sha256" / digest[:2] / digest[2:]


def record(
    conn: sa.Connection, evaluation: Evaluation, *, model: str, version: str, report: str, actor: str, id: str = ""
) -> str:
    """Keep an evaluation's figures with the name of its report; returns its id. A known `id` is left as it is."""
    identifier = id or ids.new("eval")
    if conn.execute(sa.select(evaluations.c.id).where(evaluations.c.id == identifier)).first():
        return identifier
    whole = evaluation.to_dict()
    kept = {name: whole[name] for name in ("suite", "suite_digest", "n", "errors", "scorers", "metrics", "slices")}
    row = {"id": identifier, "model": model, "version": version, "report": report, "created_at": clock.iso(), **kept}
    conn.execute(evaluations.insert().values(row))
    detail = {"suite": evaluation.suite, "n": evaluation.n, "report": report}
    audit.record(conn, actor=actor, action="evaluation.recorded", subject=version, detail=detail)
    return identifier


def get(conn: sa.Connection, id: str) -> dict[str, Any]:
    """One recorded evaluation. Raises NotFound."""
    found = conn.execute(sa.select(evaluations).where(evaluations.c.id == id)).first()
    if not found:
        raise NotFound(f"no evaluation {id}", where="evaluations", remedy="list those of a version on its page")
    return dict(found._mapping)


def of_version(conn: sa.Connection, version: str, *, suite: str | None = None) -> list[dict[str, Any]]:
    """The evaluations of a version, newest first."""
    query = sa.select(evaluations).where(evaluations.c.version == version)
    if suite is not None:
        query = query.where(evaluations.c.suite == suite)
    ordered = query.order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc())
    return [dict(row._mapping) for row in conn.execute(ordered)]


def _answered(case: Case, ask: Ask, chosen: Sequence[Scorer]) -> Answer:
    start, reply, error = time.monotonic(), Reply(""), ""
    try:
        reply = ask(case)
    except CirandaError as problem:
        if problem.retry:
            raise
        error = problem.message
    latency = (time.monotonic() - start) * 1000 if reply.latency_ms is None else reply.latency_ms
    return scored(case, replace(reply, latency_ms=round(latency, 1)), chosen, error=error)


def scored(case: Case, reply: Reply, chosen: Sequence[Scorer], *, error: str = "") -> Answer:
    """A reply to a case with its scores; with an `error` there was none, and every score is the worst."""
    alone = [one for one in chosen if one.needs != "partner"]
    if error:
        due = [one for one in alone if case.reference is not None or not one.needs_reference]
        scores = {one.name: one.worst for one in due if one.worst is not None}
    else:
        scores = _scores(Said.of(case, reply), alone)
    seconds = round((reply.latency_ms or 0) / 1000, 4)
    return Answer(
        case.id, case.prompt, case.reference, reply.text, scores, dict(case.slices), seconds, error, reply.tools,
        reply.tokens_in, reply.tokens_out, reply.cost, reply.logprobs, case.pair, dict(case.labels),
    )  # fmt: skip


def _scores(said: Said, chosen: Sequence[Scorer]) -> dict[str, float]:
    return {one.name: value for one in chosen if (value := one.score(said)) is not None}


def evenly(rows: Sequence[Row], limit: int) -> list[Row]:
    """`limit` of these rows, one language after the other, until all have given what they can."""
    waiting: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        waiting[row.language].append(row)
    turns = sorted(waiting)
    chosen: list[Row] = []
    while len(chosen) < min(limit, len(rows)):
        chosen += [waiting[language].pop(0) for language in turns if waiting[language]][: limit - len(chosen)]
    return chosen


def _of_row(row: Row) -> Case:
    slices = {name: value for name in ("language", "source") if (value := getattr(row, name))}
    return Case(row.key, row.messages, row.completion, slices)
