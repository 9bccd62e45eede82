"""What a training run will take, before it begins: time, memory, money. Pure arithmetic on shapes, put right by what was measured.

Work is counted in multiplications: forward through all layers, backward through the trained ones, logits at answer tokens only.
Time is work over speed; the speed is what earlier runs on this base reached here, else what this machine's processors multiply
now, times `EFFICIENCY`. Memory is the weights, the numbers in training with their gradients and moments, what a step keeps for its
backward pass, and logits; the constants come from runs of the packaged base (docs/runs.md has the table), and earlier runs here put
them right.

A run that takes more memory than the machine has is refused before anything is loaded, with what would fit. One that merely takes
long is told and not refused: how long is too long is the reader's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ciranda.errors import Refused
from ciranda.train.packing import PACK_TOKENS
from ciranda.train.recipe import PREFERRING, Recipe

FLOAT_BYTES = 4
EFFICIENCY = 0.7  # of a plain matrix product's speed; measured on the packaged base, 12 of 30 layers
LOADING_S = 15.0
RUNTIME_BYTES = 500 << 20  # interpreter, torch and transformers
TRL_BYTES = 200 << 20  # TRL, datasets and accelerate
KEPT = 2.0  # numbers that a trained layer keeps for each token, in units of eight hidden and four inner vectors
HELD = 5  # copies of each number in training: itself, two moments, and a checkpoint in the making or its gradient
LOGITS = 3.5  # copies of the logits at the widest moment
CHARACTERS = 3.2  # in a token, roughly, where no run has told
TEMPLATE_TOKENS = 7  # that a chat template puts around a message
PAIRED = {"dpo": 2.0, "kto": 1.0}  # sequences of a row
REFERENCE = {"dpo": 1.0, "kto": 3.0}  # passes without a gradient beside the one that is trained
PADDED = 1.9  # TRL pads rows, repeats the system prompt in each, and makes logits everywhere (bench/train.py)
MARGIN = 1.15
RATIOS = (0.5, 2.0)  # how far earlier runs may put the arithmetic right


@dataclass(frozen=True)
class Shape:
    """What matters of a base: layers, widths, vocabulary. All zero for a base without weights."""

    layers: int = 0
    hidden: int = 0
    inner: int = 0
    vocabulary: int = 0
    narrow: float = 1.0  # width of keys and values over the hidden width

    @property
    def layer(self) -> float:
        """Weights of one layer."""
        return self.hidden * self.hidden * (2 + 2 * self.narrow) + 3 * self.hidden * self.inner

    @property
    def weights(self) -> float:
        return self.layers * self.layer + self.vocabulary * self.hidden


@dataclass(frozen=True)
class Load:
    """What a run reads: rows, tokens of a row and of its answer, rows to validate by."""

    rows: int
    tokens: float
    answer: float
    validation: int


@dataclass(frozen=True)
class Past:
    """One earlier run on this base here."""

    recipe: Recipe
    load: Load
    tokens_per_s: float
    seconds: float
    peak_rss_bytes: float


@dataclass(frozen=True)
class Machine:
    """Where it will run: multiplications in a second for one run, bytes there, bytes free now."""

    flops: float
    memory_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What one run takes, and a whole search of them.

    Args:
        seconds: Of one run.
        memory_bytes: Of one run at its widest.
        trials: How many runs the search makes at most, `abreast` of them at the same time.
        search_s: Until the last of them ends.
        cost: Of all of them, in the currency of the model's file; 0 without a price.
        basis: What it rests on: `runs` that were measured here (so many), or this machine's `speed`.
        memory_there_bytes: What the machine has.
        problem: Why it cannot be done; empty when it can.
        remedy: What would fit.
    """

    seconds: float
    memory_bytes: int
    trials: int
    abreast: int
    search_s: float
    cost: float
    rows: int
    tokens: float
    runs: int
    memory_there_bytes: int
    problem: str = ""
    remedy: str = ""

    @property
    def basis(self) -> str:
        return f"{self.runs} runs measured here" if self.runs else "this machine's speed"

    @property
    def summary(self) -> str:
        """One line for people."""
        each = f"about {_span(self.seconds)} and {self.memory_bytes / 1e9:.1f} GB a trial"
        whole = f"{self.trials} trials {_span(self.search_s)}" if self.trials > 1 else ""
        money = f"{self.cost:.2f} in money" if self.cost else ""
        return ", ".join(part for part in (each, whole, money, f"by {self.basis}") if part)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "basis": self.basis, "summary": self.summary}

    def demand(self, *, where: str) -> None:
        """Raise Refused when it cannot be done."""
        if self.problem:
            raise Refused(self.problem, where=where, remedy=self.remedy)


def shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a base's `config.json` says; none for a base without weights."""
    hidden, heads = int(config.get("hidden_size") or 0), int(config.get("num_attention_heads") or 0)
    if not hidden:
        return Shape(int(config.get("num_hidden_layers") or 0))
    narrow = (int(config.get("num_key_value_heads") or heads) / heads) if heads else 1.0
    inner = int(config.get("intermediate_size") or 4 * hidden)
    return Shape(int(config["num_hidden_layers"]), hidden, inner, int(config.get("vocab_size") or 0), narrow)


def work(shape: Shape, recipe: Recipe, load: Load) -> float:
    """Multiplications and additions for one token of a row, trained."""
    trained, judged = _trained(shape, recipe), _judged(recipe, load)
    forward = 2 * shape.layers * shape.layer + 2 * judged * shape.vocabulary * shape.hidden
    backward = 2 * trained * shape.layer + 2 * judged * shape.vocabulary * shape.hidden
    if recipe.tuning == "full":
        backward *= 2
    if recipe.method not in PREFERRING:
        return forward + backward
    compared = PAIRED[recipe.method] * (forward * (1 + REFERENCE[recipe.method]) + backward)
    return compared * PADDED + (forward + backward) * recipe.rehearse / recipe.batch_size


def memory(shape: Shape, recipe: Recipe, load: Load) -> float:
    """Bytes at the widest moment, by arithmetic alone."""
    if not shape.hidden:
        return 80 << 20
    trained = _trained(shape, recipe)
    numbers = _numbers(shape, recipe)
    paired = PAIRED.get(recipe.method, 1.0)
    tokens = min(recipe.batch_size * load.tokens * paired, max(PACK_TOKENS, recipe.max_tokens))
    trl = recipe.method in PREFERRING
    again = recipe.rehearse * load.tokens if trl else 0.0
    judged = tokens * (1.0 if trl else _judged(recipe, load)) + again * _judged(recipe, load)
    kept = KEPT * trained * (tokens + again) * (8 * shape.hidden + 4 * shape.inner)
    looked = min(PACK_TOKENS, load.validation * load.tokens) * _judged(recipe, load)
    wide = max(kept + LOGITS * judged * shape.vocabulary, 2 * looked * shape.vocabulary)
    return RUNTIME_BYTES + (TRL_BYTES if trl else 0) + FLOAT_BYTES * (shape.weights + HELD * numbers + wide)


def _judged(recipe: Recipe, load: Load) -> float:
    """The share of a row's tokens that are judged: all of a text, of a conversation the answer."""
    return 1.0 if recipe.method == "pretrain" else min(1.0, load.answer / max(load.tokens, 1.0))


def _trained(shape: Shape, recipe: Recipe) -> int:
    return min(shape.layers, recipe.layers or shape.layers)


def _numbers(shape: Shape, recipe: Recipe) -> float:
    """Numbers in training; all layers in full are the embedding too."""
    if recipe.tuning == "full" and not recipe.layers:
        return shape.weights
    return _trained(shape, recipe) * (shape.layer if recipe.tuning == "full" else _lora(shape, recipe))


def _lora(shape: Shape, recipe: Recipe) -> float:
    """Numbers in one layer's adapter."""
    sides = {"gate_proj": shape.hidden + shape.inner, "up_proj": shape.hidden + shape.inner}
    sides |= {"down_proj": shape.hidden + shape.inner, "q_proj": 2 * shape.hidden, "o_proj": 2 * shape.hidden}
    return recipe.rank * sum(sides.get(name, shape.hidden * (1 + shape.narrow)) for name in recipe.targets)


