"""Training: searches, their trials, one trial with its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.loop.platform import Platform
from ciranda.registry.versions import versions
from ciranda.store import clock
from ciranda.train.trials import searches, trials
from ciranda.web.views.runs import SearchRow, TrialPage, TrialRow

LIMIT = 50
LOG_TAIL = 6000
FIGURES = ("tokens_per_s", "peak_rss_bytes", "seconds")
Row = Mapping[Any, Any]


def listing(platform: Platform, reach: Sequence[str], *, model: str = "", limit: int = LIMIT) -> tuple[SearchRow, ...]:
    """Searches of the models that a key reaches, newest first, each with its trials."""
    query = sa.select(searches).order_by(searches.c.started_at.desc()).limit(limit)
    if model:
        query = query.where(searches.c.model == model)
    if "*" not in reach:
        query = query.where(searches.c.model.in_(list(reach)))
    with platform.db.reading() as conn:
        found = [row._mapping for row in conn.execute(query)]
        mine = sa.select(trials).where(trials.c.search.in_([row["id"] for row in found])).order_by(trials.c.number)
        by: dict[str, list[Row]] = {}
        for row in conn.execute(mine):
            by.setdefault(row.search, []).append(row._mapping)
    return tuple(_search(row, by.get(row["id"], [])) for row in found)


def single(platform: Platform, identifier: str) -> TrialPage:
    """One trial with everything that is known of it. Raises NotFound."""
    with platform.db.reading() as conn:
        trial = conn.execute(sa.select(trials).where(trials.c.id == identifier)).mappings().first()
        if trial is None:
            raise NotFound(f"no trial {identifier!r}", where="trials", remedy="the experiments page lists them")
        search = conn.execute(sa.select(searches).where(searches.c.id == trial["search"])).mappings().one()
        others = (
            conn.execute(sa.select(trials).where(trials.c.search == search["id"]).order_by(trials.c.number))
            .mappings()
            .all()
        )
        version = conn.execute(
            sa.select(versions.c.model, versions.c.number).where(versions.c.trial == identifier)
        ).first()
    whole = _search(search, others)
    row = next(one for one in whole.trials if one.id == identifier)
    about = trial["figures"] or {}
    validation = {
        name: float(value) for name, value in about.get("validation", {}).items() if isinstance(value, (int, float))
    }
    figures = {name: float(about[name]) for name in FIGURES if isinstance(about.get(name), (int, float))}
    environment = {str(name): str(value) for name, value in about.get("environment", {}).items()}
    became = f"{version.model}@{version.number}" if version else ""
    return TrialPage(row, whole, trial["recipe"], validation, figures, environment, became, _log(platform, trial))


def _search(row: Row, found: Sequence[Row]) -> SearchRow:
    varying = _varying([one["recipe"] for one in found])
    shown = tuple(_trial(one, varying, best=row["best"]) for one in found)
    ended = row["ended_at"] or clock.iso()
    seconds = (clock.parse(ended) - clock.parse(row["started_at"])).total_seconds()
    return SearchRow(
        row["id"],
        row["model"],
        row["dataset"],
        row["state"],
        row["objective"],
        row["started_at"],
        shown,
        row["turn"],
        seconds,
    )


def _varying(recipes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The settings in which the trials differ."""
    names = dict.fromkeys(name for recipe in recipes for name in recipe)
    return tuple(name for name in names if len({str(recipe.get(name)) for recipe in recipes}) > 1)


def _trial(row: Row, varying: Sequence[str], *, best: int | None) -> TrialRow:
    varied = {name: _short(row["recipe"].get(name)) for name in varying}
    curve = tuple((int(step), float(loss)) for step, loss in row["loss_curve"])
    return TrialRow(
        row["id"], row["number"], row["state"], row["objective"], row["seconds"], varied, row["number"] == best, curve
    )


def _short(value: object) -> object:
    return f"{value:.3g}" if isinstance(value, float) else value


def _log(platform: Platform, trial: Row) -> str:
    """The end of the job's log; of a trial that ended badly, the reason first."""
    size = platform.jobs.root / trial["job"] / "log.txt"
    try:
        offset = max(0, size.stat().st_size - LOG_TAIL)
    except OSError:
        return str(trial["reason"])
    text = platform.jobs.logs(trial["job"], offset)[0].decode("utf-8", "replace")
    return "\n".join(part for part in (trial["reason"], text[-LOG_TAIL:].strip()) if part)
