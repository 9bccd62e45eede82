"""Searches, as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.loop import searching
from ciranda.loop.platform import Platform
from ciranda.registry.versions import versions
from ciranda.train import trials
from ciranda.train.trials import Trial, searches
from ciranda.web.views.searches import Coordinate, Experiments, Seek, StudyPage, TrialLine

LIMIT = 30
Row = Mapping[str, Any]


def listing(platform: Platform, reach: Sequence[str], *, model: str = "", before: str = "") -> Experiments:
    """One page of the searches of the models that a key reaches, newest first.

    Args:
        before: `started_at id` of the last one seen.
    """
    held = searches.c
    query = sa.select(searches).order_by(held.started_at.desc(), held.id.desc()).limit(LIMIT + 1)
    named = sa.select(held.model).distinct().order_by(held.model)
    if "*" not in reach:
        query, named = query.where(held.model.in_(list(reach))), named.where(held.model.in_(list(reach)))
    if model:
        query = query.where(held.model == model)
    if before:
        at, _, identifier = before.partition(" ")
        query = query.where(sa.tuple_(held.started_at, held.id) < sa.tuple_(at, identifier))
    with platform.db.reading() as conn:
        found = [dict(row) for row in conn.execute(query).mappings()]
        models = tuple(str(one) for one in conn.execute(named).scalars())
    rows = tuple(_seek(searching.summed(platform, row)) for row in found[:LIMIT])
    last = rows[-1] if len(found) > LIMIT else None
    return Experiments(rows, models, model, f"{last.started_at} {last.id}" if last else "", not before)


def study(platform: Platform, identifier: str) -> StudyPage:
    """One search with its trials. Raises NotFound."""
    told = searching.told(platform, identifier)
    known = {one.id: one for one in trials.of(platform.db, identifier)}
    plan = told["plan"]
    measured = bool(searching.measured(plan))  # by quality alone, none but the best is worth a mark
    space = plan.get("space", {})
    lines = tuple(
        _line(one, known[one["id"]], space, measured=measured) for one in told["trials"] if one["id"] in known
    )
    with platform.db.reading() as conn:
        made = sa.select(versions.c.model, versions.c.number).where(versions.c.trial.in_(list(known)))
        version = conn.execute(made.order_by(versions.c.number.desc())).first()
    return StudyPage(
        _seek(told), lines, tuple(_coordinate(name, what, lines) for name, what in plan.get("space", {}).items()),
        tuple(searching.measured(plan)), float(plan.get("within", 0.0)), str(plan.get("prefer") or ""), plan.get("budget_s"),
        int(told["workers"]), float(told["worker_s"]), bool(plan.get("prune", True)),
        f"{version.model}@{version.number}" if version else "",
    )  # fmt: skip


def _seek(told: Row) -> Seek:
    return Seek(
        told["id"], told["model"], told["dataset"], told["state"], told["started_at"], told["worked_s"], int(told["limit"] or 0),
        told["states"], told["reached"], told["spent"], float(told["price"] or 0.0), told["money"], told["turn"], told["asked_by"],
        told["reason"],
    )  # fmt: skip


def _line(told: Row, one: Trial, space: Mapping[str, Any], *, measured: bool) -> TrialLine:
    whole = {**told["recipe"], "base": one.base, "mix": one.mix}
    checks = tuple((100 * check.step / max(1, one.recipe.steps), check.exact_match) for check in one.checks)
    return TrialLine(
        one.id, one.number, one.state, {name: whole.get(name) for name in space}, one.objective, one.loss, dict(one.measures),
        one.loss_curve, checks, one.spent_s, one.reason, bool(told["best"]), bool(told["front"]) and measured,
    )  # fmt: skip


def _coordinate(name: str, what: Any, lines: Sequence[TrialLine]) -> Coordinate:
    """A range by its numbers; values in their own order, with whatever else a trial had (the recipe as given)."""
    if isinstance(what, Mapping):
        return Coordinate(name, log=bool(what["log"]))
    drawn = [line.settings[name] for line in lines]
    choices = list(dict.fromkeys([*what, *drawn]))
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in choices):
        choices.sort()
    return Coordinate(name, choices=tuple(choices))
