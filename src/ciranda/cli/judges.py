"""`judges` and `compare`: models that judge answers, what they are worth, and two versions side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ciranda.cli.client import part, rebuilt
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Failed, Invalid, NotFound

Told = Mapping[str, Any]
EVERY_S = 0.3

judges = Noun(
    "judges",
    examples=["ciranda judges", "ciranda judges calibrate helpful --queue smart-home"],
    help="Models that judge answers, held against what people say.",
)


@verb("list", of=judges, examples=["ciranda judges list"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Judges, and for which model each is believed."""
    told = desk.control.get("/judges", **asked)
    rows = [(one["name"], one["model"], one["url"] or "our gateway", f"1 to {one['scale']}", _believed(one["worth"]))
            for one in told["items"]]  # fmt: skip
    columns = ("judge", "model", "asked at", "scale", "believed for")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no judge yet: `ciranda judges create`"))


def _believed(worth: list[Told]) -> str:
    return ", ".join(f"{one['model']} ({one['kind']})" for one in worth if one["believed"]) or "nothing yet"


@verb(
    "create",
    of=judges,
    examples=[
        'ciranda judges create helpful --model smart-home --criteria "It does what was asked, and nothing else."',
        "ciranda judges create helpful --model big-model --at https://models.example.com/v1 --key-from env:MODELS_KEY "
        "--criteria @helpful.md",
    ],
)
@click.argument("name")
@click.option("--model", required=True, help="A model of ours; with --at its name there.")
@click.option("--criteria", required=True, help="What makes an answer good; @file reads a file.")
@click.option("--at", "url", default="", metavar="URL", help="An OpenAI-compatible address; else our own gateway.")
@click.option("--key-from", "key", default="", metavar="REFERENCE", help="Where its key lies: env:NAME or file:/path.")
@click.option("--scale", default=5, show_default=True, type=click.IntRange(2, 100), help="Grades go from 1 to this.")
@click.option("--mask/--no-mask", default=True, show_default=True, help="Mask personal data before it is sent.")
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1, 8192), help="Bound of an opinion.")
def create(desk: Desk, criteria: str, **asked: Any) -> None:
    """Register a judge, or another one under its name: what was calibrated before does not hold for that."""
    told = desk.control.post("/judges", {**asked, "criteria": _read(criteria)})
    desk.show(told, lambda: desk.screen.line(f"{told['name']}: {told['digest'][:19]}"))
    desk.tell(f"hold it against people: `ciranda judges calibrate {told['name']} --queue QUEUE`")


