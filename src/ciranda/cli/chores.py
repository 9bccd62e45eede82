"""`data`: imports, preparations, rebuilds and distillations. Each is a job of the platform; the command shows its progress and its
report."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ciranda.cli.client import part, rebuilt
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Invalid, NotFound, Refused
from ciranda.store import ids

EVERY_S = 0.2
REFUSED_SHOWN = 20
Told = Mapping[str, Any]

data = Noun(
    "data",
    examples=["ciranda data", "ciranda data import tickets.jsonl --dataset tickets"],
    help="Bring data in once, and prepare it by recipes.",
)


@verb("list", of=data, examples=["ciranda data list"])
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Imports, preparations and rebuilds, newest first."""
    told = desk.control.get("/data/jobs", **asked)
    rows = [(one["job"], one["state"], one["dataset"], one["actor"], ago(one["asked_at"])) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("job", "state", "dataset", "asked by", "age"), rows, empty="no job yet"))


@verb("job", of=data, examples=["ciranda data job data:import:0199…"])
@click.argument("job")
def job(desk: Desk, job: str) -> None:
    """One of them: how it stands, its result or its error."""
    told = desk.control.get(f"/data/jobs/{part(job)}")
    desk.show(told, lambda: _drawn(desk, told))


def _drawn(desk: Desk, told: Told) -> None:
    names = ("job", "state", "dataset", "actor", "asked_at")
    said = told["error"]["message"] if told["error"] else None
    desk.screen.facts([*((name, told[name]) for name in names), ("progress", _line(told["progress"])), ("error", said)])
    if told["result"]:
        drawn(desk, told["kind"], told["result"])


@verb(
    "import",
    of=data,
    examples=[
        "ciranda data import tickets.jsonl --dataset tickets",
        "ciranda data import ./dolly --dataset dolly --dry-run",
        "ciranda data import LLaMA-Factory/data --set dpo_en_demo --dataset preferences --replace",
        "ciranda data import faq.csv --dataset faq --map prompt=question --map completion=reply --bad-rows drop",
        "ciranda data import hf:org/name --dataset name",
    ],
)
@click.argument("path")
@click.option("--dataset", required=True, help="The dataset that gets a version.")
@click.option(
    "--format",
    "format_",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "chat", "prompt", "preference", "labelled", "text", "alpaca", "sharegpt"]),
    help="How a record is read; auto finds out and says what it saw.",
)
@click.option("--map", "pairs", multiple=True, metavar="ROLE=COLUMN", help="Which column holds what; may be repeated.")
@click.option("--set", "set_", default="", help="Which set of a dataset_info.json, which configuration of a card.")
@click.option(
    "--bad-rows", default="block", show_default=True, type=click.Choice(["block", "drop"]), help="Or go on without."
)
@click.option("--replace", is_flag=True, help="In place of the newest version's rows, not beside them.")
@click.option("--dry-run", "dry", is_flag=True, help="Only the report; nothing is written.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def bring(
    desk: Desk, path: str, dataset: str, format_: str, pairs: tuple[str, ...], set_: str, bad_rows: str, replace: bool,
    dry: bool, wait: bool,
) -> None:  # fmt: skip
    """Import a file or a folder of chats, prompts, preference pairs, labelled answers or texts. It must lie below the data root."""
    place = path if path.startswith("hf:") else os.path.abspath(os.path.expanduser(path))
    body = {"path": place, "format": format_, "map": _pairs(pairs), "set": set_, "bad_rows": bad_rows,
            "mode": "replace" if replace else "add", "dry": dry}  # fmt: skip
    begun = desk.control.post(f"/datasets/{part(dataset)}/import", body, key=ids.new("import"))
    ended(desk, begun["job"], wait=wait)


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    found = {role: column for role, _, column in (one.partition("=") for one in given)}
    if wrong := [one for one in given if not all(one.partition("=")[::2])]:
        raise Invalid(
            f"{wrong[0]!r} maps nothing", where="--map", remedy="write it as role=column, such as prompt=question"
        )
    return found


