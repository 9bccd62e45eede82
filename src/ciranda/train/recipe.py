"""A recipe: how one training run is done, as a value that is checked before anything heavy starts.

The defaults were measured on sentence templates never seen (docs/decisions/training.md): LoRA on the upper 12 of 30 layers, since
the backward pass stops there, and many small steps: of about the same rows, 240 steps of 2 gave 84 %, 60 of 8 gave 58 %.
`Spec` is what a job's folder holds; together with the base's digest and the rows it fixes the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ciranda.config import faults
from ciranda.errors import Invalid


class Recipe(BaseModel):
    """How to train one version. Every value has a measured default; the YAML file of a model names what differs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Annotated[Literal["sft"], Field(description="Supervised fine-tuning on the answers.")] = "sft"
    rank: Annotated[int, Field(ge=1, le=64, description="Rank of the LoRA matrices.")] = 8
    alpha: Annotated[float, Field(gt=0, le=512, description="LoRA scale; alpha / rank multiplies the update.")] = 16
    layers: Annotated[int, Field(ge=1, le=512, description="How many of the upper layers are trained.")] = 12
    learning_rate: Annotated[float, Field(gt=0, le=0.1, description="Peak rate, after the warm-up.")] = 3e-3
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Rows in one step.")] = 2
    steps: Annotated[int, Field(ge=1, le=1_000_000, description="Optimiser steps.")] = 240
    warmup_steps: Annotated[int, Field(ge=0, description="Steps in which the rate climbs.")] = 8
    max_tokens: Annotated[int, Field(ge=8, le=131_072, description="A longer row is left out, and counted.")] = 256
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Fixes order and initial values.")] = 17

    @model_validator(mode="after")
    def _warmup_within_steps(self) -> Recipe:
        if self.warmup_steps >= self.steps:
            object.__setattr__(self, "warmup_steps", max(0, self.steps // 10))
        return self

    def rate(self, step: int) -> float:
        """The learning rate of a step (from 0): a linear climb, then a linear fall that ends just above zero."""
        climb = self.warmup_steps
        if step < climb:
            return self.learning_rate * (step + 1) / (climb + 1)
        return self.learning_rate * (self.steps - step) / max(1, self.steps - climb)


def recipe(values: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Check a recipe as written.

    Raises:
        Invalid: an unknown key or a value out of bounds; names the key, the value and the keys there are.
    """
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise faults.invalid(
            error, what="recipe key", where=where, known=Recipe.model_fields, of="the keys of a recipe"
        ) from None


@dataclass(frozen=True)
class Spec:
    """One training job: everything its process needs to know. `output` may be relative to the job's folder."""

    base: Path
    rows: Path
    validation: Path
    output: Path
    recipe: Recipe
    init_adapter: Path | None = None
    threads: int = 0
    checkpoint_steps: int = 40

    def to_dict(self) -> dict[str, Any]:
        """The spec as `spec.json` holds it."""
        return {
            "kind": "train",
            "base": str(self.base),
            "rows": str(self.rows),
            "validation": str(self.validation),
            "output": str(self.output),
            "recipe": self.recipe.model_dump(),
            "init_adapter": str(self.init_adapter) if self.init_adapter else None,
            "threads": self.threads,
            "checkpoint_steps": self.checkpoint_steps,
        }

    @property
    def checkpoint(self) -> Path:
        """What a killed run goes on from."""
        return self.output / "checkpoint.safetensors"

    @property
    def digest(self) -> str:
        """Names the work: a checkpoint of other work is never continued. Threads and places do not change the work."""
        work = {"recipe": self.recipe.model_dump(), "init": str(self.init_adapter)}
        sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (self.base / "base.json", self.rows)]
        return hashlib.sha256(json.dumps([work, sums], sort_keys=True).encode()).hexdigest()


def spec(values: Mapping[str, Any], *, where: str = "spec.json") -> Spec:
    """The reverse of `Spec.to_dict`.

    Raises:
        Invalid: a part is missing or the recipe is wrong.
    """
    try:
        return Spec(
            base=Path(values["base"]),
            rows=Path(values["rows"]),
            validation=Path(values["validation"]),
            output=Path(values["output"]),
            recipe=recipe(values["recipe"], where=where),
            init_adapter=Path(values["init_adapter"]) if values.get("init_adapter") else None,
            threads=int(values.get("threads") or 0),
            checkpoint_steps=int(values.get("checkpoint_steps") or 40),
        )
    except KeyError as error:
        raise Invalid(f"the training spec lacks {error}", where=where, remedy="submit the job again") from None
