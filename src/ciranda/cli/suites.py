"""`suite`: what versions are asked. Registered suites, their versions and cases, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Invalid, NotFound

suite = Noun(
    "suite",
    examples=["ciranda suite", "ciranda suite add evals/routing.yaml"],
    help="What versions are asked: registered suites and their cases.",
)
CURSOR = "Go on where the page before ended (`next` of its JSON)."
LONGEST = 90
GAPS = ("swap", "metric", "pairs", "gap", "95 % interval", "finding")


@verb("list", of=suite, examples=["ciranda suite list"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help=CURSOR)
def listing(desk: Desk, **asked: Any) -> None:
    """Every suite in its newest version, and the models that it judges."""
    told = desk.control.get("/suites", **asked)
    rows = [
        (one["ref"], one["cases"], list(one["slices"]) or None, one["models"] or None, one["created_by"], ago(one["created_at"]))
        for one in told["items"]
    ]  # fmt: skip
    titles = ("suite", "cases", "slices", "models", "by", "age")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no suite yet: `ciranda suite add <file>`"))


@verb("show", of=suite, examples=["ciranda suite show routing"])
@click.argument("name")
def show(desk: Desk, name: str) -> None:
    """One suite: its versions, newest first."""
    told = desk.control.get(f"/suites/{part(name.partition('@')[0])}")

    def draw() -> None:
        desk.screen.facts([("suite", told["suite"]), ("models", told["models"] or None)])
        rows = [
            (one["ref"], one["cases"], one["origin"] or None, one["note"] or None, one["digest"][:19], one["created_by"],
             ago(one["created_at"]))
            for one in told["versions"]
        ]  # fmt: skip
        desk.screen.table(("version", "cases", "from", "note", "digest", "by", "age"), rows)

    desk.show(told, draw)


@verb(
    "add",
    of=suite,
    examples=[
        "ciranda suite add evals/routing.yaml",
        "ciranda suite add evals/support.jsonl --name support --swap names --swap region",
        "ciranda suite add --dataset tickets@3 --split test --cases 500 --name tickets",
    ],
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dataset", default="", help="A dataset version in the place of a file, such as tickets@3.")
@click.option(
    "--split", default="test", show_default=True, type=click.Choice(("train", "validation", "test")), help="Its split."
)
@click.option("--cases", type=click.IntRange(1, 100_000), help="At most so many of its rows, evenly over languages.")
@click.option("--name", default="", help="What it is called, if not as the file says.")
@click.option("--swap", multiple=True, help="Add counterfactual partners: names, gender or region; may be repeated.")
@click.option("--note", default="", help="Why there is a new version.")
def add(desk: Desk, file: Path | None, dataset: str, swap: tuple[str, ...], **asked: Any) -> None:
    """Register a suite's next version. The same cases again add nothing."""
    if (file is None) == (not dataset):
        raise Invalid(
            "a suite is a file or a dataset version", where="suite add", remedy="name a FILE, or --dataset tickets@3"
        )
    sent: dict[str, Any] = {**asked, "swap": list(swap)}
    sent |= {"text": _text(file), "file": str(file)} if file else {"dataset": dataset}
    told = desk.control.post("/suites", sent)
    desk.show(told, lambda: desk.screen.line(f"{told['ref']}: {told['cases']} cases, {told['digest'][:19]}"))


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(f"no file {file}", where="suite add FILE", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {file}: {error}", where="suite add FILE", remedy="save it as UTF-8 text") from None


@verb("cases", of=suite, examples=["ciranda suite cases routing@2", "ciranda suite cases routing@2 --limit 5 --json"])
@click.argument("version")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help=CURSOR)
def cases(desk: Desk, version: str, **asked: Any) -> None:
    """The cases of a version."""
    told = desk.control.get(f"/suites/{_ref(version)}/cases", **asked)
    rows = [
        (one["id"][:8], _short(one["messages"][-1]["content"]), _short(one["reference"] or ""),
         ", ".join(f"{name}={value}" for name, value in one["slices"].items()) or None)
        for one in told["items"]
    ]  # fmt: skip
    desk.show(told, lambda: desk.screen.table(("case", "question", "reference", "slices"), rows))