@verb(
    "distil",
    of=data,
    examples=[
        "ciranda data distil prompts.jsonl --teacher support-large --dataset support",
        "ciranda data distil --rows support@4 --teacher support-large@3 --dataset support-small",
        "ciranda data distil prompts.jsonl --teacher big-model --at https://example.com/v1 --key-from env:BIG_KEY --dataset faq",
    ],
)
@click.argument("prompts", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--teacher", required=True, help="A version of ours, a model (its live version), or its name --at an address."
)
@click.option("--dataset", required=True, help="The dataset that gets a version.")
@click.option("--rows", default="", help="A dataset version whose prompts are asked.")
@click.option("--at", "url", default="", help="An OpenAI-compatible address, for a teacher elsewhere.")
@click.option("--key-from", "key", default="", help="Its key: env:NAME or file:/path, where control runs.")
@click.option(
    "--max-tokens", default=256, show_default=True, type=click.IntRange(1, 32768), help="Bound of one answer."
)
@click.option(
    "--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2), help="0: the likeliest words."
)
@click.option("--abreast", default=4, show_default=True, type=click.IntRange(1, 64), help="Questions at the same time.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def distil(desk: Desk, prompts: Path | None, dataset: str, wait: bool, **asked: Any) -> None:
    """Have a teacher answer prompts (JSON lines), and keep its answers as rows to learn from."""
    try:
        text = prompts.read_text(encoding="utf-8") if prompts else ""
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"no readable prompts: {error}", where=str(prompts), remedy="name a file of JSON lines"
        ) from None
    begun = desk.control.post(f"/datasets/{part(dataset)}/distil", {**asked, "prompts": text}, key=ids.new("distil"))
    ended(desk, begun["job"], wait=wait)


@verb(
    "prepare",
    of=data,
    examples=[
        "ciranda data prepare recipes/clean.yaml",
        "ciranda data prepare recipes/clean.yaml --dry-run",
    ],
)
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", "dry", is_flag=True, help="Only count rows at each step; nothing is written.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def prepare(desk: Desk, recipe: Path, dry: bool, wait: bool) -> None:
    """Run a recipe: datasets in, steps, dataset out. The version that it makes can be made again."""
    try:
        text = recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"no readable recipe: {error}", where=str(recipe), remedy="name a YAML file") from None
    body = {"file": str(recipe), "text": text, "dry": dry}
    begun = desk.control.post("/data/prepare", body, key=ids.new("prepare"))
    ended(desk, begun["job"], wait=wait)


@verb("rebuild", of=data, examples=["ciranda data rebuild smart-home-clean@3"])
@click.argument("version")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def rebuild(desk: Desk, version: str, wait: bool) -> None:
    """Make a version again from its recipe, and say whether its digest is the same. Nothing is written."""
    begun = desk.control.post(f"/datasets/{part(version)}/rebuild", key=ids.new("rebuild"))
    ended(desk, begun["job"], wait=wait)


def ended(desk: Desk, job: str, *, wait: bool) -> None:
    """Show a job to its end: progress meanwhile, then its result, or its error as an error of this command."""
    if not wait:
        desk.show({"job": job}, lambda: desk.screen.line(job))
        desk.tell(f"look at it with `ciranda data job {job}`")
        return
    with desk.screen.waiting(job) as sign:
        told = _watched(desk, job, sign)
    if told["error"]:
        raise rebuilt(told["error"], 0)
    desk.show({"job": job, **told["result"]}, lambda: drawn(desk, told["kind"], told["result"]))
    if not told["result"].get("same", True):
        raise Refused(
            f"{told['result']['ref']} did not come out the same", where=job,
            remedy="look at what changed since, if anything is named; else at functions that are not pure",
        )  # fmt: skip


def _watched(desk: Desk, job: str, sign: Any) -> Told:
    said = ""
    while True:
        told: Told = desk.patiently(lambda: desk.control.get(f"/data/jobs/{part(job)}"))
        if told["state"] in ("succeeded", "failed"):
            return told
        line = _line(told["progress"])
        if line != said and sign is None:
            desk.tell(line)
        elif line != said:
            sign.update(f"{job} {line}")
        said = line
        time.sleep(EVERY_S)


