"""Lineage: the causal chain through one thing, as values for the page and the API."""

from __future__ import annotations

from dataclasses import dataclass

from ciranda.registry.lineage import Graph, Node

KINDS = ("source", "run", "row", "dataset", "base", "trial", "version", "evaluation", "release", "answers", "answer")


@dataclass(frozen=True)
class LineagePage:
    """The chain through one thing. `asked` is what was written, `generations` how many dataset versions are followed."""

    asked: str
    direction: str
    generations: int
    graph: Graph | None

    @property
    def start(self) -> Node | None:
        """The thing that was asked for."""
        return next((one for one in self.graph.nodes if one.id == self.graph.start), None) if self.graph else None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """By kind, causes first, then by time."""
        found = self.graph.nodes if self.graph else ()
        return tuple(sorted(found, key=lambda node: (KINDS.index(node.kind), node.at, node.name)))
