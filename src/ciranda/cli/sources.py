"""`ingest`, `sources` and `quarantine`: where data comes from, how it comes, and the rows that were bad."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.files import read
from ciranda.cli.screen import ago, lasting, text
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import CirandaError

Told = Mapping[str, Any]
LOOK_S = 1.0


@verb(
    "ingest",
    examples=[
        "ciranda ingest smart-home",
        "ciranda ingest tickets --from 2026-01-01 --until 2026-02-01",
        "ciranda ingest tickets --source crm --from beginning --no-wait",
    ],
)
@click.argument("name")
@click.option("--source", "sources", multiple=True, help="Only this source, by name or label; may be repeated.")
@click.option("--from", "since", default="", help="Read again from here: a time, a cursor's value, or `beginning`.")
@click.option("--until", default="", help="And up to here.")
@click.option("--no-wait", is_flag=True, help="Do not stay until it is done.")
def ingest(desk: Desk, name: str, sources: tuple[str, ...], since: str, until: str, no_wait: bool) -> None:
    """Bring in what the sources of a model or a dataset have, check it, and commit it as a dataset version."""
    body = {"sources": list(sources), "since": since, "until": until, "wait": not no_wait}
    with _watched(desk, name):
        told = desk.control.post(f"/datasets/{part(name)}/ingest", body)
    desk.show(told, lambda: desk.screen.facts((key, _short(value)) for key, value in told.items()))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text(one)}" for name, one in value.items() if not isinstance(one, dict | list))
    return f"{len(value)}" if isinstance(value, list) and value and isinstance(value[0], dict) else text(value)


@contextmanager
def _watched(desk: Desk, name: str) -> Iterator[None]:
    """Show what came so far, on a terminal."""
    with desk.screen.waiting(f"ingesting for {name}") as sign:
        if sign is None:
            yield
            return
        over = threading.Event()
        watcher = threading.Thread(target=_follow, args=(desk, name, sign, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _follow(desk: Desk, name: str, sign: Any, over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        try:
            found = desk.control.get("/sources/runs", dataset=name, limit=20)["items"]
        except CirandaError:
            continue
        running = [one for one in found if one["state"] == "running"]
        sign.update("; ".join(f"{one['source']}: {one['rows_in']:,} rows" for one in running)[:160] or name)


sources = Noun(
    "sources",
    examples=["ciranda sources", "ciranda sources runs --dataset tickets"],
    help="Where data comes from, and how that goes.",
)


@verb("list", of=sources, examples=["ciranda sources list", "ciranda sources list --dataset tickets"])
@click.option("--dataset", default="", help="Only this dataset.")
def listed(desk: Desk, dataset: str) -> None:
    """Every source, with its last run and its next."""
    told = desk.control.get("/sources", dataset=dataset)
    titles = ("dataset", "source", "schedule", "next", "last", "rows", "age")
    desk.show(told, lambda: desk.screen.table(titles, [_source(one) for one in told["items"]], empty="no source"))
    waiting = {one["dataset"]: one["waiting"] for one in told["items"] if one["waiting"]}
    for name, count in waiting.items():
        desk.tell(f"{count} bad rows of {name} wait: `ciranda quarantine list {name}`")


def _source(one: Told) -> tuple[Any, ...]:
    last = one["last"] or {}
    return (
        one["dataset"], one["source"], one["schedule"] or "when asked", one["next_at"][:16] or None, last.get("state"),
        last.get("rows_in"), ago(last.get("started_at")),
    )  # fmt: skip


@verb("runs", of=sources, examples=["ciranda sources runs", "ciranda sources runs --dataset tickets --limit 50"])
@click.option("--dataset", default="", help="Only this dataset.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def ran(desk: Desk, **asked: Any) -> None:
    """Runs of sources, newest first."""
    told = desk.control.get("/sources/runs", **asked)
    titles = ("id", "source", "state", "in", "kept", "bad", "bytes", "took", "version", "age")
    rows = [
        (
            one["id"], one["source"], one["state"], one["rows_in"], one["rows_kept"], one["rows_bad"], one["bytes"],
            lasting(one["seconds"]), one["version"], ago(one["started_at"]),
        )
        for one in told["items"]
    ]  # fmt: skip
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="nothing was ingested yet"))


@verb("show", of=sources, examples=["ciranda sources show ing_0199…-000"])
@click.argument("run")
def show(desk: Desk, run: str) -> None:
    """One run of one source: what came, what was bad, where it goes on, and why it failed."""
    told = desk.control.get(f"/sources/runs/{part(run)}")
    desk.show(told, lambda: _draw(desk, told))


def _draw(desk: Desk, told: Told) -> None:
    names = (
        "source", "dataset", "state", "actor", "phase", "rows_in", "rows_checked", "rows_kept", "rows_bad", "bytes", "pages",
        "seconds", "cursor_before", "cursor", "version", "started_at",
    )  # fmt: skip
    desk.screen.facts((name, told[name]) for name in names)
    if told["error"]:
        desk.screen.facts((f"error {name}", told["error"][name]) for name in ("message", "where", "remedy"))
    changes = [(one["change"], one["field"], one["before"], one["now"]) for one in told["changes"]]
    if changes:
        desk.screen.table(("change", "field", "before", "now"), changes)
    bad = [(one["where"], one["reason"]) for one in told["detail"].get("bad", ())]
    if bad:
        desk.screen.table(("bad row", "reason"), bad)


@verb("add", of=sources, examples=["ciranda sources add datasets/tickets.yaml", "ciranda sources add datasets/"])
@click.argument("paths", nargs=-1, type=click.Path())
def add(desk: Desk, paths: tuple[str, ...]) -> None:
    """Feed datasets that no model's file feeds: each file names a dataset and its sources (by default, all of ./datasets)."""
    told = desk.control.post("/sources", {"files": read(paths or ("datasets",))})
    desk.show(told, lambda: desk.screen.line(f"fed: {', '.join(told['datasets'])}"))


