"""`search`: looking for the best recipe, outside of a turn. What is found goes through the gates like everything else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.files import expected
from ciranda.cli.screen import ago, lasting, spark
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Failed, Unavailable

EVERY_S = 1.0
LOOPBACK = "127.0.0.1"
Told = Mapping[str, Any]
OVER = ("complete", "failed", "stopped")

search = Noun(
    "search",
    examples=["ciranda search", "ciranda search start smart-home --trials 8 --budget 30m --follow"],
    help="Look for the best recipe: start, watch, stop, resume, add workers, release.",
)


def bounds(function: Any) -> Any:
    """The options of whatever bounds a search."""
    options = (
        click.option("--trials", type=click.IntRange(1, 1000), help="How many recipes to try."),
        click.option("--budget", help="No new trial starts after this long, such as 20m."),
        click.option("--money", type=float, help="No new trial starts that would spend more, by `train.search.price`."),
    )
    for option in options:
        function = option(function)
    return function


@verb("list", of=search, examples=["ciranda search list", "ciranda search list --model smart-home"])
@click.option("--model", default="", help="Only of this model.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Searches, newest first."""
    told = desk.control.get("/searches", **asked)
    rows = [
        (one["id"], one["state"], f"{sum(one['states'].values())} of {one['limit']}", _percent(one["reached"]),
         lasting(one["worked_s"]), _money(one), ago(one["started_at"]))
        for one in told["items"]
    ]  # fmt: skip
    columns = ("search", "state", "trials", "best", "worked", "spent", "began")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no search yet: `ciranda search start MODEL`"))


@verb(
    "start",
    of=search,
    examples=[
        "ciranda search start smart-home --trials 8",
        "ciranda search start smart-home --budget 1h --workers 2 --follow",
    ],
)
@click.argument("model")
@bounds
@click.option("--workers", type=click.IntRange(0, 256), help="Trials at the same time; 0 fits them to the machine.")
@click.option("--dataset", default="", help="The dataset version to learn from; else the newest.")
@click.option("--event", default="", help="Its identity: the same event again is the same search.")
@click.option("--follow", is_flag=True, help="Stay, and tell how the trials do, until it is over.")
def start(desk: Desk, model: str, follow: bool, **asked: Any) -> None:
    """Look for a recipe by what `train.search` of the model's file says may vary. It goes on without this command."""
    told = desk.control.post(f"/models/{part(model)}/searches", _given(asked))
    desk.tell(f"expected: {expected(told['estimate'])}")
    if follow:
        _follow(desk, told["search"])
        return
    desk.show(told, lambda: desk.screen.line(told["search"]))
    desk.tell(f"watch it with `ciranda search show {told['search']} --follow`")


@verb(
    "show",
    of=search,
    examples=["ciranda search show search:smart-home:first", "ciranda search show search:smart-home:first --follow"],
)
@click.argument("search_")
@click.option("--follow", is_flag=True, help="Stay until it is over.")
def show(desk: Desk, search_: str, follow: bool) -> None:
    """One search: its trials, what they drew and reached, which is ahead."""
    if follow:
        _follow(desk, search_)
    else:
        told = _one(desk, search_)
        desk.show(told, lambda: _draw(desk, told))


@verb("stop", of=search, examples=["ciranda search stop search:smart-home:first"])
@click.argument("search_")
def stop(desk: Desk, search_: str) -> None:
    """Begin nothing more and end what runs; `resume` goes on from the checkpoints."""
    _say(desk, search_, "stop")


@verb("resume", of=search, examples=["ciranda search resume search:smart-home:first --trials 16"])
@click.argument("search_")
@bounds
def resume(desk: Desk, search_: str, **asked: Any) -> None:
    """Go on with one that was stopped, or give one that is over more room."""
    _say(desk, search_, "resume", _given(asked))


@verb("workers", of=search, examples=["ciranda search workers search:smart-home:first 4"])
@click.argument("search_")
@click.argument("count", type=click.IntRange(0, 256))
def workers(desk: Desk, search_: str, count: int) -> None:
    """Train so many trials at the same time from now on; 0 fits them to the machine. Those that run go on."""
    _say(desk, search_, "workers", {"workers": count})


@verb("release", of=search, examples=["ciranda search release search:smart-home:first"])
@click.argument("search_")
def release(desk: Desk, search_: str) -> None:
    """Take the best of a search through registration, exam, gates and release: a turn that finds its training done."""
    told = _post(desk, search_, "release", {})
    desk.show(told, lambda: desk.screen.line(told["turn"]))


