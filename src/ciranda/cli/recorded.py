"""`interactions`: what was asked and answered: in pages, whole, as it comes, as a file, as a dataset."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ciranda.cli.client import part
from ciranda.cli.screen import Screen, ago, text
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Invalid

EVERY_S = 1.0
BATCH = 200
SHOWN = 60
Told = Mapping[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

interactions = Noun(
    "interactions", examples=["ciranda interactions", "ciranda interactions tail"],
    help="What was asked and answered.",
)  # fmt: skip


FILTERS = (
    click.option("--model", default="", help="Only this model."),
    click.option("--version", default="", help="Only answers of this version, such as smart-home@2."),
    click.option(
        "--arm", default="", type=click.Choice(["", "live", "canary", "shadow"]), help="Only this arm of a rollout."
    ),
    click.option("--rollout", default="", help="Only this rollout."),
    click.option("--status", default="", help="`ok`, `error`, a class (4) or a status (429)."),
    click.option("--thumb", default="", type=click.Choice(["", "up", "down"]), help="Only with this newest vote."),
    click.option("--user", default="", help="Only this end user."),
    click.option("--conversation", default="", help="Only this conversation."),
    click.option("--search", default="", help='All of these words in question or answer; "in quotes" as written.'),
    click.option("--since", default="", help="A time, or how long ago: 15m, 24h, 7d."),
    click.option("--until", default="", help="A time, or how long ago."),
)


def filtered(function: Function) -> Function:
    """Which interactions: the same options for each command about several."""
    for option in reversed(FILTERS):
        function = option(function)
    return function


@verb(
    "list",
    of=interactions,
    examples=["ciranda interactions list", "ciranda interactions list --model smart-home --status error --since 1h"],
)
@filtered
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
def listing(desk: Desk, **asked: Any) -> None:
    """Interactions, newest first."""
    told = desk.control.get("/interactions", **asked)
    rows = [_row(one) for one in told["items"]]
    columns = ("id", "age", "version", "arm", "status", "ms", "vote", "question", "answer")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no interaction that fits"))
    if told["next"]:
        desk.tell(f"there may be more: the same with --cursor {told['next']}")


def _row(one: Told) -> list[Any]:
    vote = {1: "up", -1: "down"}.get(one["thumb"])
    return [
        one["id"], ago(one["at"]), one["version"] or one["model"], one["arm"], one["status"], round(one["latency_ms"]), vote,
        _cut(one["input_text"]), _cut(one["output_text"] or one["error"]),
    ]  # fmt: skip


@verb(
    "events",
    of=interactions,
    examples=[
        "ciranda interactions events",
        "ciranda interactions events --kind try_failed --model smart-home --since 1h",
    ],
)
@click.option("--model", default="", help="Only this model.")
@click.option(
    "--kind",
    default="",
    type=click.Choice(["", "try_failed", "tokens_counted", "texts_judged"]),
    help="Only of this kind.",
)
@click.option("--since", default="", help="A time, or how long ago: 15m, 24h, 7d.")
@click.option("--until", default="", help="A time, or how long ago.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
def events(desk: Desk, **asked: Any) -> None:
    """What happened beside answers, newest first: tries that failed, texts judged, tokens counted."""
    told = desk.control.get("/interactions/events", **asked)
    rows = [
        [ago(one["at"]), one["kind"], one["model"], one.get("status"), one.get("reason") or one.get("error") or "",
         one.get("replica") or one.get("key"), one.get("interaction")]
        for one in told["items"]
    ]  # fmt: skip
    columns = ("age", "kind", "model", "status", "why", "by", "interaction")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="nothing of the kind happened"))
    if told["next"]:
        desk.tell(f"there may be more: the same with --cursor {told['next']}")


def _cut(words: str) -> str:
    return words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"


@verb(
    "show",
    of=interactions,
    examples=["ciranda interactions show 0199b2c4-…", "ciranda interactions show 0199b2c4-… --json"],
)
@click.argument("interaction")
def show(desk: Desk, interaction: str) -> None:
    """One interaction with everything that is known of it."""
    told = desk.control.get(f"/interactions/{part(interaction)}")
    desk.show(told, lambda: _whole(desk.screen, told))


def _whole(screen: Screen, told: Told) -> None:
    names = (
        "id", "at", "model", "version", "arm", "rollout", "user", "conversation", "status", "error", "finish_reason", "latency_ms",
        "first_byte_ms", "overhead_ms", "prompt_tokens", "completion_tokens", "engine", "language",
    )  # fmt: skip
    screen.facts((name.replace("_", " "), told[name]) for name in names)
    for name, words in (("question", told["input_text"]), ("answer", told["output_text"])):
        screen.line("")
        screen.line(f"{name}:", "dim")
        for line in words.splitlines():
            screen.line(f"  {line}")
    for said in told["feedback"]:
        vote = {1: "up", -1: "down"}.get(said["thumb"], "")
        screen.line(
            " ".join(
                filter(
                    None, ("feedback:", vote, said["comment"], said["correction"] and f"should be {said['correction']}")
                )
            )
        )
    for one in told["events"]:
        screen.line(f"on its way: {one['kind'].replace('_', ' ')} at {one.get('version', '')}: {one.get('reason', '')}")
    for score in told["scores"]:
        screen.line(f"score: {score['scorer']} {text(score['value'])}")


@verb(
    "tail",
    of=interactions,
    examples=[
        "ciranda interactions tail",
        "ciranda interactions tail -f --model smart-home --status error",
        "ciranda interactions tail -f --json",
    ],
)
@filtered
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--lines", "-n", default=10, show_default=True, type=click.IntRange(0, 200), help="How many to begin with."
)
def tail(desk: Desk, follow: bool, lines: int, **asked: Any) -> None:
    """The last interactions, oldest first, and those that come. With --json one object per line."""
    cursor = desk.control.get("/interactions/arrivals")["next"]
    shown = desk.control.get("/interactions", limit=lines, **asked)["items"] if lines else []
    _print(desk, sorted(shown, key=lambda one: one["sequence"]))
    known = {one["id"] for one in shown}  # some may have arrived behind the cursor
    while follow:
        cursor, items = _arrived(desk, cursor, asked)
        _print(desk, [one for one in items if one["id"] not in known])
        if len(items) < BATCH:
            time.sleep(EVERY_S)


def _arrived(desk: Desk, cursor: str, asked: Told) -> tuple[str, list[Told]]:
    told = desk.patiently(lambda: desk.control.get("/interactions/arrivals", cursor=cursor, limit=BATCH, **asked))
    return str(told["next"]), told["items"]


def _print(desk: Desk, told: Iterable[Told]) -> None:
    for one in told:
        click.echo(json.dumps(one, ensure_ascii=False)) if desk.json else desk.screen.line(_line(one))


def _line(one: Told) -> str:
    head = f"{one['at'][11:23]} {one['version'] or one['model']} {one['status']} {one['latency_ms']:.0f} ms"
    return f"{head}  {_cut(one['input_text'])}  ->  {_cut(one['output_text'] or one['error'])}"


@verb(
    "export",
    of=interactions,
    examples=[
        "ciranda interactions export --model smart-home --since 7d > week.jsonl",
        "ciranda interactions export --thumb down --format parquet --output down.parquet",
        "ciranda interactions export --model smart-home --thumb up --dataset liked",
    ],
)
@filtered
@click.option("--format", "format_", default="jsonl", type=click.Choice(["jsonl", "parquet"]), help="Of the file.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; else stdout.")
@click.option("--dataset", default="", help="Make them the next version of this dataset instead of a file.")
def export(desk: Desk, format_: str, output: Path | None, dataset: str, **asked: Any) -> None:
    """All that fit, with feedback and scores: as a file, or as a dataset version. Who took them is in the audit log."""
    if dataset:
        _gather(desk, dataset, asked)
        return
    pieces = desk.control.download("/interactions/export", format=format_, **asked)
    if output is not None:
        size = _saved(output, pieces)
        desk.show({"file": str(output), "bytes": size}, lambda: desk.screen.line(f"{output}: {size:,} bytes"))
    elif format_ == "parquet" and sys.stdout.isatty():
        raise Invalid("Parquet is nothing to look at", where="stdout", remedy="give --output FILE")
    else:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _gather(desk: Desk, dataset: str, asked: Told) -> None:
    chosen = {name: value for name, value in asked.items() if value}
    told = desk.control.post("/interactions/gather", {"dataset": dataset, **chosen})
    words = f"{told['dataset']}: {told['rows']} rows out of {told['interactions']} interactions"
    desk.show(told, lambda: desk.screen.line(words))


def _saved(output: Path, pieces: Iterable[bytes]) -> int:
    """Write beside and rename, so that a file with the name is whole."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    size = 0
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(output)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return size
