"""What the demo reads off the platform's tables to tell its story: nothing is computed here that the platform did not record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ciranda.cli.screen import Screen
from ciranda.evals import suites
from ciranda.loop import Platform, turns
from ciranda.loop.turns import Turn
from ciranda.monitor import alerts
from ciranda.monitor.alerts import Alert
from ciranda.registry import versions
from ciranda.registry.versions import Version
from ciranda.store import clock
from ciranda.train import trials as training
from ciranda.train.trials import Trial

TOTALS = ["version", "arm", "answers", "errors", "p50 ms", "p95 ms", "thumbs up", "down"]
SHOWN = 10  # cases below which a mean says nothing
COLUMNS = ["version", "stage", "suite", "slice", "metric", "mean", "95 % interval", "cases"]


class Progress:
    """A turn under way: a live bar for each trial and each exam on a terminal, a line for each step elsewhere."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._told: set[tuple[str, str]] = set()
        self._bars: Any = None
        self._rows: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        if self._screen.rich:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("   {task.description:<24}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
            )
            self._bars = Bars(*columns, console=self._screen.console).__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bars is not None:
            self._bars.__exit__(*error)

    def show(self, turn: Turn, trained: Sequence[Trial]) -> None:
        """Draw where the turn is now."""
        for trial in trained:
            done, loss = trial.loss_curve[-1] if trial.loss_curve else (0, None)
            note = f"loss {loss:.3f}" if loss is not None else "loading"
            exact = f", {trial.objective:.0%} exact" if trial.objective is not None else ""
            self._draw(f"trial {trial.number + 1}", done, trial.recipe.steps, note + exact, over=not trial.open)
        for step in turn.steps:
            self._draw(step["name"], int(step["state"] == "done"), 1, step["summary"], over=step["state"] == "done")
        if turn.state == "waiting":
            self._draw("waiting", 0, 1, turn.next_actor, over=False)

    def _draw(self, name: str, done: int, total: int, note: str, *, over: bool) -> None:
        if self._bars is None:
            if over and (name, note) not in self._told:
                self._told.add((name, note))
                self._screen.line(f"   {name}: {note}")
            return
        if name not in self._rows:
            self._rows[name] = self._bars.add_task(name, total=total, note="")
        self._bars.update(self._rows[name], completed=total if over else done, note=note[:90])


def trials(platform: Platform, turn: str) -> list[Trial]:
    """The trials of a turn's search so far."""
    return training.of(platform.db, f"search:{turn.removeprefix('turn:')}")


def gate(told: Mapping[str, Any]) -> list[str]:
    """One gate's line: rule, slice, both figures, outcome."""
    where = ", ".join(f"{name}={value}" for name, value in told["slice"].items()) or "all"
    return [
        f"{told['metric']} {told['rule']}",
        where,
        _measured(told["candidate"]),
        _measured(told["live"]),
        told["outcome"],
    ]


def _measured(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return "-"
    low, high = measure["interval"] if "interval" in measure else (measure["low"], measure["high"])
    value = measure.get("value", measure.get("mean"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def totals(platform: Platform, model: str) -> list[list[Any]]:
    """Figures of live traffic by version and arm."""
    return [
        [
            one.version,
            one.arm,
            one.requests,
            one.errors,
            round(one.latency_p50),
            round(one.latency_p95),
            one.thumbs_up,
            one.thumbs_down,
        ]
        for one in platform.interactions.totals(model=model)
    ]


def recorded(platform: Platform, model: str) -> int:
    """Answers to users that are in the store (shadow copies are not answers to anybody)."""
    found = platform.interactions.totals(model=model)
    return sum(one.requests - one.errors - one.cancelled for one in found if one.arm != "shadow")


def drift_since(platform: Platform, model: str, at: str) -> Alert | None:
    """The first drift alert after a moment."""
    with platform.db.reading() as conn:
        found = [one for one in alerts.page(conn, model=model) if one.at > at and one.kind in ("drift", "retrain")]
    return min(found, key=lambda one: one.at) if found else None


def messages_between(platform: Platform, model: str, begin: str, end: str) -> int:
    """Requests of users that began between two moments."""
    since, until = clock.parse(begin), clock.parse(end)
    return sum(_count(platform, model, arm, since, until) for arm in ("live", "canary"))


def _count(platform: Platform, model: str, arm: str, since: datetime, until: datetime) -> int:
    return platform.interactions.count(model=model, arm=arm, since=since, until=until)


def explained(alert: Alert) -> list[str]:
    """Examples of what changed, of the kind of message that grew most."""
    kinds = [*alert.body.get("languages", ()), *alert.body.get("groups", ())]
    grown = max(kinds, key=lambda one: float(one["after"]) - float(one["before"]), default=None)
    return [f"for example: {text}" for _, text in (grown["examples"] if grown else [])[:3] if text]


def turn_by_drift(platform: Platform, model: str) -> Turn | None:
    """The turn that drift started."""
    return next((one for one in turns.page(platform.db, model=model) if one.cause == "drift"), None)


def versions_by_language(platform: Platform, model: str) -> list[list[str]]:
    """Version x language x metric with intervals: each version's newest evaluation on the data's own test split."""
    rows: list[list[str]] = []
    with platform.db.reading() as conn:
        for version in sorted(versions.of(conn, model), key=lambda one: one.number):
            for evaluation in suites.of_version(conn, version.ref)[:1]:
                rows += _rows(version, evaluation)
    return rows


def _rows(version: Version, evaluation: Mapping[str, Any]) -> list[list[str]]:
    return [
        _row(version.ref, version.stage, evaluation["suite"], part, name, one)
        for part, metrics in sorted(evaluation["slices"].items())
        if part.startswith("language=")
        for name, one in sorted(metrics.items())
        if one["n"] >= SHOWN
    ]


def _row(ref: str, stage: str, suite: str, part: str, metric: str, one: Mapping[str, Any]) -> list[str]:
    interval = f"[{one['low']:.3f}, {one['high']:.3f}]"
    return [ref, stage, suite, part.removeprefix("language="), metric, f"{one['mean']:.3f}", interval, str(one["n"])]