@verb("dashboard", of=search, examples=["ciranda search dashboard --port 8080"])
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Where it listens.")
def dashboard(desk: Desk, port: int) -> None:
    """Open Optuna's own dashboard on this home's studies, at the loopback address, since it asks for no key."""
    from ciranda import config
    from ciranda.store.database import Database
    from ciranda.train import studies

    database = Database(config.database_url(desk.home, desk.settings))
    desk.tell(f"http://{LOOPBACK}:{port}/ until Ctrl-C; from elsewhere: ssh -L {port}:{LOOPBACK}:{port} …")
    try:
        studies.board(database, host=LOOPBACK, port=port)
    except ImportError as error:
        raise Unavailable(
            "optuna-dashboard is not installed", where=str(desk.home.path), remedy="pip install optuna-dashboard"
        ) from error
    finally:
        database.close()


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value not in (None, "")}


def _one(desk: Desk, name: str) -> Told:
    found: Told = desk.patiently(lambda: desk.control.get(f"/searches/{part(name)}"))
    return found


def _post(desk: Desk, name: str, what: str, body: Mapping[str, Any]) -> Told:
    model = _one(desk, name)["model"]
    told: Told = desk.control.post(f"/models/{part(model)}/searches/{part(name)}/{what}", dict(body))
    return told


def _say(desk: Desk, name: str, what: str, body: Mapping[str, Any] | None = None) -> None:
    told = _post(desk, name, what, body or {})
    desk.show(told, lambda: desk.screen.facts(told.items()))


def _follow(desk: Desk, name: str) -> None:
    """Tell every change of a trial until the search is over; the exit code says how it ended."""
    seen: set[tuple[int, str]] = set()
    with desk.screen.waiting(name) as sign:
        while True:
            told = _one(desk, name)
            for one in told["trials"]:
                if (mark := (one["number"], one["state"])) not in seen and one["state"] != "waiting":
                    seen.add(mark)
                    desk.tell(_line(one))
            if told["state"] in OVER:
                break
            if sign is not None:
                sign.update(
                    f"{name}: {told['reason'] or ', '.join(f'{n} {state}' for state, n in told['states'].items())}"
                )
            time.sleep(EVERY_S)
    desk.show(told, lambda: _draw(desk, told))
    if told["state"] == "failed":
        raise Failed(told["reason"], where=name, remedy="correct what it says, then start another search")


def _line(one: Told) -> str:
    reached = f" {_percent(one['objective'])} exact" if one["objective"] is not None else ""
    why = f", {one['reason']}" if one["reason"] else ""
    return f"trial {one['number']}: {one['state']}{reached}{why}"


def _draw(desk: Desk, told: Told) -> None:
    desk.screen.facts(
        [("search", told["id"]), ("state", told["state"]), ("dataset", told["dataset"]), ("reason", told["reason"]),
         ("trials", f"{sum(told['states'].values())} of {told['limit']}"), ("workers", told["workers"] or "as many as fit"),
         ("worked", lasting(told["worked_s"])), ("spent", _money(told)), ("ahead", told["ahead"])]
    )  # fmt: skip
    varied = _varied(told)
    rows = [
        (one["number"], one["state"] + (" *" if one["best"] else ""), _percent(one["objective"]), one["loss"],
         spark([check["exact_match"] for check in one["checks"]]),
         *(one["measures"].get(name) for name in _measured(told)), *(_value(one, name) for name in varied),
         lasting(one["spent_s"]))
        for one in told["trials"]
    ]  # fmt: skip
    columns = ("trial", "state", "exact", "loss", "on the way", *_measured(told), *varied, "took")
    desk.screen.table(columns, rows, empty=told["reason"] or "no trial has begun")


def _measured(told: Told) -> list[str]:
    return sorted({name for one in told["trials"] for name in one["measures"]})


def _varied(told: Told) -> list[str]:
    return [
        name for name in told["plan"].get("space", {}) if len({str(_value(one, name)) for one in told["trials"]}) > 1
    ]


def _value(one: Told, name: str) -> Any:
    return one[name] if name in ("base", "mix") else one["recipe"].get(name)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _money(told: Told) -> str:
    if not told["price"]:
        return "-"
    return f"{told['spent']:.2f}" + (f" of {told['money']:.2f}" if told["money"] else "")
