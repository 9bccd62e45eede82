"""What a search is asked to do, and what follows from how its trials stand. Pure: neither store nor clock is asked.

A plan is frozen into the search's row when it begins, so that a process that comes after a crash, or a model file that was
changed meanwhile, alters nothing of it; only the bounds may be raised when a search is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ciranda.train import spaces
from ciranda.train.recipe import Recipe
from ciranda.train.spaces import Space
from ciranda.train.trials import Trial

OBJECTIVE = "validation exact match"
MEASURES = {"latency": "latency_ms", "size": "size_mb"}
STARTS = ("init_adapter", "init_weights")
BOUNDS = ("limit", "budget_s", "money")


@dataclass(frozen=True)
class Place:
    """A prepared base: its folder, and how many layers it has."""

    folder: Path
    layers: int = 0


@dataclass(frozen=True)
class Plan:
    """What a search is asked to do.

    Args:
        id: Names the search; the same id is the same search.
        bases: Prepared bases by name; the first is what a trial starts from that says nothing else.
        rows: The JSON-lines files to train on by method and mix (`sft/corrections`), `validation` those to judge by, by method.
        recipe: The recipe as given: trial 0, and what all trials have where `space` says nothing.
        limit: How many trials; no new one begins `budget_s` after the start, nor when `money` would not suffice.
        price: One worker's hour.
        prune: Whether a trial that is far behind ends early.
        objectives: `quality` first; several are weighed by `within` and `prefer`.
        init_adapter: An adapter to go on from, whose shape the recipe then has, or `init_weights`, whole weights;
            `started_from` is the version that they are of.
    """

    id: str
    model: str
    dataset: str
    bases: Mapping[str, Place]
    rows: Mapping[str, Path]
    validation: Mapping[str, Path]
    recipe: Recipe = field(default_factory=Recipe)
    space: Space = field(default_factory=dict)
    limit: int = 2
    budget_s: float = 1200.0
    money: float | None = None
    price: float = 0.0
    prune: bool = True
    objectives: tuple[str, ...] = ("quality",)
    within: float = 0.02
    prefer: str = ""
    init_adapter: Path | None = None
    init_weights: Path | None = None
    started_from: str = ""
    policies: Mapping[str, Any] = field(default_factory=dict)
    turn: str = ""

    @property
    def base(self) -> str:
        """The base that a trial starts from which says nothing else."""
        return next(iter(self.bases))

    @property
    def mix(self) -> str:
        """The mix of a trial that says nothing of it."""
        return next(iter(self.rows)).partition("/")[2]

    @property
    def compared(self) -> bool:
        """Whether methods are compared: each validates by a measure of its own, so quality is asked of the served result."""
        return len(self.validation) > 1

    @property
    def measured(self) -> tuple[str, ...]:
        """What is measured of a result beside its quality."""
        return tuple(MEASURES[name] for name in self.objectives if name in MEASURES)

    def to_dict(self) -> dict[str, Any]:
        """The plan as its row keeps it."""
        whole = {name: value for name, value in self.__dict__.items() if name not in ("id", "model", "dataset", "turn")}
        return whole | {
            "bases": {name: {"folder": str(one.folder), "layers": one.layers} for name, one in self.bases.items()},
            "rows": {name: str(path) for name, path in self.rows.items()},
            "validation": {method: str(path) for method, path in self.validation.items()},
            "recipe": self.recipe.model_dump(mode="json"),
            "space": spaces.to_dict(self.space),
            "objectives": list(self.objectives),
            **{name: str(at) if (at := getattr(self, name)) else None for name in STARTS},
            "policies": dict(self.policies),
        }


def of(row: Mapping[str, Any]) -> Plan | None:
    """The plan of a search's row; None while it is only asked for, and its rows are not written yet."""
    held = dict(row["plan"])
    if "rows" not in held:
        return None
    bases = {name: Place(Path(one["folder"]), one["layers"]) for name, one in held["bases"].items()}
    return Plan(
        **held | {
            "id": row["id"], "model": row["model"], "dataset": row["dataset"], "turn": row["turn"], "bases": bases,
            "rows": _paths(held["rows"]), "validation": _paths(held["validation"]),
            "recipe": Recipe(**held["recipe"]), "space": spaces.of(held["space"]), "objectives": tuple(held["objectives"]),
            **{name: Path(held[name]) if held[name] else None for name in STARTS},
        }
    )  # fmt: skip


