"""`review`: people look at answers one at a time; what they say becomes rows. The page `/review` does the same with fewer keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.store import ids

Told = Mapping[str, Any]

review = Noun(
    "review",
    examples=["ciranda review", "ciranda review fill smart-home --count 100"],
    help="Let people look at answers; what they say becomes rows.",
)


@verb("list", of=review, examples=["ciranda review list"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Review queues, with what waits in each."""
    told = desk.control.get("/review", **asked)
    columns = ("queue", "model", "dataset", "makes", "waiting", "settled", "not in a version")
    rows = [(one["name"], one["model"], one["dataset"], one["makes"], one["items"]["open"], one["items"]["done"],
             one["items"]["untaken"]) for one in told["items"]]  # fmt: skip
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no queue yet: `ciranda review create`"))


@verb(
    "create",
    of=review,
    examples=[
        "ciranda review create smart-home --model smart-home",
        "ciranda review create pairs --model smart-home --dataset preferences --makes pairs --twice 0.3",
    ],
)
@click.argument("name")
@click.option("--model", default="", help="Whose answers are reviewed.")
@click.option("--dataset", default="", help="Where labels go, and whose rows are reviewed; else the model's.")
@click.option(
    "--makes",
    default="answers",
    show_default=True,
    type=click.Choice(["answers", "labelled", "pairs"]),
    help="Of labels.",
)
@click.option("--instructions", default="", help="What annotators should know.")
@click.option(
    "--twice", default=0.1, show_default=True, type=click.FloatRange(0, 1), help="Share that two annotators are asked."
)
@click.option(
    "--random", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Share that is chosen at random."
)
@click.option("--lease", default="10m", show_default=True, help="How long an item is one annotator's alone.")
def create(desk: Desk, **asked: Any) -> None:
    """Make a queue, or change its settings."""
    told = desk.control.post("/review", asked)
    desk.show(
        told, lambda: desk.screen.line(f"{told['name']}: of {told['model'] or told['dataset']}, for {told['dataset']}")
    )


@verb(
    "fill",
    of=review,
    examples=["ciranda review fill smart-home --count 100", "ciranda review fill tickets --of rows --ref tickets@3"],
)
@click.argument("queue")
@click.option("--count", default=50, show_default=True, type=click.IntRange(1, 2000), help="How many items.")
@click.option(
    "--of", default="interactions", show_default=True, type=click.Choice(["interactions", "rows"]), help="What."
)
@click.option("--days", default=7.0, show_default=True, type=float, help="How far back interactions are looked at.")
@click.option("--ref", default="", help="Which version's rows; else the newest's.")
def fill(desk: Desk, queue: str, **asked: Any) -> None:
    """Put what is most worth labelling into a queue: disagreement, thumbs down, drift, low scores, and some at random."""
    told = desk.control.post(f"/review/{part(queue)}/fill", asked)
    pairs = [("added", told["added"]), ("looked at", told["looked_at"]), *told["reasons"].items()]
    desk.show(told, lambda: desk.screen.facts(pairs))


@verb("next", of=review, examples=["ciranda review next smart-home"])
@click.argument("queue")
def following(desk: Desk, queue: str) -> None:
    """The next item, yours for a while: why it was chosen, what was asked, what was answered."""
    told = desk.control.post(f"/review/{part(queue)}/next")
    desk.show(told, lambda: _item(desk, queue, told["item"]))


def _item(desk: Desk, queue: str, item: Told | None) -> None:
    if item is None:
        desk.screen.line("nothing waits for you")
        return
    why = ", ".join(f"{name} {value}" for name, value in item["why"].items())
    desk.screen.facts(
        [
            ("item", item["id"]),
            ("chosen for", f"{item['reason']} {why}".strip()),
            ("of", item["version"] or item["ref"]),
        ]
    )
    for message in item["messages"]:
        desk.screen.line(f"{message['role']}: {message['content']}")
    desk.screen.line(f"answer: {item['answer']}", "bold")
    desk.tell(f"say so: `ciranda review answer {queue} {item['id']} right` (or wrong, skip, correct --correction …)")


@verb(
    "answer",
    of=review,
    examples=[
        "ciranda review answer smart-home item_0199… right",
        'ciranda review answer smart-home item_0199… correct --correction \'{"intent": "LightOn"}\'',
    ],
)
@click.argument("queue")
@click.argument("item")
@click.argument("verdict", type=click.Choice(["right", "wrong", "correct", "skip"]))
@click.option("--correction", default="", help="What the answer should have been.")
@click.option("--note", default="", help="Kept with the label.")
def answer(desk: Desk, queue: str, **asked: Any) -> None:
    """Say of an item whether its answer is right, wrong, what would be right, or nothing."""
    told = desk.control.post(f"/review/{part(queue)}/answer", asked, key=ids.new("label"))
    desk.show(told, lambda: desk.screen.line(f"{told['verdict']}, by {told['annotator']}"))


@verb("undo", of=review, examples=["ciranda review undo smart-home"])
@click.argument("queue")
def undo(desk: Desk, queue: str) -> None:
    """Take your last label back; the item is yours again."""
    told = desk.control.post(f"/review/{part(queue)}/undo")
    desk.show(told, lambda: desk.screen.line(f"{told['item']['id']} is yours again"))


@verb("show", of=review, examples=["ciranda review show smart-home"])
@click.argument("queue")
def show(desk: Desk, queue: str) -> None:
    """A queue: what waits, who labelled what, how far they agree, and how many answers are right on the whole."""
    told = desk.control.get(f"/review/{part(queue)}")
    desk.show(told, lambda: _figures(desk, told))


def _figures(desk: Desk, told: Told) -> None:
    names = ("name", "model", "dataset", "makes", "twice", "random", "instructions")
    right = told["right"]
    share = (
        f"{right['share']:.0%} ({right['low']:.0%} to {right['high']:.0%}, {right['n']} at random)"
        if right["n"]
        else None
    )
    desk.screen.facts([*((name, told[name]) for name in names), *told["items"].items(), ("right on the whole", share)])
    rows = [
        (name, *(one[verdict] for verdict in ("right", "wrong", "correct"))) for name, one in told["annotators"].items()
    ]
    desk.screen.table(("annotator", "right", "wrong", "corrected"), rows, empty="nobody labelled yet")
    figures = [(one["name"], one["value"], f"{one['low']:.2f} to {one['high']:.2f}" if one["low"] is not None else None, one["n"])
               for one in told["agreement"]]  # fmt: skip
    desk.screen.table(
        ("agreement", "value", "95 % interval", "items"), figures, empty="no item was labelled by two yet"
    )


@verb("labels", of=review, examples=["ciranda review labels smart-home --json"])
@click.argument("queue")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def labels(desk: Desk, queue: str, **asked: Any) -> None:
    """What was said, in the order of time."""
    told = desk.control.get(f"/review/{part(queue)}/labels", **asked)
    rows = [
        (one["at"][:16], one["annotator"], one["verdict"], one["correction"][:60], one["version"])
        for one in told["items"]
    ]
    desk.show(
        told,
        lambda: desk.screen.table(("at", "annotator", "verdict", "correction", "version"), rows, empty="no label yet"),
    )


@verb("commit", of=review, examples=["ciranda review commit smart-home"])
@click.argument("queue")
def commit(desk: Desk, queue: str) -> None:
    """Make a dataset version of what was said since the last one."""
    told = desk.control.post(f"/review/{part(queue)}/commit")
    desk.show(told, lambda: desk.screen.facts(told.items()))