def _read(criteria: str) -> str:
    if not criteria.startswith("@"):
        return criteria
    try:
        return Path(criteria[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"no readable file: {error}", where="--criteria", remedy="write @ and a file, or the words"
        ) from None


@verb("show", of=judges, examples=["ciranda judges show helpful"])
@click.argument("judge")
def show(desk: Desk, judge: str) -> None:
    """A judge: criteria, what it is worth and why, what it said."""
    told = desk.control.get(f"/judges/{part(judge)}")
    desk.show(told, lambda: _drawn(desk, told))


def _drawn(desk: Desk, told: Told) -> None:
    names = ("name", "model", "url", "scale", "criteria", "digest")
    desk.screen.facts((name, told[name]) for name in names)
    rows = [
        (one["model"], one["kind"], one.get("labels"), one["figures"].get("rise"), one["figures"].get("agreement"),
         (one.get("valid_until") or "")[:10], one["refusal"] or "believed")
        for one in told["worth"]
    ]  # fmt: skip
    columns = ("of", "kind", "labels", "rise", "agreement", "until", "worth")
    desk.screen.table(columns, rows, empty="never held against people: no gate believes it")
    if told["live"]:
        live = [(one["model"], one["hour"], one["day"]) for one in told["live"]]
        desk.screen.table(("live answers of", "last hour", "last day"), live, empty="")
    said = [
        (one["version"], one["against"], one["suite"], one["n"], one["silent"], one["mean"])
        for one in told["judgements"]
    ]
    desk.screen.table(
        ("judged", "against", "suite", "answers", "no opinion", "mean as it stands"), said, empty="judged nothing yet"
    )


@verb(
    "calibrate",
    of=judges,
    examples=[
        "ciranda judges calibrate helpful --queue smart-home",
        "ciranda judges calibrate helpful --queue smart-home --kind preferred --all",
    ],
)
@click.argument("judge")
@click.option("--queue", default="", help="A review queue with labels.")
@click.option("--suite", default="", help="Or a registered suite whose cases carry labels.")
@click.option("--model", default="", help="Whose answers they are; else the queue's model.")
@click.option(
    "--kind",
    default="judge",
    show_default=True,
    type=click.Choice(["judge", "preferred"]),
    help="Grades or preferences.",
)
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(0.01, 365), help="How long it holds.")
@click.option("--all", "all_", is_flag=True, help="Also items that were chosen for being doubtful.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def calibrate(desk: Desk, judge: str, all_: bool, wait: bool, **asked: Any) -> None:
    """Show a judge answers that people labelled, and keep how its word relates to theirs."""
    begun = desk.control.post(f"/judges/{part(judge)}/calibrate", {**asked, "all": all_})
    if not wait:
        desk.show(begun, lambda: desk.screen.line(f"job {begun['job']}"))
        return
    with desk.screen.waiting(f"calibrating {judge}"):
        _ended(desk, begun["job"])
    told = desk.control.get(f"/judges/{part(judge)}")
    desk.show(told, lambda: _drawn(desk, told))


def _ended(desk: Desk, job: str) -> None:
    while True:
        told = desk.patiently(lambda: desk.control.get(f"/judges/jobs/{part(job)}"))
        if told["recorded"]:
            return
        if told["state"] == "failed":
            raise rebuilt(told["error"], 0) if told["error"] else Failed(
                told["reason"], where=f"job {job}", remedy="read its log.txt below home/jobs, then calibrate again"
            )  # fmt: skip
        time.sleep(EVERY_S)


@verb(
    "compare",
    examples=["ciranda compare smart-home@3 smart-home@2", "ciranda compare smart-home@3 smart-home@2 --margin 0.02"],
)
@click.argument("candidate")
@click.argument("live")
@click.option(
    "--margin", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="How much worse is not worse."
)
def compare(desk: Desk, candidate: str, live: str, margin: float) -> None:
    """Two versions of a model on the same cases: gains with intervals, effect sizes, slices, and what could have been found."""
    (model, _, number), (other, _, second) = candidate.rpartition("@"), live.rpartition("@")
    if not model or model != other:
        raise Invalid(f"{candidate!r} and {live!r} are no two versions of one model", where="compare",
                      remedy="write them as smart-home@3 smart-home@2")  # fmt: skip
    told = desk.control.get(f"/versions/{part(model)}@{part(number)}/against/{part(second)}", margin=margin)
    desk.show(told, lambda: _suites(desk, told["suites"]))


def _suites(desk: Desk, found: list[Told]) -> None:
    for one in found:
        comparisons(desk, one["metrics"], one["suite"])


def comparisons(desk: Desk, metrics: list[Told], title: str) -> None:
    """Comparisons of several metrics with their slices, as a table."""
    rows = []
    for one in metrics:
        parts = {"": one, **one["slices"]}
        rows += [_row(name, part) for name, part in parts.items()]
    columns = (
        "metric",
        "slice",
        "n",
        "candidate",
        "live",
        "gain",
        "95 % interval",
        "p",
        "effect",
        "could find",
        "verdict",
    )
    desk.screen.table(columns, rows, title=title)


def _row(slice_: str, one: Told) -> tuple[Any, ...]:
    return (
        one["metric"] if not slice_ else "", slice_, one["n"], one["mean_a"], one["mean_b"], f"{one['difference']:+.3f}",
        f"{one['low']:+.3f} to {one['high']:+.3f}", f"{one['adjusted_p']:.3f}", one["effect"]["size"],
        f"{one['detectable']:.3f}", one["verdict"].replace("_", " "),
    )  # fmt: skip
