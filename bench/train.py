"""How fast the training loop is, beside the loop that anybody would write first, on the same rows and the same weights.

    python bench/train.py             some three minutes of one core
    python bench/train.py --quick     a minute

The bare loop is plain PyTorch with PEFT: rows padded to the longest of the batch, labels masked, the model's own loss. Both
train the same adapter for the same steps on one thread, in turns, so that a busy machine slows both. Counted in tokens of rows,
prompt included, for each second of processor time. Held: at least 0.95 of the bare loop; the losses agree. Written to
bench/results/train.json; exit code 1 when it is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import torch
import transformers

from ciranda import config
from ciranda.engines import hassil, peft, peft_job, peft_shape
from ciranda.train import bases
from ciranda.train.packing import Tokens
from ciranda.train.recipe import Recipe, Spec

RESULTS = Path(__file__).parent / "results"
NAME = "smollm2-135m-instruct"
HELD = 0.95


@dataclass(frozen=True)
class Pace:
    """What one loop did."""

    tokens: int
    cpu_s: float
    losses: tuple[float, ...]

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.cpu_s


def prepared(folder: Path) -> Path:
    """The packaged base, from this machine's cache or prepared now."""
    cache = Path(config.settings(config.home(folder)).cache)
    job = bases.job(NAME, bases=folder / "bases", cache=cache, folder=folder / "job")
    if peft_job.main(job.argv[-1:]):
        sys.exit("the base could not be prepared; see above")
    return bases.need(folder / "bases", NAME).folder


def written(folder: Path, count: int) -> Path:
    """Sentences of the home as training rows."""
    path = folder / "rows.jsonl"
    rows = hassil.sample("en", count, 1, split="train")
    lines = [{"messages": [one.to_dict() for one in row.messages], "completion": row.completion} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class Bare:
    """The loop that anybody would write first."""

    def __init__(self, model: Any, rows: list[Tokens], like: peft.Loop) -> None:
        self.model, self.rows, self.order, self.recipe = model, rows, like.order, like.recipe
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.weights, lr=0.0, weight_decay=0.0)

    def step(self, number: int) -> float:
        size = self.recipe.batch_size
        rows = [self.rows[n] for n in self.order[number * size : number * size + size]]
        width = max(len(row) for row in rows)
        tokens, labels, seen = (torch.full((size, width), fill) for fill in (0, -100, 0))
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row.prompt + row.answer)
            labels[place, len(row.prompt) : len(row)] = torch.tensor(row.answer)
            seen[place, : len(row)] = 1
        loss = self.model(input_ids=tokens, attention_mask=seen, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, peft.CLIP)
        self.optimiser.param_groups[0]["lr"] = self.recipe.rate(number)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())


def timed(loop: Any, order: tuple[int, ...], rows: list[Tokens], number: int, size: int) -> tuple[float, float, int]:
    started = time.process_time()
    loss = loop.step(number)
    return loss, time.process_time() - started, sum(len(rows[n]) for n in order[number * size : number * size + size])


def compare(spec: Spec) -> tuple[Pace, Pace]:
    """Both loops over the same steps, one after the other at each step; the first two are not counted."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    rows, _ = peft.read_rows(spec.rows, tokenizer, spec.recipe.max_tokens)
    ours = peft.Loop(peft_shape.shaped(spec), rows, spec)
    bare = Bare(peft_shape.shaped(spec), rows, ours)
    for loop in (ours, bare):
        loop.model.train()
    found: list[list[tuple[float, float, int]]] = [[], []]
    for number in range(spec.recipe.steps):
        for into, loop in zip(found, (ours, bare), strict=True):
            into.append(timed(loop, ours.order, rows, number, spec.recipe.batch_size))
    paces = []
    for times in found:
        losses = tuple(round(loss, 4) for loss, _, _ in times)
        paces.append(Pace(sum(t for _, _, t in times[2:]), sum(s for _, s, _ in times[2:]), losses))
    return paces[0], paces[1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Our training loop beside a bare one.")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = Spec(prepared(folder), written(folder, 120), folder / "none", folder, Recipe())
        for size in (2, 8):
            steps = (8 if chosen.quick else 24) // (1 if size == 2 else 2)
            one = replace(spec, recipe=Recipe(batch_size=size, steps=steps))
            ours, bare = compare(one)
            drift = max(abs(a - b) for a, b in zip(ours.losses, bare.losses, strict=True))
            figures[f"batch {size}"] = {
                "ciranda_tokens_per_cpu_s": round(ours.tokens_per_s, 1),
                "bare_tokens_per_cpu_s": round(bare.tokens_per_s, 1),
                "ratio": round(ours.tokens_per_s / bare.tokens_per_s, 3),
                "largest_difference_of_losses": round(drift, 4),
                "cpu_s_per_step": round(ours.cpu_s / (steps - 2), 3),
            }
    report = {"held": f"ratio >= {HELD}", "figures": figures, "machine": platform.machine(), "torch": torch.__version__}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "train.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if all(one["ratio"] >= HELD for one in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
