"""What judges said of evaluations: scores by case, so that the same question is never paid for twice.

A judgement names the judge by digest, the report that was judged and, for a preference, the one that it was held against. Rows are
only added; what a score is worth is said anew each time it is used (`evals.calibration`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ciranda.evals.suites import Evaluation
from ciranda.govern import audit
from ciranda.store.database import metadata

judgements = sa.Table(
    "judgements",
    metadata,
    sa.Column("id", sa.String(71), primary_key=True),
    sa.Column("judge", sa.String(63), nullable=False, index=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("version", sa.String(80), nullable=False),
    sa.Column("against", sa.String(80), nullable=False),
    sa.Column("suite", sa.String(500), nullable=False),
    sa.Column("report", sa.String(200), nullable=False),
    sa.Column("against_report", sa.String(200), nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("silent", sa.Integer, nullable=False),
    sa.Column("served", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Judgement:
    """One judge on one report (against another one).

    Args:
        scores: By case, within 0 and 1; `silent` is on how many there was no opinion.
        served: Which versions answered as the judge.
    """

    id: str
    judge: str
    digest: str
    kind: str
    version: str
    against: str
    suite: str
    report: str
    against_report: str
    scores: dict[str, float]
    silent: int
    served: tuple[str, ...]
    created_at: str

    @property
    def metric(self) -> str:
        return f"{self.kind}:{self.judge}"

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it: figures, not each score."""
        told = {name: value for name, value in self.__dict__.items() if name != "scores"}
        n = len(self.scores)
        return {**told, "served": list(self.served), "n": n, "mean": sum(self.scores.values()) / n if n else None}


def identity(digest: str, kind: str, report: str, against_report: str = "") -> str:
    """The name of a judgement: who judges what, against what."""
    return hashlib.sha256(f"{digest} {kind} {report} {against_report}".encode()).hexdigest()


def record(conn: sa.Connection, made: Judgement, *, actor: str) -> None:
    """Keep a judgement; one that is known is left as it is."""
    if find(conn, made.id) is None:
        conn.execute(judgements.insert().values({**made.__dict__, "served": list(made.served)}))
        detail = {
            "judge": made.judge,
            "kind": made.kind,
            "suite": made.suite,
            "against": made.against,
            "n": len(made.scores),
        }
        audit.record(conn, actor=actor, action="judge.judged", subject=made.version, detail=detail)


def find(conn: sa.Connection, identifier: str) -> Judgement | None:
    """The judgement of that name, if it was made."""
    row = conn.execute(sa.select(judgements).where(judgements.c.id == identifier)).first()
    return _of(row._mapping) if row else None


def of(conn: sa.Connection, judge: str, *, before: str = "", limit: int = 50) -> list[Judgement]:
    """The judgements of a judge, newest first; `before` is the `created_at` of the last one seen."""
    query = sa.select(judgements).where(judgements.c.judge == judge)
    if before:
        query = query.where(judgements.c.created_at < before)
    ordered = query.order_by(judgements.c.created_at.desc(), judgements.c.id.desc()).limit(limit)
    return [_of(row._mapping) for row in conn.execute(ordered)]


def on(conn: sa.Connection, report: str, against_report: str) -> list[Judgement]:
    """What was said of two reports: grades of either, preferences of the first over the second."""
    mine = judgements.c
    grades = mine.report.in_((report, against_report)) & (mine.kind == "judge")
    preferences = (mine.report == report) & (mine.against_report == against_report)
    query = sa.select(judgements).where(grades | preferences).order_by(mine.created_at, mine.id)
    return [_of(row._mapping) for row in conn.execute(query)]


def joined(evaluation: Evaluation, metric: str, scores: Mapping[str, float]) -> Evaluation:
    """The evaluation with a judge's scores beside its own."""
    answers = tuple(
        replace(one, scores={**one.scores, metric: scores[one.case]}) if one.case in scores else one
        for one in evaluation.answers
    )
    return replace(evaluation, answers=answers)


def _of(row: Mapping[Any, Any]) -> Judgement:
    return Judgement(**{**row, "served": tuple(row["served"]), "scores": dict(row["scores"])})
