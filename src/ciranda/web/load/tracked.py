"""Runs of MLflow's clients, as the pages show them: those of the tenant of whoever looks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.loop.platform import Platform
from ciranda.store import clock
from ciranda.train import logged, tracking
from ciranda.train.tracking import Point, Run
from ciranda.web.views.tracked import TrackedCurve, TrackedFile, TrackedModel, TrackedRow, TrackedRun, TrackedRuns

LIMIT = 30
CURVES, POINTS, FILES = 24, 400, 200
HISTORY = 25_000  # points of a metric that are read
STATES = {
    "RUNNING": "running",
    "SCHEDULED": "waiting",
    "FINISHED": "complete",
    "FAILED": "failed",
    "KILLED": "cancelled",
}


def listing(platform: Platform, tenant: str, *, experiment: int | None, before: str) -> TrackedRuns:
    """One page of runs, newest first.

    Args:
        experiment: Only of this one; None is all of the tenant's.
        before: `started_ms id` of the last one seen.
    """
    with platform.db.reading() as conn:
        every = [one for one in tracking.experiments(conn, tenant) if one["lifecycle"] == tracking.ACTIVE]
        numbers = [int(one["number"]) for one in every]
        chosen = experiment if experiment is not None and experiment in numbers else -1
        wanted = numbers if chosen < 0 else [chosen]
        found = list(islice(_seen(conn, tenant, wanted, _place(before)), LIMIT + 1))
    last = found[LIMIT - 1] if len(found) > LIMIT else None
    return TrackedRuns(
        tuple(_row(one) for one in found[:LIMIT]), tuple((one["number"], one["name"]) for one in every),
        chosen, f"{last.started_ms} {last.id}" if last else "", not before,
    )  # fmt: skip


def _place(before: str) -> tuple[int, str] | None:
    at, _, identifier = before.partition(" ")
    return (int(at), identifier) if at.isdecimal() and len(at) < 19 else None


def _seen(conn: sa.Connection, tenant: str, numbers: Sequence[int], after: tuple[int, str] | None) -> Iterator[Run]:
    while piece := tracking.page(conn, tenant, numbers, after=after, limit=LIMIT + 1):
        yield from (one for one in piece if one.lifecycle == tracking.ACTIVE)
        after = (piece[-1].started_ms, piece[-1].id)


def _row(run: Run) -> TrackedRow:
    seconds = (run.ended_ms - run.started_ms) / 1000 if run.ended_ms else None
    newest = {name: value for name, held in run.metrics.items() if math.isfinite(value := float(held[0]))}
    at = clock.iso(clock.of_ms(min(max(run.started_ms, 0), 4_102_444_800_000)))
    return TrackedRow(run.id, run.name, run.experiment, run.user, STATES[run.status], at, seconds, newest)


def run(platform: Platform, tenant: str, identifier: str) -> TrackedRun:
    """One run with its curves, files and models. Raises NotFound."""
    with platform.db.reading() as conn:
        held = tracking.run(conn, tenant, identifier)
        named = tracking.experiment(conn, tenant, held.experiment)["name"]
        names = sorted(held.metrics)
        curves = [_curve(name, tracking.history(conn, held.id, name, limit=HISTORY)) for name in names[:CURVES]]
        models = [TrackedModel(one.id, one.name, one.kind, one.status) for one in logged.of_run(conn, held.id)]
    files = list(islice(_files(platform.home.tracked / held.id, ""), FILES + 1))
    more = (max(0, len(names) - CURVES), max(0, len(files) - FILES))
    return TrackedRun(
        _row(held), named, held.params, held.tags, tuple(curves), tuple(files[:FILES]), tuple(models), more
    )  # fmt: skip


def _curve(name: str, points: Sequence[Point]) -> TrackedCurve:
    """Over steps; over the order of logging where every step is the same."""
    ordered = sorted(points, key=lambda one: (one.step, one.at_ms))
    stepped = len({one.step for one in ordered}) > 1
    drawn: list[tuple[float, float | None]] = [
        (one.step if stepped else n, one.value if math.isfinite(one.value) else None) for n, one in enumerate(ordered)
    ]
    every = max(1, math.ceil(len(drawn) / POINTS))
    thin = [*drawn[:-1:every], *drawn[-1:]]
    return TrackedCurve(name, drawn[-1][1] if drawn else None, tuple(thin))


def _files(folder: Path, before: str) -> Iterator[TrackedFile]:
    """Files below a folder, by name; those that went meanwhile are none."""
    try:
        found: list[Any] = sorted(os.scandir(folder), key=lambda one: one.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for one in found:
        if one.is_dir(follow_symlinks=False):
            yield from _files(Path(one.path), f"{before}{one.name}/")
        elif one.is_file(follow_symlinks=False):
            yield TrackedFile(before + one.name, one.stat(follow_symlinks=False).st_size)
