"""`train`, `evaluate`: making a better version. `train` starts one whole run of the loop; `--follow` watches it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.files import expected
from ciranda.cli.suites import gap_row
from ciranda.cli.verb import Desk, verb
from ciranda.cli.watch import turn as draw_turn
from ciranda.errors import Failed, Invalid, Refused
from ciranda.store import ids

EVERY_S = 0.5
TELL_S = 10.0
LONGEST = 160
OVER = ("promoted", "rolled_back", "refused", "failed", "unchanged", "cancelled", "awaiting_approval")
Told = Mapping[str, Any]


@verb(
    "train",
    examples=[
        "ciranda train smart-home",
        "ciranda train smart-home --estimate",
        "ciranda train smart-home --follow",
        "ciranda train smart-home --event nightly-2026-11-23",
    ],
)
@click.argument("model")
@click.option("--follow", is_flag=True, help="Show steps and loss until the turn ends; the exit code tells how.")
@click.option("--event", default="", help="Its identity: the same event again is the same turn.")
@click.option("--estimate", is_flag=True, help="Only say what it would take: time, memory, money.")
def train(desk: Desk, model: str, follow: bool, event: str, estimate: bool) -> None:
    """Start one run of the loop: data, search, evaluation, gates, release. It goes on without this command."""
    if estimate:
        found = desk.control.get(f"/models/{part(model)}/estimate")
        desk.show(found, lambda: desk.screen.line(expected(found)))
        return
    told = desk.control.post(f"/models/{part(model)}/turns", {"event": event or ids.new("ask")})
    identifier = told["turn"]
    desk.tell(f"expected: {expected(told['estimate'])}")
    if not follow:
        desk.show(told, lambda: desk.screen.line(identifier))
        desk.tell(
            f"watch it with `ciranda train {model} --follow --event {identifier.partition(':')[2].partition(':')[2]}`"
        )
        return
    ended = _follow(desk, model, identifier)
    desk.show(ended, lambda: draw_turn(desk.screen, ended))
    _verdict(ended)


def _follow(desk: Desk, model: str, identifier: str) -> Told:
    """Tell each new step, and now and then how it goes, until nothing goes on by itself. A terminal shows it all the time."""
    seen, told_at = "", 0.0
    with desk.screen.waiting(f"turn of {model}") as sign:
        while True:
            turn: Told = desk.patiently(lambda: desk.control.get(f"/turns/{part(identifier)}"))
            where = f"{turn['state']} {turn['step']}".strip()
            line = f"{where}: {_summary(turn)}"[:LONGEST].rstrip(": ")
            if where != seen or turn["state"] in OVER or (sign is None and time.monotonic() > told_at + TELL_S):
                desk.tell(line)
                seen, told_at = where, time.monotonic()
            if turn["state"] in OVER:
                return turn
            if sign is not None:
                sign.update(f"{line} {desk.patiently(lambda: _loss(desk, model))}")
            time.sleep(EVERY_S)


def _summary(turn: Told) -> str:
    return str(turn["steps"][-1]["summary"]) if turn["steps"] else ""


def _loss(desk: Desk, model: str) -> str:
    """How the trial that runs is doing."""
    found = desk.control.get("/runs", model=model, limit=1)["items"]
    running = [trial for search in found for trial in search["trials"] if trial["state"] == "running"]
    best = [trial["objective"] for search in found for trial in search["trials"] if trial["objective"] is not None]
    parts = [f"trial {trial['number']}" for trial in running[:1]]
    return ", ".join(parts + ([f"best so far {max(best):.3f}"] if best else []))


def _verdict(turn: Told) -> None:
    """The exit code of a turn that ended badly."""
    said = _summary(turn) or turn["state"]
    if turn["state"] in ("refused", "rolled_back"):
        raise Refused(said, where=turn["id"], remedy="look at the gates: `ciranda status`, or the model's page")
    if turn["state"] == "failed":
        raise Failed(
            said, where=turn["id"], remedy="read home/logs/control.log and the job's log.txt, then train again"
        )


@verb(
    "evaluate",
    examples=[
        "ciranda evaluate smart-home@2",
        "ciranda evaluate smart-home@2 --suite routing@2 --suite test --scorer similarity --scorer latency_ms",
        "ciranda evaluate smart-home@2 --json",
    ],
)
@click.argument("version")
@click.option("--suite", "suites", multiple=True, help="`test` or a registered suite; without any, those of the gates.")
@click.option("--scorer", "scorers", multiple=True, help="A scorer beside those of the gates; may be repeated.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until the figures are there.")
def evaluate(desk: Desk, version: str, suites: tuple[str, ...], scorers: tuple[str, ...], wait: bool) -> None:
    """Evaluate a version on its model's suites (or on others), and show metrics with their intervals."""
    model = version.rpartition("@")[0]
    if not model:
        raise Invalid(
            f"{version!r} is no version",
            where="evaluate VERSION",
            remedy="write it as model@number, such as smart-home@2",
        )
    asked = {"version": version, "suites": list(suites), "scorers": list(scorers)}
    told = desk.control.post(f"/models/{part(model)}/evaluate", asked)
    if wait:
        with desk.screen.waiting(f"evaluating {version}"):
            told = {"items": _evaluated(desk, version, told["job"])}
    desk.show(told, lambda: _all(desk, told["items"]) if wait else desk.screen.line(f"job {told['job']}"))


def _evaluated(desk: Desk, version: str, job: str) -> list[Told]:
    """The evaluations that came of an exam, once it ended and was recorded."""
    while True:
        found = desk.patiently(lambda: desk.control.get(f"/versions/{part(version)}"))
        state = next(exam for exam in found["exams"] if exam["job"] == job)
        if state["state"] == "failed":
            raise Failed(
                state["reason"], where=f"job {job}", remedy="read its log.txt below home/jobs, then evaluate again"
            )
        if state["evaluations"]:
            return [_with_bias(desk, one) for one in found["evaluations"] if one["id"] in state["evaluations"]]
        time.sleep(EVERY_S)


def _with_bias(desk: Desk, told: Told) -> Told:
    """An evaluation with what its counterfactual pairs say."""
    if not any(part.startswith("swap=") for part in told["slices"]):
        return told
    return {**told, "bias": desk.control.get(f"/evaluations/{part(told['id'])}/answers", limit=1)["bias"]}


def _all(desk: Desk, evaluations: list[Told]) -> None:
    for one in evaluations:
        _figures(desk, one)


def _figures(desk: Desk, told: Told) -> None:
    desk.screen.facts(
        [("evaluation", told["id"]), ("version", told["version"]), ("suite", told["suite"]), ("cases", told["n"]),
         ("without an answer", told["errors"] or None)]
    )  # fmt: skip
    parts = {"": told["metrics"], **told["slices"]}
    rows = [_figure(label, name, value) for label, metrics in parts.items() for name, value in metrics.items()]
    desk.screen.table(("slice", "metric", "mean", "95 % interval", "cases"), rows)
    if told.get("bias"):
        desk.screen.table(
            ("swap", "metric", "pairs", "gap", "95 % interval", "finding"), list(map(gap_row, told["bias"]))
        )


def _figure(label: str, name: str, value: Mapping[str, Any]) -> tuple[Any, ...]:
    return label, name, f"{value['mean']:.3f}", f"{value['low']:.3f} to {value['high']:.3f}", value["n"]