def _line(progress: Told) -> str:
    """The newest progress in words."""
    shown = {name: value for name, value in progress.items() if name not in ("at", "phase")}
    figures = ", ".join(f"{name.replace('_per_s', ' a second').replace('_', ' ')} {value:,}" if isinstance(value, int)
                        else f"{name} {value}" for name, value in shown.items())  # fmt: skip
    return f"{progress.get('phase', '')}: {figures}".strip(": ")


def drawn(desk: Desk, kind: str, result: Told) -> None:
    """A result as people read it."""
    if kind == "import":
        _imported(desk, result)
    elif kind == "rebuild":
        _rebuilt(desk, result)
    elif kind == "distil":
        names = ("teacher", "asked", "refused", "dataset", "rows", "digest")
        desk.screen.facts([(name, result[name] or None) for name in names])
        if result["refusals"]:
            desk.screen.table(("refused because",), [(one,) for one in result["refusals"]])
    else:
        _prepared(desk, result)


def _prepared(desk: Desk, result: Told) -> None:
    new = "" if result.get("new", True) else " (nothing new)"
    desk.screen.facts([
        ("from", result["inputs"]), ("dataset", f"{result['dataset']}{new}" if result["dataset"] else "nothing written: a dry run"),
        ("rows", result["rows"]), ("digest", result.get("digest")),
    ])  # fmt: skip
    _steps(desk, result)
    shown = [(one["origin"], one["split"], one["prompt"], one["completion"]) for one in result.get("shown", ())]
    if shown:
        desk.screen.table(("origin", "split", "prompt", "answer"), shown)


def _steps(desk: Desk, result: Told) -> None:
    desk.screen.table(
        ("step", "rows in", "rows out"), [(one["step"], one["in"], one["out"]) for one in result["steps"]]
    )


def _rebuilt(desk: Desk, result: Told) -> None:
    desk.screen.facts([
        ("version", result["ref"]), ("rows", result["rows"]), ("digest", result["digest"]), ("was", result["was"]),
        ("the same", result["same"]), ("changed since", result["changed_since"] or None),
    ])  # fmt: skip
    _steps(desk, result)
    names = ("missing", "unexpected", "other_facts")
    found = [
        (name.replace("_", " "), result[name]["rows"], result[name]["some"][:3]) for name in names if name in result
    ]
    if found:
        desk.screen.table(("rows that are", "how many", "some of them"), found)


def _imported(desk: Desk, result: Told) -> None:
    report = result["report"]
    new = "" if result.get("new", True) or result.get("dry") else " (nothing new)"
    desk.screen.facts([
        ("saw", report["saw"]), ("rows", report["rows"]), ("refused", report["refused"] or None),
        ("kept as extra", list(report["extra"]) or None), ("left out", list(report["left_out"]) or None),
        ("dataset", f"{result['dataset']}{new}" if result["dataset"] else "nothing written: a dry run"),
        ("digest", result.get("digest")), ("rows of the version", result.get("rows")),
    ])  # fmt: skip
    desk.screen.table(("read as", "rows"), report["layouts"].items(), empty="no row could be read")
    files = [(name, one["rows"], one["refused"], one["split"]) for name, one in report["files"].items()]
    desk.screen.table(("file", "rows", "refused", "split"), files)
    shown = [
        (one["where"], one["shape"], one.get("prompt", ""), one.get("completion", ""), one.get("rejected", ""))
        for rows in report["shown"].values()
        for one in rows
    ]
    desk.screen.table(("where", "shape", "prompt", "answer", "rejected"), shown)
    if report["refusals"]:
        rows = [(one["where"], one["reason"]) for one in report["refusals"][:REFUSED_SHOWN]]
        desk.screen.table(("refused", "why"), rows)
    checked = {name: one for name, one in result.get("checks", {}).get("checks", {}).items() if one.get("found")}
    if checked:
        desk.screen.table(
            ("check", "action", "rows"), [(name, one["action"], one["found"]) for name, one in checked.items()]
        )
