"""Training: searches, their trials, one trial with its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.govern import access
from ciranda.govern.access import Principal
from ciranda.loop import estimates
from ciranda.loop import runs as running
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.registry.versions import versions
from ciranda.store import clock
from ciranda.train import reproductions
from ciranda.train import trials as training
from ciranda.train.trials import Trial, searches, trials
from ciranda.web.views.runs import Again, RunColumn, RunsBeside, SearchRow, TrialPage, TrialRow

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


def single(platform: Platform, identifier: str, who: Principal) -> TrialPage:
    """One trial with everything that is known of it, for whoever asks. Raises NotFound."""
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
    run = training.find(platform.db, identifier)
    heard = running.told(platform, run)
    made = running.made_of(run, heard)
    seen = running.sees(platform, who, str(search["dataset"]))
    return TrialPage(
        row, whole, trial["recipe"], validation, figures, made.get("environment") or environment, became, _log(platform, trial),
        heard if seen else heard.without_words(), made, str(trial["reason"]), bool(heard.samples) and not seen,
        _again(platform, became),
    )  # fmt: skip


def _again(platform: Platform, version: str) -> tuple[Again, ...]:
    """The times that a version was trained again, newest first."""
    if not version:
        return ()
    with platform.db.reading() as conn:
        found = reproductions.of(conn, version, limit=5)
    return tuple(
        Again(
            one.id, one.state, one.asked_at, one.asked_by, bool(one.verdict.get("equal")),
            str(one.verdict.get("summary") or one.reason), tuple(one.verdict.get("differences") or ()),
            one.verdict.get("relative"), _scores(one.verdict),
        )
        for one in found
    )  # fmt: skip


def _scores(verdict: Row) -> tuple[tuple[str, float, float], ...]:
    told = verdict.get("scores") or {}
    return tuple((name, was, now) for name, (was, now) in told.items() if was is not None and now is not None)


def beside(platform: Platform, identifiers: Sequence[str], who: Principal) -> RunsBeside:
    """Runs beside each other. Raises Invalid unless there are two to six, Forbidden for one of a model out of reach."""
    runs = running.chosen(platform, identifiers)
    held = [training.get(platform.db, run.search) for run in runs]
    for search in held:
        access.require(who, "view", str(search["model"]))
    told = running.compare(platform, runs)
    names = [run.id for run in runs]
    rows = {run.id: listing_row(platform, run) for run in runs}
    seen = all(running.sees(platform, who, str(search["dataset"])) for search in held)
    columns = tuple(
        RunColumn(rows[one["id"]], one["model"], one["loss"], one["figures"], tuple(told["made_of"][one["id"]]))
        for one in told["runs"]
    )  # fmt: skip
    differs = {key: tuple(values[name] for name in names) for key, values in told["recipe"]["differs"].items()}
    answers = tuple(
        (one["prompt"], one["reference"], tuple(_answer(one["answers"].get(name)) for name in names)) for one in told["samples"]
    )  # fmt: skip
    return RunsBeside(columns, differs, told["recipe"]["same"], answers if seen else ())


def _answer(told: Mapping[str, Any] | None) -> tuple[str | None, bool]:
    return (told["answer"], told["right"]) if told else (None, False)


def listing_row(platform: Platform, run: Trial) -> TrialRow:
    """One run as lists show it."""
    curve = tuple((one.step, one.loss) for one in running.told(platform, run).curve) or run.loss_curve
    return TrialRow(run.id, run.number, run.state, run.objective, run.seconds, {}, False, curve)


def expected(platform: Platform, model: str) -> dict[str, Any]:
    """What a turn of a model would take."""
    with platform.db.reading() as conn:
        spec = models.get(conn, model).spec
    return estimates.told(platform, spec)


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
    varied = {name: row["recipe"].get(name) for name in varying}
    curve = tuple((int(step), float(loss)) for step, loss in row["loss_curve"])
    return TrialRow(
        row["id"], row["number"], row["state"], row["objective"], row["seconds"], varied, row["number"] == best, curve
    )


def _log(platform: Platform, trial: Row) -> str:
    """The end of the job's log."""
    size = platform.jobs.root / trial["job"] / "log.txt"
    try:
        offset = max(0, size.stat().st_size - LOG_TAIL)
    except OSError:
        return ""
    return platform.jobs.logs(trial["job"], offset)[0].decode("utf-8", "replace")[-LOG_TAIL:].strip()
