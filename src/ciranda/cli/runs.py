"""`runs`: training runs. Their list, one whole, several beside each other, the log, and an end to one that goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago, lasting, spark
from ciranda.cli.verb import Desk, Noun, verb

EVERY_S = 1.0
SPARKS = 40
DIGEST = 12
Told = Mapping[str, Any]

runs = Noun(
    "runs",
    examples=["ciranda runs", "ciranda runs show f3a2.0", "ciranda runs compare f3a2.0 f3a2.1"],
    help="Training runs: what they did, beside each other, and an end to one.",
)


@verb("list", of=runs, examples=["ciranda runs list", "ciranda runs list --model smart-home --state running"])
@click.option("--model", default="", help="Only of this model.")
@click.option(
    "--state",
    default="",
    type=click.Choice(["", "waiting", "running", "complete", "failed", "pruned", "cancelled"]),
    help="Only in this state.",
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many searches back.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, model: str, state: str, limit: int, cursor: str) -> None:
    """Training runs, newest search first."""
    told = desk.control.get("/runs", model=model, limit=limit, cursor=cursor)
    found = [
        {**trial, "model": search["model"], "dataset": search["dataset"]}
        for search in told["items"]
        for trial in search["trials"]
        if state in ("", trial["state"])
    ]
    rows = [
        (one["id"], one["model"], one["dataset"], one["state"], _percent(one["objective"]), one["loss"],
         _lasting(one["seconds"]), ago(one["started_at"]))
        for one in found
    ]  # fmt: skip
    titles = ("run", "model", "dataset", "state", "exact", "loss", "took", "age")
    desk.show(
        {"items": found, "next": told["next"]}, lambda: desk.screen.table(titles, rows, empty="no run of this kind")
    )


@verb("show", of=runs, examples=["ciranda runs show search:smart-home:ask_0199….0", "ciranda runs show f3a2.0 --json"])
@click.argument("run")
def show(desk: Desk, run: str) -> None:
    """One run: its curve, what it took, what it is made of, what it answers. The end of its name is enough."""
    told = desk.control.get(f"/runs/{part(run)}")
    desk.show(told, lambda: _draw(desk, told))


def _draw(desk: Desk, told: Told) -> None:
    heard, made = told["telemetry"], told["made_of"]
    curve = heard["curve"]
    last = curve[-1] if curve else None
    desk.screen.facts(
        [
            ("run", told["id"]), ("model", told["model"]), ("dataset", told["dataset"]), ("state", told["state"]),
            ("reason", told["reason"]), ("exact match", _percent(told["objective"])),
            ("step", f"{last['step']} of {heard['steps']}" if last else heard["phase"]),
            ("loss", f"{last['loss']:.4f}  {spark(_losses(curve))}" if last else None),
            ("tokens per second", round(last["tokens_per_s"]) if last and last["tokens_per_s"] else None),
            ("took", _lasting(told["seconds"])), ("memory", _bytes(_peak(told))),
            ("went on at step", heard["resumed"] or None), ("code", str(made.get("code", ""))[:DIGEST]),
            ("rows", str(made.get("rows", ""))[:DIGEST]), ("base", str(made.get("base", ""))[: 7 + DIGEST]),
            ("seed", made.get("seed")),
            ("recipe", ", ".join(f"{name} {value}" for name, value in told["recipe"].items())),
            ("environment", ", ".join(f"{name} {value}" for name, value in (made.get("environment") or {}).items())),
        ]
    )  # fmt: skip
    answers = [(one["step"], one["prompt"][:40], one["reference"][:50], one["answer"][:50]) for one in heard["samples"]]
    if answers:
        desk.screen.table(("step", "asked", "right is", "answered"), answers)


@verb("compare", of=runs, examples=["ciranda runs compare f3a2.0 f3a2.1", "ciranda runs compare f3a2.0 77c1.0 --json"])
@click.argument("names", nargs=-1, required=True, metavar="RUN RUN...")
def compare(desk: Desk, names: tuple[str, ...]) -> None:
    """Runs beside each other: where their recipes differ, what they scored, what they answered."""
    told = desk.control.get("/runs/compare", runs=",".join(names))
    desk.show(told, lambda: _beside(desk, told))


def _beside(desk: Desk, told: Told) -> None:
    found = told["runs"]
    columns = ("", *(one["id"] for one in found))
    rows: list[tuple[Any, ...]] = [
        ("state", *(one["state"] for one in found)),
        ("exact match", *(_percent(one["objective"]) for one in found)),
        ("loss", *(one["loss"] for one in found)),
        ("took", *(_lasting(one["figures"].get("seconds")) for one in found)),
        ("memory", *(_bytes(one["figures"].get("peak_rss_bytes", 0)) for one in found)),
    ]
    for name, values in told["recipe"]["differs"].items():
        rows.append((name, *(values[one["id"]] for one in found)))
    rows.append(("else than the first", *(told["made_of"][one["id"]] or None for one in found)))
    desk.screen.table(columns, rows)
    asked = [
        (row["prompt"][:40], *((row["answers"].get(one["id"]) or {}).get("answer", "-")[:40] for one in found))
        for row in told["samples"]
    ]
    if asked:
        desk.screen.table(("asked", *columns[1:]), asked)


@verb("cancel", of=runs, examples=["ciranda runs cancel f3a2.1"])
@click.argument("run")
def cancel(desk: Desk, run: str) -> None:
    """End a run for good and free its processes, its memory and its disk. Its search goes on with the others."""
    told = desk.control.post(f"/runs/{part(run)}/cancel")
    desk.show(told, lambda: desk.screen.line(f"{told['run']} is {told['state']}"))


@verb("logs", of=runs, examples=["ciranda runs logs f3a2.0", "ciranda runs logs f3a2.0 --follow"])
@click.argument("run")
@click.option("--follow", "-f", is_flag=True, help="Stay until the run ends.")
def logs(desk: Desk, run: str, follow: bool) -> None:
    """What a run wrote."""
    offset = 0
    while True:
        told = desk.patiently(partial(desk.control.get, f"/runs/{part(run)}/logs", offset=offset))
        if desk.json:
            desk.show(told, lambda: None)
        elif told["text"]:
            click.echo(_safe(told["text"]), nl=False)
        ended = told["state"] not in ("waiting", "running")
        if told["next"] == offset and (ended or not follow):
            return
        if told["next"] == offset:
            time.sleep(EVERY_S)
        offset = told["next"]


def _safe(text: str) -> str:
    """A log for a terminal: lines stay, escape sequences do not."""
    return "".join(one if one.isprintable() or one in "\n\t" else " " for one in text)


def _losses(curve: list[Told]) -> list[float]:
    pace = max(1, len(curve) // SPARKS)
    return [one["loss"] for one in curve[::pace]]


def _peak(told: Told) -> int:
    held = max((one["rss_bytes"] for one in told["telemetry"]["system"]), default=0)
    return int(told["figures"].get("peak_rss_bytes") or held)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _lasting(seconds: float | None) -> str | None:
    return None if seconds is None else lasting(seconds)


def _bytes(count: int) -> str | None:
    return f"{count / 1e9:.2f} GB" if count else None