def estimate(
    shape: Shape, recipe: Recipe, load: Load, machine: Machine, *, past: Sequence[Past] = (), trials: int = 1,
    budget_s: float = 0.0, abreast: int = 0, price: float = 0.0,
) -> Estimate:  # fmt: skip
    """What a search of this recipe takes. Pure.

    Args:
        past: Earlier runs on this base here; they put the arithmetic right.
        budget_s: No trial begins after this long; 0 for no bound.
        abreast: Trials at the same time; 0 fits them to the memory that is free.
        price: Of one run's hour.
    """
    known = [one for one in past if one.tokens_per_s > 0]
    each = int(memory(shape, recipe, load) * MARGIN * _right(shape, known))
    seconds = _seconds(shape, recipe, load, machine, known)
    places = max(1, min(trials, abreast or machine.free_bytes // max(each, 1)))
    rounds = -(-trials // places)
    if budget_s and seconds:
        rounds = min(rounds, int(budget_s // seconds) + 1)
    made = min(trials, rounds * places)
    problem, remedy = _problem(shape, recipe, load, machine, each / max(memory(shape, recipe, load), 1.0))
    return Estimate(
        round(seconds, 1), each, made, places, round(rounds * seconds, 1), round(price * made * seconds / 3600, 4), load.rows,
        round(load.tokens, 1), len(known), machine.memory_bytes, problem, remedy,
    )  # fmt: skip


def _seconds(shape: Shape, recipe: Recipe, load: Load, machine: Machine, known: Sequence[Past]) -> float:
    tokens = recipe.steps * recipe.batch_size * load.tokens
    looks = 1 + (recipe.steps - 1) // recipe.validate_every if recipe.validate_every else 1
    mine, seen = work(shape, recipe, load), 2 * shape.layers * shape.layer
    if known:
        speed = median(one.tokens_per_s * max(work(shape, one.recipe, one.load), 1.0) for one in known)
        beside = median(_beside(one) for one in known)
    else:
        speed, beside = machine.flops * EFFICIENCY, LOADING_S if shape.hidden else 1.0
        beside += load.validation * load.tokens * seen / max(speed, 1.0)
    if not shape.hidden and not known:
        return beside
    more = (looks - 1) * load.validation * load.tokens * seen / max(speed, 1.0)
    return beside + tokens * max(mine, 1.0) / max(speed, 1.0) + more


def _beside(one: Past) -> float:
    """Seconds of an earlier run that were not steps: loading, validating, writing."""
    steps_s = one.recipe.steps * one.recipe.batch_size * one.load.tokens / one.tokens_per_s
    return max(0.5, one.seconds - steps_s)


def _right(shape: Shape, known: Iterable[Past]) -> float:
    """What earlier runs took over what the arithmetic says of them."""
    found = [
        one.peak_rss_bytes / memory(shape, one.recipe, one.load) / MARGIN for one in known if one.peak_rss_bytes > 0
    ]
    return max(RATIOS[0], min(RATIOS[1], max(found))) if found else 1.0


def _problem(shape: Shape, recipe: Recipe, load: Load, machine: Machine, factor: float) -> tuple[str, str]:
    """Why it cannot fit, and what would."""

    def takes(other: Recipe) -> float:
        return memory(shape, other, load) * factor

    if takes(recipe) <= machine.memory_bytes:
        return "", ""
    said = (
        f"a trial takes about {takes(recipe) / 1e9:.1f} GB of memory, the machine has {machine.memory_bytes / 1e9:.1f}"
    )
    for changes in _smaller(recipe, shape):
        other = recipe.model_copy(update=changes)
        if takes(other) <= machine.memory_bytes:
            what = ", ".join(f"{name}: {value}" for name, value in changes.items())
            return said, f"write `recipe: {{{what}}}` under `train` ({takes(other) / 1e9:.1f} GB), or take more memory"
    return said, "take a smaller base, or a machine with more memory"


def _smaller(recipe: Recipe, shape: Shape) -> Iterable[dict[str, Any]]:
    """Recipes that take less, the least change first."""
    batch, layers = recipe.batch_size, recipe.layers or shape.layers
    sizes = [size for size in (batch // 2, batch // 4, batch // 8, 1) if 0 < size < batch]
    yield from ({"batch_size": size} for size in dict.fromkeys(sizes))
    depths = [depth for depth in (layers // 2, layers // 4, 1) if 0 < depth < layers]
    yield from ({"batch_size": 1, "layers": depth} for depth in depths)
    if recipe.tuning == "full":
        yield {"batch_size": 1, "layers": max(1, layers // 4), "tuning": "lora"}


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
