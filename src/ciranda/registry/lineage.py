"""The causal chain as a graph: from a source, row, dataset version, model version or answer, back to causes and on to effects.

    source -> ingestion -> dataset version -> (dataset version ...) -> model version -> evaluation, release, answers
                               base, trial, version it went on from ->

Plain reads at one moment, no cache: lineage is asked for seldom and must never be stale. From where one asks, causes are followed
back and effects on, never one after the other, so that the graph holds what led here and what came of it and nothing beside.
Trials and rollouts belong to modules whose tables are named here, not imported, and only read. Long lines of dataset versions are
cut after some generations; the graph says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.data import versions as datasets
from ciranda.data.sources import ingestions
from ciranda.data.versions import dataset_parents, dataset_versions
from ciranda.errors import CirandaError, Invalid, NotFound
from ciranda.evals.suites import evaluations
from ciranda.registry import versions
from ciranda.registry.versions import Version

Direction = Literal["both", "back", "forward"]
GENERATIONS = 5
MOST = 400  # nodes
ROLLOUTS = sa.table(
    "rollouts", *map(sa.column, ("id", "model", "candidate", "champion", "state", "stage", "started_at"))
)
TRIALS = sa.table("trials", *map(sa.column, ("id", "search", "number", "state", "objective", "started_at")))
Count = Callable[[str], int | None]


@dataclass(frozen=True)
class Node:
    """One thing in the chain. `id` is its kind and its name; `of` is the dataset or model whose readers may see it."""

    kind: str
    name: str
    of: str
    at: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {"id": self.id, **asdict(self)}


@dataclass(frozen=True)
class Graph:
    """What led to `start` and what came of it. Edges are pairs of ids, cause first; `cut` says that older ones were left out."""

    start: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    cut: bool = False

    def within(self, sees: Callable[[Node], bool]) -> Graph:
        """Only what somebody may see."""
        kept = tuple(node for node in self.nodes if sees(node))
        ids = {node.id for node in kept}
        return Graph(self.start, kept, tuple(edge for edge in self.edges if ids.issuperset(edge)), self.cut)

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {
            "start": self.start,
            "nodes": [node.to_dict() for node in self.nodes],
            "edges": [list(edge) for edge in self.edges],
            "cut": self.cut,
        }


def graph(
    conn: sa.Connection,
    start: Node,
    *,
    direction: Direction = "both",
    generations: int = GENERATIONS,
    count: Count = lambda _: None,
) -> Graph:
    """The chain through `start`, which `find` gives.

    Args:
        direction: `back` to causes, `forward` to effects, or both.
        generations: How many dataset versions before and after are followed.
        count: Answers of a model version; None when nobody can say.
    """
    walk = _Walk(conn, count)
    nodes, edges, cut = {start.id: start}, set[tuple[str, str]](), False
    for step, back in ((walk.causes, True), (walk.effects, False)):
        if direction in ("both", "back" if back else "forward"):
            cut |= _follow(step, start, nodes, edges, back=back, generations=generations)
    return Graph(start.id, tuple(nodes.values()), tuple(sorted(edges)), cut)


def _follow(
    step: Callable[[Node], Iterator[Node]],
    start: Node,
    nodes: dict[str, Node],
    edges: set[tuple[str, str]],
    *,
    back: bool,
    generations: int,
) -> bool:
    """Breadth first from `start`; says whether anything was left out."""
    waiting, seen, cut = [(start, 0)], {start.id}, False
    while waiting:
        node, age = waiting.pop(0)
        for other in step(node):
            older = age + (node.kind == other.kind == "dataset")
            if older > generations or len(nodes) >= MOST:
                cut = True
                continue
            edges.add((other.id, node.id) if back else (node.id, other.id))
            nodes.setdefault(other.id, other)
            if other.id not in seen:
                seen.add(other.id)
                waiting.append((other, older))
    return cut


def find(conn: sa.Connection, text: str) -> Node:
    """The node that somebody means: `dataset:tickets@2`, `version:router@3`, `source:tickets/files: *.jsonl`, `run:ing_…`,
    `evaluation:…`, `release:…`, or a bare name, which is a model version when there is one, else a dataset version.

    Raises NotFound, Invalid.
    """
    kind, _, name = text.partition(":")
    if kind in _FIND:
        return _FIND[kind](conn, name)
    for guess in _guesses(text):
        try:
            return _FIND[guess](conn, text)
        except CirandaError:
            continue
    raise NotFound(
        f"nothing is called {text[:200]!r}", where="lineage",
        remedy=f"name it with its kind, such as dataset:tickets@2; kinds are {', '.join(_FIND)}",
    )  # fmt: skip


def _guesses(text: str) -> tuple[str, ...]:
    for prefix, kind in (("ing_", "run"), ("eval", "evaluation"), ("roll", "release")):
        if text.startswith(prefix):
            return (kind,)
    return ("version", "dataset")


def answer(identifier: str, version: str, at: str = "") -> Node:
    """One recorded answer, whose cause is the version that gave it."""
    return Node("answer", identifier, version.rpartition("@")[0], at, {"version": version})


def row(key: str, refs: Iterable[str], facts: dict[str, Any]) -> Node:
    """One row of a dataset, by its key, with the versions that hold it."""
    held = list(refs)
    return Node("row", key, held[0].rpartition("@")[0] if held else "", "", {**facts, "in": held})


class _Walk:
    """The neighbours of each kind of node."""

    def __init__(self, conn: sa.Connection, count: Count) -> None:
        self.conn, self.count = conn, count
        self.tables = set(sa.inspect(conn).get_table_names())

    def causes(self, node: Node) -> Iterator[Node]:
        """What a node came from."""
        if node.kind == "dataset":
            yield from _runs(self.conn, ingestions.c.version == node.name)
            yield from _datasets(self.conn, node.facts["parents"])
        elif node.kind == "run":
            yield from _sources(self.conn, node.name)
        elif node.kind == "version":
            yield from self._made_of(node)
        elif node.kind == "row":
            yield Node("source", f"{node.of}/{node.facts['source']}", node.of)
        elif node.kind in ("answer", "evaluation", "release", "answers"):
            yield from _versions(self.conn, [node.facts["version"]])

    def effects(self, node: Node) -> Iterator[Node]:
        """What came of a node."""
        if node.kind == "source":
            name, _, label = node.name.partition("/")
            yield from _runs(self.conn, (ingestions.c.dataset == name) & (ingestions.c.source == label))
        elif node.kind == "run":
            yield from _datasets(self.conn, [node.facts["version"]])
        elif node.kind == "row":
            yield from _datasets(self.conn, node.facts["in"])
        elif node.kind == "dataset":
            yield from _datasets(self.conn, _children(self.conn, node.name))
            learned = versions.versions.c.dataset == node.name
            yield from _versions(self.conn, [f"{one.model}@{one.number}" for one in _models(self.conn, learned)])
        elif node.kind == "version":
            yield from self._led_to(node)

    def _made_of(self, node: Node) -> Iterator[Node]:
        version = versions.get(self.conn, node.name)
        yield from _datasets(self.conn, [version.dataset] if version.dataset else [])
        yield Node("base", version.base, node.of, "", {"digest": version.base_digest})
        yield from _versions(self.conn, [str(started)] if (started := version.recipe.get("started_from")) else [])
        if version.trial and "trials" in self.tables:
            for one in self.conn.execute(sa.select(TRIALS).where(TRIALS.c.id == version.trial)).mappings():
                facts = {"state": one["state"], "objective": one["objective"], "number": one["number"]}
                yield Node("trial", one["id"], node.of, one["started_at"], facts)

    def _led_to(self, node: Node) -> Iterator[Node]:
        later = (one for one in versions.of(self.conn, node.of) if one.recipe.get("started_from") == node.name)
        yield from (_version(one) for one in later)
        mine = sa.select(evaluations).where(evaluations.c.version == node.name).order_by(evaluations.c.created_at)
        if "evaluations" in self.tables:
            yield from (_evaluation(one) for one in self.conn.execute(mine).mappings())
        if "rollouts" in self.tables:
            released = sa.select(ROLLOUTS).where(ROLLOUTS.c.candidate == node.name).order_by(ROLLOUTS.c.id)
            yield from (_release(one) for one in self.conn.execute(released).mappings())
        if (answers := self.count(node.name)) is not None:
            yield Node("answers", node.name, node.of, "", {"count": answers, "version": node.name})


def _datasets(conn: sa.Connection, refs: Iterable[str]) -> Iterator[Node]:
    """Dataset versions by their names; one that nobody registered is passed over."""
    for ref in refs:
        name, _, number = ref.rpartition("@")
        mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == int(number or 0))
        for one in conn.execute(sa.select(dataset_versions).where(mine)).mappings():
            facts = {
                "rows": one["rows"],
                "made_by": one["transformation"].get("kind", ""),
                "digest": one["digest"],
                "parents": list(one["parents"]),
            }
            yield Node("dataset", ref, name, one["created_at"], facts)


def _children(conn: sa.Connection, ref: str) -> list[str]:
    query = sa.select(dataset_parents.c.dataset, dataset_parents.c.number).where(dataset_parents.c.parent == ref)
    ordered = query.order_by(dataset_parents.c.dataset, dataset_parents.c.number)
    return [f"{one.dataset}@{one.number}" for one in conn.execute(ordered)]


def _runs(conn: sa.Connection, which: sa.ColumnElement[bool]) -> Iterator[Node]:
    """Ingestion runs that ended in a version: one node each, however many sources it had."""
    runs = sa.select(ingestions.c.run).where(which, ingestions.c.version != "").distinct()
    query = sa.select(ingestions).where(ingestions.c.run.in_(runs)).order_by(ingestions.c.id)
    found: dict[str, list[sa.RowMapping]] = {}
    for one in conn.execute(query).mappings():
        found.setdefault(one["run"], []).append(one)
    for run, parts in found.items():
        rows, bad = sum(one["rows_in"] for one in parts), sum(one["rows_bad"] for one in parts)
        facts = {"rows": rows, "bad": bad, "version": parts[0]["version"]}
        yield Node("run", run, parts[0]["dataset"], parts[0]["started_at"], facts)


def _sources(conn: sa.Connection, run: str) -> Iterator[Node]:
    for one in conn.execute(sa.select(ingestions).where(ingestions.c.run == run).order_by(ingestions.c.id)).mappings():
        yield Node("source", f"{one['dataset']}/{one['source']}", one["dataset"], "", {})


def _versions(conn: sa.Connection, refs: Iterable[str]) -> Iterator[Node]:
    for ref in refs:
        try:
            yield _version(versions.get(conn, ref))
        except CirandaError:  # an answer may name what this registry never had
            continue


def _version(one: Version) -> Node:
    return Node("version", one.ref, one.model, one.created_at, {"stage": one.stage, "digest": one.digest})


def _models(conn: sa.Connection, which: sa.ColumnElement[bool]) -> list[Any]:
    columns = (versions.versions.c.model, versions.versions.c.number)
    return list(conn.execute(sa.select(*columns).where(which).order_by(*columns)))


def _evaluation(one: sa.RowMapping) -> Node:
    metric = next(iter(one["metrics"]), "")
    facts = {"version": one["version"], "suite": one["suite"], "metric": metric}
    value = one["metrics"][metric]["mean"] if metric else None
    return Node("evaluation", one["id"], one["model"], one["created_at"], {**facts, "value": value})


def _release(one: sa.RowMapping) -> Node:
    facts = {"version": one["candidate"], "state": one["state"], "stage": one["stage"]}
    return Node("release", one["id"], one["model"], one["started_at"], facts)


def _find_dataset(conn: sa.Connection, name: str) -> Node:
    dataset, _, number = name.partition("@")
    if not number:
        newest = sa.select(sa.func.max(dataset_versions.c.number)).where(dataset_versions.c.dataset == dataset)
        name = f"{dataset}@{conn.execute(newest).scalar() or 0}"
    datasets.parse_ref(name) if number else None
    return _only(_datasets(conn, [name]), "dataset version", name)


def _find_version(conn: sa.Connection, name: str) -> Node:
    if "@" in name:
        return _version(versions.get(conn, name))
    found = versions.live(conn, name)
    if found is None:
        raise NotFound(f"{name!r} has no live version", where="lineage", remedy="name one as model@number")
    return _version(found)


def _find_source(conn: sa.Connection, name: str) -> Node:
    dataset, _, label = name.partition("/")
    query = sa.select(ingestions.c.id).where(ingestions.c.dataset == dataset, ingestions.c.source == label).limit(1)
    found = [Node("source", name, dataset)] if conn.execute(query).first() else []
    return _only(found, "source", name)


def _find_run(conn: sa.Connection, name: str) -> Node:
    return _only(_runs(conn, ingestions.c.run == name), "ingestion that ended in a version", name)


def _find_evaluation(conn: sa.Connection, name: str) -> Node:
    found = conn.execute(sa.select(evaluations).where(evaluations.c.id == name)).mappings()
    return _only(map(_evaluation, found), "evaluation", name)


def _find_release(conn: sa.Connection, name: str) -> Node:
    if not sa.inspect(conn).has_table("rollouts"):
        raise Invalid("nothing was ever released", where="lineage", remedy="`ciranda promote` releases a version")
    found = conn.execute(sa.select(ROLLOUTS).where(ROLLOUTS.c.id == name)).mappings()
    return _only(map(_release, found), "release", name)


def _only(found: Iterable[Node], kind: str, name: str) -> Node:
    for one in found:
        return one
    raise NotFound(
        f"no {kind} {name[:200]!r}", where="lineage", remedy="`ciranda datasets` and `ciranda status` list them"
    )


_FIND: dict[str, Callable[[sa.Connection, str], Node]] = {
    "version": _find_version,
    "dataset": _find_dataset,
    "source": _find_source,
    "run": _find_run,
    "evaluation": _find_evaluation,
    "release": _find_release,
}