@verb("diff", of=suite, examples=["ciranda suite diff routing@1 2"])
@click.argument("version")
@click.argument("after", type=click.IntRange(1))
def diff(desk: Desk, version: str, after: int) -> None:
    """What another version of a suite has and this one has not."""
    told = desk.control.get(f"/suites/{_ref(version)}/diff", after=after)

    def draw() -> None:
        if told["hidden"]:
            desk.screen.line("a policy hides these cases from you")
            return
        rows = [
            ("added", _short(one["messages"][-1]["content"]), _short(one["reference"] or "")) for one in told["added"]
        ]
        rows += [
            ("removed", _short(one["messages"][-1]["content"]), _short(one["reference"] or ""))
            for one in told["removed"]
        ]
        rows += [
            ("changed", _short(now["messages"][-1]["content"]), _short(f"{was['reference']} -> {now['reference']}"))
            for was, now in told["changed"]
        ]
        desk.screen.table(("", "question", "reference"), rows, empty="the same cases")

    desk.show(told, draw)


@verb(
    "export",
    of=suite,
    examples=[
        "ciranda suite export routing@2 > routing.jsonl",
        "ciranda suite export routing@2 --as inspect > routing.jsonl",
    ],
)
@click.argument("version")
@click.option("--as", "form", default="jsonl", show_default=True, type=click.Choice(("jsonl", "inspect", "lm-eval")),
              help="For `suite add` again, for inspect-ai, or for lm-eval.")  # fmt: skip
def export(desk: Desk, version: str, form: str) -> None:
    """A version's cases as JSON lines."""
    for piece in desk.control.download(f"/suites/{_ref(version)}/export", form=form):
        click.echo(piece, nl=False)


@verb("results", of=suite, examples=["ciranda suite results", "ciranda suite results routing --model support-router"])
@click.argument("name", default="")
@click.option("--model", default="", help="Only of this model.")
@click.option("--version", default="", help="Only of this version, such as smart-home@2.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help=CURSOR)
def results(desk: Desk, name: str, **asked: Any) -> None:
    """Evaluations on a suite (or on all), newest first."""
    told = desk.control.get("/evaluations", suite=name, **asked)
    rows = [
        (one["id"], one["version"], one["suite"], one["n"], _means(one["metrics"]), ago(one["created_at"]))
        for one in told["items"]
    ]
    titles = ("evaluation", "version", "suite", "cases", "means", "age")
    desk.show(
        told, lambda: desk.screen.table(titles, rows, empty="no evaluation like that: `ciranda evaluate <version>`")
    )


@verb(
    "answers",
    of=suite,
    examples=[
        "ciranda suite answers eval_smart-home-2_0a1b-9f8e",
        "ciranda suite answers eval_smart-home-2_0a1b-9f8e --against eval_smart-home-1_0a1b-9f8e --differing",
    ],
)
@click.argument("evaluation")
@click.option(
    "--against", default="", help="Another evaluation, whose answers stand beside; the largest loss comes first."
)
@click.option("--metric", default="", help="What bad means; without it, the first metric.")
@click.option("--slice", default="", help="Only cases of this slice, as in language=en.")
@click.option("--differing", is_flag=True, help="Only those that differ from the other's.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help=CURSOR)
def answers(desk: Desk, evaluation: str, differing: bool, **asked: Any) -> None:
    """The answers of an evaluation, the worst first."""
    told = desk.control.get(f"/evaluations/{part(evaluation)}/answers", **asked, differing=differing or None)
    metric = told["metric"]
    rows = [
        (_short(one["prompt"]), _short(one["reference"] or ""), _short(one["error"] or one["answer"]), _score(one, metric),
         _short(one["other"]["answer"]) if one["other"] else None, _score(one["other"], metric) if one["other"] else None)
        for one in told["items"]
    ]  # fmt: skip

    def draw() -> None:
        desk.screen.table(
            ("question", "reference", "answer", metric, "other", "other's"), rows, empty="no answer like that"
        )
        if told["bias"]:
            desk.screen.table(
                ("swap", "metric", "pairs", "gap", "95 % interval", "finding"), [gap_row(one) for one in told["bias"]]
            )

    desk.show(told, draw)


def gap_row(gap: dict[str, Any]) -> tuple[Any, ...]:
    """A counterfactual gap as a row of a table."""
    between = f"{gap['low']:+.3f} to {gap['high']:+.3f}"
    return gap["swap"], gap["metric"], gap["pairs"], f"{gap['mean']:+.3f}", between, gap["finding"].replace("_", " ")


def _score(answer: dict[str, Any], metric: str) -> str | None:
    value = answer["scores"].get(metric)
    return None if value is None else f"{value:.3g}"


def _means(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {one['mean']:.3g}" for name, one in list(metrics.items())[:4])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _ref(version: str) -> str:
    """A version as the address writes it. Raises Invalid for one without a number."""
    name, _, number = version.partition("@")
    if not number.isdecimal():
        raise Invalid(
            f"{version!r} is no version of a suite",
            where="VERSION",
            remedy="write it as name@number, such as routing@2",
        )
    return f"{part(name)}@{number}"