@verb("remove", of=sources, examples=["ciranda sources remove tickets"])
@click.argument("dataset")
def remove(desk: Desk, dataset: str) -> None:
    """Stop feeding a dataset by a file of its own; its versions stay."""
    told = desk.control.post(f"/datasets/{part(dataset)}/sources/remove")
    desk.show(told, lambda: desk.screen.line(f"{told['dataset']} is fed no more"))


quarantine = Noun(
    "quarantine",
    examples=["ciranda quarantine", "ciranda quarantine retry tickets"],
    help="Bad rows, kept aside with the reason.",
)


@verb("list", of=quarantine, examples=["ciranda quarantine list", "ciranda quarantine list tickets --state waiting"])
@click.argument("dataset", default="")
@click.option(
    "--state", default="", type=click.Choice(["", "waiting", "retry", "mended", "dropped"]), help="Only these."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def kept(desk: Desk, **asked: Any) -> None:
    """Bad rows with what stood there, newest first."""
    told = desk.control.get("/quarantine", **asked)
    rows = [(one["id"], one["origin"], one["state"], one["reason"], one["record"][:80]) for one in told["items"]]
    titles = ("id", "where", "state", "reason", "what stood there")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no bad row"))
    if told["next"]:
        desk.tell(f"there are more: the same with --cursor '{told['next']}'")


@verb("retry", of=quarantine, examples=["ciranda quarantine retry tickets", "ciranda quarantine retry tickets bad_4f…"])
@click.argument("dataset")
@click.argument("rows", nargs=-1)
def retry(desk: Desk, dataset: str, rows: tuple[str, ...]) -> None:
    """Read bad rows again with the mapping of today (by default, all that wait), soon."""
    told = desk.control.post(f"/datasets/{part(dataset)}/quarantine/retry", {"rows": list(rows)})
    desk.show(told, lambda: desk.screen.line(f"{told['rows']} rows of {told['dataset']} are read again"))


@verb("drop", of=quarantine, examples=["ciranda quarantine drop tickets bad_4f…", "ciranda quarantine drop tickets"])
@click.argument("dataset")
@click.argument("rows", nargs=-1)
def drop(desk: Desk, dataset: str, rows: tuple[str, ...]) -> None:
    """Give bad rows up (by default, all that wait); what stood there is removed."""
    told = desk.control.post(f"/datasets/{part(dataset)}/quarantine/drop", {"rows": list(rows)})
    desk.show(told, lambda: desk.screen.line(f"{told['rows']} rows of {told['dataset']} are given up"))