def _paths(held: Mapping[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in held.items()}


def raised(plan: Mapping[str, Any], bounds: Mapping[str, Any]) -> dict[str, Any]:
    """A kept plan with other bounds, where they were given."""
    return {**plan, **{name: value for name, value in bounds.items() if name in BOUNDS and value is not None}}


@dataclass(frozen=True)
class Move:
    """What a search does next: begin a trial, wait for one, or end with a best one (None: all failed)."""

    kind: Literal["begin", "wait", "end"]
    best: int | None = None


def decide(plan: Plan, done: Sequence[Trial], *, elapsed_s: float, places: int) -> Move:
    """What to do next, from the trials so far. At least one trial is made, however small the budget."""
    running = [trial for trial in done if trial.open]
    if may_begin(plan, done, elapsed_s=elapsed_s):
        if len(running) < places:
            return Move("begin")
        return Move("wait")
    return Move("wait") if running else Move("end", chosen(plan, done))


def may_begin(plan: Plan, done: Sequence[Trial], *, elapsed_s: float) -> bool:
    """Whether the bounds leave room for one more trial: its number, the time, and the money that one took so far."""
    if not done:
        return True
    if len(done) >= plan.limit or elapsed_s >= plan.budget_s:
        return False
    return plan.money is None or expected(plan, done) <= plan.money


def cost(plan: Plan, seconds: float) -> float:
    """What a worker's time costs."""
    return seconds / 3600 * plan.price


def spent(plan: Plan, done: Sequence[Trial]) -> float:
    """What the trials cost so far."""
    return cost(plan, sum(trial.spent_s for trial in done))


def expected(plan: Plan, done: Sequence[Trial]) -> float:
    """What it will have cost when those under way and one more have ended, each as long as the longest so far."""
    ended = [trial.spent_s for trial in done if not trial.open]
    longest = max(ended or [trial.spent_s for trial in done], default=0.0)
    open_ = [max(trial.spent_s, longest) for trial in done if trial.open]
    return cost(plan, sum(ended) + sum(open_) + longest)


def values(plan: Plan, trial: Trial) -> tuple[float, ...] | None:
    """What a complete trial reached, in the order of the objectives; None when a measure is missing."""
    found = [trial.objective, *(trial.measures.get(name) for name in plan.measured)]
    return None if any(value is None for value in found) else tuple(float(value or 0.0) for value in found)


def chosen(plan: Plan, done: Sequence[Trial]) -> int | None:
    """The number of the trial that won.

    By quality alone: highest, then surest (lowest loss), then first. With more objectives: of those whose quality is at most
    `within` less than the highest, the best by the preferred one, then by quality, then by what is left. It is never dominated.
    """
    complete = [trial for trial in done if trial.state == "complete" and values(plan, trial) is not None]
    if not complete:
        return None
    top = max(trial.objective or 0.0 for trial in complete)
    preferred = [MEASURES[plan.prefer or plan.objectives[1]], *plan.measured] if plan.measured else []
    near = [trial for trial in complete if not preferred or (trial.objective or 0.0) >= top - plan.within - 1e-9]

    def rank(one: Trial) -> tuple[Any, ...]:
        first, *others = [one.measures[name] for name in preferred] or [0.0]
        return first, -(one.objective or 0.0), *others, one.loss or 0.0, one.number

    return min(near, key=rank).number


def front(plan: Plan, done: Sequence[Trial]) -> frozenset[int]:
    """The numbers of the trials that no other beats in one objective without losing in another."""
    reached = {trial.number: found for trial in done if trial.state == "complete" and (found := values(plan, trial))}
    turned = {number: (-found[0], *found[1:]) for number, found in reached.items()}
    return frozenset(
        number
        for number, mine in turned.items()
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in turned.values())
    )


def checked(plan: Plan, recipe: Recipe) -> Recipe:
    """The recipe with validation at each quarter of its run, where trials may be ended by it and it says nothing of its own."""
    if not plan.prune or plan.limit <= TELLING or recipe.validate_every:
        return recipe
    return recipe.model_copy(update={"validate_every": max(1, recipe.steps // QUARTERS)})


TELLING = 3  # trials that must have ended before one is called behind
QUARTERS = 4
