"""What may vary in a search: a range or some values for each name of a recipe, and for `base` and `mix`.

Without a space of its own a model's file gets the one that measurably mattered (docs/decisions/training.md). What the file fixes
under `recipe` never varies. Where the search goes on from the live version's adapter its shape is given, so nothing of the shape
varies; a file that names shape or bases in its space has every trial start afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.config.search import Span
from ciranda.errors import Invalid
from ciranda.train import recipe as recipes
from ciranda.train.recipe import Recipe

Value = bool | int | float | str
BASE, MIX = "base", "mix"
SHAPE = (*recipes.SHAPE, BASE)


@dataclass(frozen=True)
class Range:
    """A number to look for between two bounds, evenly over its logarithm when `log`; `whole` ones in steps of `step` or 1."""

    low: float
    high: float
    log: bool = True
    step: float = 0.0
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high


Space = Mapping[str, Range | tuple[Value, ...]]


def holds(what: Range | tuple[Value, ...], value: Any) -> bool:
    """Whether a value is one of those that may be."""
    return what.holds(value) if isinstance(what, Range) else value in what


def afresh(spec: ModelSpec) -> bool:
    """Whether the space of a model's file varies what an adapter to go on from would fix."""
    return any(name in SHAPE for name in spec.train.search.space)


def space(
    spec: ModelSpec, recipe: Recipe, *, layers: int, going_on: bool = False
) -> dict[str, Range | tuple[Value, ...]]:
    """What a search of this model varies.

    Args:
        recipe: The recipe as given: its method and tuning say which rates are worth a try.
        layers: How many layers the base has.
        going_on: From an existing adapter, whose shape is then fixed.
    """
    given = spec.train.search.space
    if given:
        return {name: _read(name, what) for name, what in given.items() if name not in spec.train.recipe}
    middle = recipes.usual(recipe.method, recipe.tuning)["learning_rate"]
    rate = Range(middle / 3, middle * 4 / 3) if going_on else Range(middle / 2, middle * 2)
    found: dict[str, Range | tuple[Value, ...]] = {"learning_rate": rate}
    if not going_on and recipe.tuning == "lora":
        found |= {"rank": (8, 16), "layers": tuple(sorted({layers * 2 // 5, layers // 2}))}
    if spec.train.search.mixes:
        found[MIX] = tuple(spec.train.search.mixes)
    return {name: what for name, what in found.items() if name not in spec.train.recipe}


def check(spec: ModelSpec) -> None:
    """Refuse a space that no recipe could be drawn from, before anything is applied.

    Raises:
        Invalid: A name is none of a recipe's, is fixed as well, or a bound is out of what it may be.
    """
    for name, what in spec.train.search.space.items():
        where = f"{spec.model}: train.search.space.{name}"
        if name in spec.train.recipe:
            raise Invalid(f"{name} varies and is fixed", where=where, remedy="leave it out of `space` or of `recipe`")
        if name in (BASE, MIX):
            if isinstance(what, Span):
                raise Invalid(f"{name} is no number", where=where, remedy="write a list of names")
            continue
        if isinstance(what, Span) and not _numeric(name, where):
            raise Invalid(f"{name} is no number", where=where, remedy="write a list of values")
        for value in (what.low, what.high) if isinstance(what, Span) else what:
            recipes.recipe({**spec.train.recipe, name: _whole(name, value)}, where=where)


def drawn(given: Recipe, values: Mapping[str, Any], *, where: str) -> Recipe:
    """The recipe with what was drawn for it. The scale follows the rank, so that a rank alone changes no step's size; what is usual
    for a method or a tuning follows these, where nothing else was said.

    Raises:
        Invalid: The values do not go together.
    """
    mine = {name: _short(value) for name, value in values.items() if name not in (BASE, MIX)}
    if "rank" in mine and "alpha" not in mine:
        mine["alpha"] = given.alpha / given.rank * mine["rank"]
    usual, held = recipes.usual(given.method, given.tuning), given.model_dump()
    unsaid = {name for name, value in usual.items() if held[name] == value and {"method", "tuning"} & set(mine)}
    return recipes.recipe({name: value for name, value in held.items() if name not in unsaid} | mine, where=where)


def _read(name: str, what: Span | tuple[Value, ...]) -> Range | tuple[Value, ...]:
    if isinstance(what, Span):
        whole = _integer(name)
        return Range(what.low, what.high, what.log, what.step or (1.0 if whole and not what.log else 0.0), whole)
    return tuple(what)


def _numeric(name: str, where: str) -> bool:
    if name not in Recipe.model_fields:
        recipes.recipe({name: 0}, where=where)  # says which names there are
    return Recipe.model_fields[name].annotation in (int, float)


def _integer(name: str) -> bool:
    return name in Recipe.model_fields and Recipe.model_fields[name].annotation is int


def _whole(name: str, value: Any) -> Any:
    return int(value) if _integer(name) and isinstance(value, float) and value.is_integer() else value


def _short(value: Any) -> Any:
    """Three digits of a rate say all that a search can know of it."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def to_dict(found: Space) -> dict[str, Any]:
    """The space as a search's row keeps it."""
    return {name: vars(what) if isinstance(what, Range) else list(what) for name, what in found.items()}


def of(values: Mapping[str, Any]) -> dict[str, Range | tuple[Value, ...]]:
    """The reverse of `to_dict`."""
    return {name: Range(**what) if isinstance(what, Mapping) else tuple(what) for name, what in values.items()}
