"""A recipe: how one training run is done, as a value that is checked before anything heavy starts.

    method    sft: answers · dpo: the chosen answer rather than the rejected one · kto: answers with thumbs · pretrain: plain text
    tuning    lora: small matrices beside the frozen weights · full: the weights themselves

The defaults were measured on sentence templates never seen (docs/decisions/training.md): LoRA on the upper 12 of 30 layers, since
the backward pass stops there, and many small steps: of about the same rows, 240 steps of 2 gave 84 %, 60 of 8 gave 58 %. Methods
that push answers apart, and weights that are tuned themselves, want smaller steps: what is not written follows from both (`usual`).
`Spec` is what a job's folder holds; together with the base's digest and the rows it fixes the result.

Refused here: what contradicts itself (DoRA of a full fine-tuning). What an engine could not serve, the engine refuses
(`engines.llamacpp.servable`), as early.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ciranda.config import faults
from ciranda.errors import Invalid
from ciranda.store import files

Method = Literal["sft", "dpo", "kto", "pretrain"]
Tuning = Literal["lora", "full"]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPE = ("tuning", "rank", "alpha", "layers", "targets", "rslora", "dora", "merge")
"""What fixes which numbers there are to train; the other keys say how they are trained."""
PREFERRING = ("dpo", "kto")


def usual(method: str, tuning: str) -> dict[str, Any]:
    """What a recipe has where nothing is written, by method and tuning."""
    rate = {"lora": {"sft": 3e-3, "pretrain": 1e-3, "dpo": 3e-4, "kto": 3e-4}, "full": {"dpo": 5e-6, "kto": 5e-6}}
    found: dict[str, Any] = {"learning_rate": rate.get(tuning, {}).get(method, 1e-4)}
    if tuning == "full":
        found["layers"] = 0
    if method in PREFERRING:
        found |= {"batch_size": 4, "steps": 24, "rehearse": 8}
    return found


class Recipe(BaseModel):
    """How to train one version. Every value has a measured default; the YAML file of a model names what differs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Annotated[Method, Field(description="What is learnt from: answers, pairs, thumbs, or text.")] = "sft"
    tuning: Annotated[Tuning, Field(description="`lora` trains an adapter, `full` the weights themselves.")] = "lora"
    rank: Annotated[int, Field(ge=1, le=64, description="Rank of the LoRA matrices.")] = 8
    alpha: Annotated[float, Field(gt=0, le=512, description="LoRA scale; alpha / rank multiplies the update.")] = 16
    layers: Annotated[int, Field(ge=0, le=512, description="How many of the upper layers are trained; 0 is all.")] = 12
    targets: Annotated[tuple[str, ...], Field(min_length=1, description="Projections with LoRA matrices.")] = TARGETS
    rslora: Annotated[bool, Field(description="Scale by alpha over the root of rank, for higher ranks.")] = False
    dora: Annotated[bool, Field(description="Magnitude and direction apart; needs `merge` to be served.")] = False
    merge: Annotated[bool, Field(description="Leave whole weights with the adapter merged in.")] = False
    beta: Annotated[float, Field(gt=0, le=100, description="Pull back to the reference (`dpo`, `kto`).")] = 1.0
    learning_rate: Annotated[float, Field(gt=0, le=0.1, description="Peak rate, after the warm-up.")] = 3e-3
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Rows in one step.")] = 2
    steps: Annotated[int, Field(ge=1, le=1_000_000, description="Optimiser steps.")] = 240
    warmup_steps: Annotated[int, Field(ge=0, description="Steps in which the rate climbs.")] = 8
    max_tokens: Annotated[int, Field(ge=8, le=131_072, description="A longer row is left out, and counted.")] = 256
    anchor: Annotated[float, Field(ge=0, le=100, description="Weight of right answers' own loss (`dpo`, `kto`).")] = (
        10.0
    )
    rehearse: Annotated[
        int, Field(ge=0, le=1024, description="Right answers taught again in each step (`dpo`, `kto`).")
    ] = 0
    validate_every: Annotated[int, Field(ge=0, description="Steps between looks at validation; 0 only at the end.")] = 0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Fixes order and initial values.")] = 17

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**usual(str(values.get("method", "sft")), str(values.get("tuning", "lora"))), **values}

    @field_validator("targets")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        odd = sorted(set(value) - set(TARGETS))
        if odd:
            raise ValueError(f"no projection is called {odd[0]}; there are {', '.join(TARGETS)}")
        return tuple(name for name in TARGETS if name in value)

    @field_validator("rslora", "dora", "merge")
    @classmethod
    def _of_lora(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("tuning") == "full":
            raise ValueError("it is a way of LoRA; leave it out, or write `tuning: lora`")
        return value

    @model_validator(mode="after")
    def _warmup_within_steps(self) -> Recipe:
        if self.warmup_steps >= self.steps:
            object.__setattr__(self, "warmup_steps", max(0, self.steps // 10))
        return self

    @property
    def whole(self) -> bool:
        """Whether the run leaves whole weights rather than an adapter."""
        return self.tuning == "full" or self.merge

    @property
    def shape(self) -> dict[str, Any]:
        """The keys that fix which numbers there are to train."""
        return self.model_dump(include=set(SHAPE))

    def looks(self, step: int) -> bool:
        """Whether validation is looked at after this step (from 1); after the last one it is looked at anyway."""
        return bool(self.validate_every) and step % self.validate_every == 0 and step < self.steps

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
    """One training job: everything its process needs to know. `output` may be relative to the job's folder.

    Args:
        init_adapter: A PEFT folder to go on from: in its own shape, or, for another shape or full fine-tuning, merged first.
        init_weights: A folder of whole weights to go on from; a LoRA on them is merged at the end, since an adapter is served
            beside its own base only.
    """

    base: Path
    rows: Path
    validation: Path
    output: Path
    recipe: Recipe
    init_adapter: Path | None = None
    init_weights: Path | None = None
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
            "init_weights": str(self.init_weights) if self.init_weights else None,
            "threads": self.threads,
            "checkpoint_steps": self.checkpoint_steps,
        }

    @property
    def whole(self) -> bool:
        """Whether the job leaves whole weights: full fine-tuning, a merged adapter, or one on weights that are no base's."""
        return self.recipe.whole or self.init_weights is not None

    @property
    def checkpoint(self) -> Path:
        """What a killed run goes on from."""
        return self.output / "checkpoint.safetensors"

    @property
    def digest(self) -> str:
        """Names the work: a checkpoint of other work is never continued. Threads and places do not change the work."""
        start = self.init_adapter or self.init_weights
        work = {"recipe": self.recipe.model_dump(), "init": files.sha256_of_folder(start) if start else ""}
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
            init_weights=Path(values["init_weights"]) if values.get("init_weights") else None,
            threads=int(values.get("threads") or 0),
            checkpoint_steps=int(values.get("checkpoint_steps") or 40),
        )
    except KeyError as error:
        raise Invalid(f"the training spec lacks {error}", where=where, remedy="submit the job again") from None
