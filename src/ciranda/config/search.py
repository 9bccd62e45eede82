"""How the recipe is looked for: `train.search` of a model's file.

    search:
      trials: 8
      budget: 20m
      money: 2.50                                       # of it, nothing more is begun; `price` is one worker's hour
      price: 0.40
      objectives: [quality, latency]                    # several are weighed; `within` and `prefer` say how one is chosen
      space:
        learning_rate: {low: 0.001, high: 0.006}        # a range, over its logarithm unless `log: false`
        rank: [4, 8, 16]                                # or some values
        base: [smollm2-135m-instruct, ../bases/other]
        mix: [everything, corrections]
      mixes:
        everything: {}                                  # the rows as they are
        corrections: {"source:interactions: feedback": 3, "language:pt": 0.5}

Names in `space` are those of a recipe, and `base` and `mix`. What stands there is checked against the recipe by `train.spaces`,
before anything is applied.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, field_validator, model_validator

from ciranda.config.shape import NAME, Duration, Part

Objective = Literal["quality", "latency", "size"]
Weight = Annotated[float, Field(ge=0, le=20)]
Value = StrictBool | StrictInt | StrictFloat | StrictStr  # else the number 1 would become true
SLICE = re.compile(r"(language|source):\S.*")


class Span(Part):
    """A number to look for between two bounds."""

    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value.")
    log: bool = Field(True, description="Look evenly over its logarithm.")
    step: float = Field(0.0, ge=0, description="Only multiples of this from `low` on; 0 is any. Not with `log`.")

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.low >= self.high:
            raise ValueError("`low` is less than `high`")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("over a logarithm, `low` is above 0 and there is no `step`; write `log: false`")
        return self


Choices = Annotated[tuple[Value, ...], Field(min_length=1, max_length=50)]


class Search(Part):
    """How the recipe is looked for."""

    trials: int = Field(2, ge=1, le=1000, description="How many recipes to try.")
    budget: Duration = Field(1200.0, description="No new trial starts after this long.")
    money: float | None = Field(None, gt=0, description="No new trial starts that would spend more, by `price`.")
    price: float = Field(0.0, ge=0, description="One worker's hour, in the currency of your budgets.")
    workers: int = Field(0, ge=0, le=256, description="Trials at the same time; 0 fits them to the machine.")
    prune: bool = Field(
        True, description="End a trial early that is behind the others' median at the same part of its run."
    )
    objectives: tuple[Objective, ...] = Field(
        ("quality",),
        min_length=1,
        max_length=3,
        description="What is weighed: `quality` first, then the time of an answer, the bytes that are served.",
    )
    within: float = Field(
        0.02, ge=0, le=1, description="With several objectives: how much quality may be given up for the preferred one."
    )
    prefer: Literal["latency", "size"] | None = Field(
        None, description="What it may be given up for; without it, the second objective."
    )
    space: dict[str, Span | Choices] = Field(
        default={}, description="What may vary, by name; without it: rate, rank and layers around their defaults."
    )
    mixes: dict[str, dict[str, Weight]] = Field(
        default={},
        description="Shares of rows by name: how often rows of `language:x` or `source:y` are used; 0 leaves them out.",
    )

    @field_validator("mixes")
    @classmethod
    def _sliced(cls, mixes: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, shares in mixes.items():
            if not re.match(NAME, name):
                raise ValueError(f"{name!r} names no mix; use a-z, 0-9 and -")
            wrong = [slice_ for slice_ in shares if not SLICE.fullmatch(slice_)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no part of the rows; write language:en or source:<its label>")
        return mixes

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        if self.objectives[0] != "quality" or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives begin with `quality`, each stands once")
        if self.prefer and self.prefer not in self.objectives:
            raise ValueError(f"`prefer: {self.prefer}` is none of the objectives")
        if self.money is not None and not self.price:
            raise ValueError("`money` needs `price`, what one worker's hour costs")
        mixes = self.space.get("mix", ())
        unknown = [one for one in mixes if one not in self.mixes] if isinstance(mixes, tuple) else ["a range"]
        if unknown:
            raise ValueError(f"mix {unknown[0]!r} is none of `mixes`: {', '.join(self.mixes) or 'there are none'}")
        return self
