"""Suites and evaluations as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ciranda.evals import library, scorers
from ciranda.evals import suites as kept
from ciranda.evals.cases import Case
from ciranda.evals.library import SuiteVersion
from ciranda.evals.suites import evaluations
from ciranda.govern.access import Principal
from ciranda.loop import suites
from ciranda.loop.platform import Platform
from ciranda.loop.suites import Beside
from ciranda.web.views.suites import (
    PAGE,
    AnswerRow,
    Asked,
    CaseRow,
    EvaluationPage,
    Figure,
    GapRow,
    Part,
    Result,
    SuitePage,
    SuiteRow,
    SuitesPage,
)

LIMIT = 50
RECENT = 12
OTHERS = 8


def listing(platform: Platform, reach: Sequence[str], after: str) -> SuitesPage:
    """Every suite that a key sees, and the newest evaluations of its models."""
    held, judged = suites.reached(platform, reach), suites.uses(platform)
    with platform.db.reading() as conn:
        found = library.listing(conn, after=after, limit=LIMIT + 1)
    shown = tuple(row_of(one, judged, reach) for one in found[:LIMIT] if held is None or one.suite in held)
    newest = suites.page(platform, None if "*" in reach else reach, limit=RECENT)
    return SuitesPage(shown, tuple(map(result_of, newest)), found[LIMIT - 1].suite if len(found) > LIMIT else "")


def row_of(version: SuiteVersion, judged: Mapping[str, set[str]], reach: Sequence[str]) -> SuiteRow:
    models = sorted(name for name in judged.get(version.suite, ()) if "*" in reach or name in reach)
    return SuiteRow(
        version.suite, version.number, version.digest, version.cases, version.slices, version.origin, version.note,
        version.redacted, version.created_at, version.created_by, tuple(models),
    )  # fmt: skip


def result_of(row: Mapping[Any, Any]) -> Result:
    figures = tuple(figure(name, one) for name, one in row["metrics"].items())
    return Result(
        row["id"], row["model"], row["version"], row["suite"], row["n"], row["errors"], figures, row["created_at"]
    )


def figure(metric: str, one: Mapping[str, Any]) -> Figure:
    return Figure(metric, one["mean"], one["low"], one["high"], int(one["n"]), scorers.bounded(metric))


def single(platform: Platform, name: str, number: int, page: int, who: Principal) -> SuitePage:
    """One version of a suite, the newest without a number. Raises NotFound, Forbidden."""
    suites.demand(platform, name, who)
    with platform.db.reading() as conn:
        version = library.find(conn, f"{name}@{number}" if number else name)
        line = library.line(conn, name)
    judged, found = suites.uses(platform), suites.cases(platform, version, who)
    shown = found[(page - 1) * PAGE : page * PAGE]
    results = suites.page(platform, None if "*" in who.models else who.models, suite=name, limit=RECENT)
    return SuitePage(
        row_of(version, judged, who.models), tuple(row_of(one, judged, who.models) for one in line),
        tuple(map(_case, shown)), page, tuple(map(result_of, results)), suites.hidden(platform, version.origin, who),
    )  # fmt: skip


def _case(case: Case) -> CaseRow:
    said = {
        "choices": ", ".join(case.choices), "schema": "…" if case.schema else "", "tools": str(len(case.tools) or ""),
        "calls": ", ".join(call.name for call in case.calls or ()), "pair": case.pair[:8],
    }  # fmt: skip
    expects = tuple(f"{name}: {value}" for name, value in said.items() if value)
    return CaseRow(case.id, case.prompt, case.reference, case.slices, expects)


def evaluation(platform: Platform, identifier: str, asked: Asked, who: Principal) -> EvaluationPage:
    """One evaluation beside another: the one asked for, else of the version before on the same cases. Raises NotFound."""
    with platform.db.reading() as conn:
        row = kept.get(conn, identifier)
    if not asked.against:
        asked = replace(asked, against=suites.champion(platform, row))
    told = suites.told(
        platform, identifier, who, against=asked.against, metric=asked.metric, part=asked.slice, differing=asked.differing
    )  # fmt: skip
    start = (asked.page - 1) * PAGE
    return EvaluationPage(
        result_of(row), result_of(told.other) if told.other else None, _others(platform, row),
        replace(asked, metric=told.metric), _parts(row, told.other),
        tuple(GapRow(g.swap, g.metric, g.pairs, g.mean, g.low, g.high, g.finding) for g in told.gaps),
        tuple(_answer(one, told.metric) for one in told.answers[start : start + PAGE]), len(told.answers), told.hidden,
        scorers.bounded(told.metric), tuple(row["slices"]),
    )  # fmt: skip


def _others(platform: Platform, row: Mapping[str, Any]) -> tuple[Result, ...]:
    """Evaluations of other versions of the model on the same cases, newest first."""
    table = evaluations
    mine = (table.c.model == row["model"]) & (table.c.suite_digest == row["suite_digest"]) & (table.c.id != row["id"])
    query = sa.select(table).where(mine).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(OTHERS)
    with platform.db.reading() as conn:
        return tuple(result_of(one._mapping) for one in conn.execute(query))


def _parts(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """Every metric over all cases, then by slice; a slice of everything says nothing new."""
    found = []
    for metric, whole in row["metrics"].items():
        found.append(Part("", figure(metric, whole), _mean(other["metrics"] if other else {}, metric)))
        for name, values in row["slices"].items():
            if metric in values and values[metric]["n"] != whole["n"]:
                beside = (other["slices"] if other else {}).get(name, {})
                found.append(Part(name, figure(metric, values[metric]), _mean(beside, metric)))
    return tuple(found)


def _mean(values: Mapping[str, Any], metric: str) -> float | None:
    return values[metric]["mean"] if metric in values else None


def _answer(beside: Beside, metric: str) -> AnswerRow:
    one, other = beside.answer, beside.other
    calls = "; ".join(f"{call.name}({call.arguments})" for call in one.tools)
    return AnswerRow(
        one.prompt, one.reference, one.answer or calls, one.error, one.scores.get(metric),
        (other.error or other.answer) if other else None, other.scores.get(metric) if other else None, beside.gain, one.slices,
    )  # fmt: skip
