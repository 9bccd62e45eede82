"""`lineage`: what led to a thing, and what came of it."""

from __future__ import annotations

from typing import Any

import click

from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, verb

Told = dict[str, Any]


@verb(
    "lineage",
    examples=[
        "ciranda lineage smart-home@2",
        "ciranda lineage dataset:tickets@3 --forward",
        "ciranda lineage row:tickets@3/9c1f0c7e…",
        "ciranda lineage 'source:tickets/files: data/*.jsonl'",
        "ciranda lineage 0199c2d4-7b2c-7d1e-8f00-000000000009 --back",
    ],
)
@click.argument("thing")
@click.option("--back", "direction", flag_value="back", help="Only what led to it.")
@click.option("--forward", "direction", flag_value="forward", help="Only what came of it.")
@click.option(
    "--generations", default=5, show_default=True, type=click.IntRange(0, 50), help="Dataset versions to follow."
)
def lineage(desk: Desk, thing: str, direction: str | None, generations: int) -> None:
    """Follow a model version, dataset version, row, source, run, evaluation, release or answer to its causes and effects."""
    told = desk.control.get("/lineage", of=thing, direction=direction or "both", generations=generations)
    desk.show(told, lambda: _draw(desk, told))


def _draw(desk: Desk, told: Told) -> None:
    """Two trees: to causes, and to effects. What was shown once is not opened again."""
    nodes = {node["id"]: node for node in told["nodes"]}
    start = told["start"]
    for title, place, other in (("comes from", 1, 0), ("led to", 0, 1)):
        next_: dict[str, list[str]] = {}
        for edge in told["edges"]:
            next_.setdefault(edge[place], []).append(edge[other])
        if next_.get(start):
            desk.screen.line(f"{_said(nodes[start])} {title}", style="bold")
            _branch(desk, nodes, next_, start, "", {start})
    if not told["edges"]:
        desk.screen.line(f"{_said(nodes[start])}: nothing led to it, and nothing came of it yet")
    if told["cut"]:
        desk.tell("older versions are left out; --generations follows more of them")


def _branch(desk: Desk, nodes: Told, next_: dict[str, list[str]], at: str, before: str, seen: set[str]) -> None:
    found = next_.get(at, [])
    for place, one in enumerate(found):
        last = place == len(found) - 1
        again = one in seen and next_.get(one)
        desk.screen.line(f"{before}{'└─ ' if last else '├─ '}{_said(nodes[one])}{' (above)' if again else ''}")
        if one not in seen:
            seen.add(one)
            _branch(desk, nodes, next_, one, before + ("   " if last else "│  "), seen)


def _said(node: Told) -> str:
    """A node in a line: kind, name, what is worth knowing, age."""
    facts = {name: node["facts"].get(name) for name in ("rows", "stage", "state", "metric", "value", "count")}
    shown = [
        f"{value:.3g}" if isinstance(value, float) else str(value) for value in facts.values() if value is not None
    ]
    if facts["rows"] is not None:
        shown[0] += " rows"
    if node["at"]:
        shown.append(f"{ago(node['at'])} ago")
    return f"{node['kind']} {node['name']}" + (f"  ({', '.join(shown)})" if shown else "")
