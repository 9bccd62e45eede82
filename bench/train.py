"""How fast training is, and what it takes, beside the loop that anybody would write first and beside TRL alone: the same rows,
weights, order and steps.

    python bench/train.py                     some ten minutes of one core
    python bench/train.py --rounds 1          four

    ours    `engines.peft.Loop`, as a job runs it
    bare    plain PyTorch with PEFT: rows padded to the longest of the batch, labels masked, the model's own loss
    trl     `SFTTrainer` on prompt and completion, its defaults but for what must be equal

Each runs in a process of its own, so that peak memory is its own, in turns, so that a busy machine slows all of them. Counted in
tokens of rows, prompt included, for each second of processor time; the first two steps are not counted. Then what was trained is
served: an adapter and whole weights by llama.cpp, and the log probabilities of the ten likeliest first tokens beside those of PEFT;
and the adapter on the base in 8 bits, as it would be live, answers the same held-out questions as PEFT does.

Held: at least 0.95 of the bare loop's tokens a second, more than TRL's; the losses agree; served within 0.01 of torch in 16 bits;
the paired 95 % interval of the held-out scores holds zero. Written to bench/results/train.json; exit code 1 when it is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import transformers

from ciranda import config
from ciranda.engines import gguf, hassil, peft, peft_job, peft_shape
from ciranda.evals import compare
from ciranda.jobs import usage
from ciranda.train import bases
from ciranda.train.packing import Tokens
from ciranda.train.recipe import Recipe, Spec

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NAME = "smollm2-135m-instruct"
HELD, CLOSE = 0.95, 0.01
TAUGHT, ASKED = 120, 100  # steps of the adapter that is served, and questions that both answer
WARM = 2  # steps that are not counted


def prepared(folder: Path) -> Path:
    """The packaged base, from this machine's cache or prepared now."""
    cache = Path(config.settings(config.home(folder)).cache)
    job = bases.job(NAME, bases=folder / "bases", cache=cache, folder=folder / "job")
    if peft_job.main(job.argv[-1:]):
        sys.exit("the base could not be prepared; see above")
    return bases.need(folder / "bases", NAME).folder


def written(folder: Path, count: int, split: str = "train") -> Path:
    """Sentences of the home as training rows."""
    path = folder / f"{split}.jsonl"
    rows = hassil.sample("en", count, 1, split=split)
    lines = [{"messages": [one.to_dict() for one in row.messages], "completion": row.completion} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# --- one contender, in its own process --------------------------------------------------------------------------------


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


def stepped(loop: Any, steps: int) -> tuple[list[float], list[float]]:
    """Losses and processor seconds of each step of a loop."""
    losses, seconds = [], []
    loop.model.train()
    for number in range(steps):
        started = time.process_time()
        losses.append(loop.step(number))
        seconds.append(time.process_time() - started)
    return losses, seconds


class Watch(transformers.TrainerCallback):  # type: ignore[misc]
    """Losses and processor seconds of each step of TRL's trainer."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **more: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, *_: Any, **more: Any) -> None:
        self.seconds.append(time.process_time() - self.started)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def by_trl(model: Any, tokenizer: Any, spec: Spec, order: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """The same steps by TRL's `SFTTrainer`."""
    import datasets
    import trl

    lines = [json.loads(line) for line in spec.rows.read_text().splitlines()]
    rows = [
        {
            "prompt": tokenizer.apply_chat_template(line["messages"], add_generation_prompt=True, tokenize=False),
            "completion": line["completion"],
        }
        for line in (lines[n] for n in order)
    ]
    recipe, watch = spec.recipe, Watch()
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=recipe.learning_rate, weight_decay=0.0
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda n: recipe.rate(min(n, recipe.steps - 1)) / recipe.learning_rate
    )
    how = trl.SFTConfig(
        output_dir=str(spec.output), max_steps=recipe.steps, per_device_train_batch_size=recipe.batch_size, use_cpu=True,
        bf16=False, gradient_checkpointing=False, max_grad_norm=peft.CLIP, seed=recipe.seed, logging_steps=1,
        train_sampling_strategy="sequential", save_strategy="no", report_to=[], disable_tqdm=True,
        dataloader_pin_memory=False, max_length=None,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model=model, args=how, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer, callbacks=[watch],
        optimizers=(optimiser, rates),
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return watch.losses, watch.seconds


def contend(who: str, spec: Spec) -> dict[str, Any]:
    """What one contender did, as its parent reads it."""
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    rows, _ = peft.read_rows(spec.rows, tokenizer, spec.recipe.max_tokens)
    ours = peft.Loop(peft_shape.shaped(spec), rows, spec)
    contenders: dict[str, Callable[[], tuple[list[float], list[float]]]] = {
        "ours": lambda: stepped(ours, spec.recipe.steps),
        "bare": lambda: stepped(Bare(ours.model, rows, ours), spec.recipe.steps),
        "trl": lambda: by_trl(ours.model, tokenizer, spec, ours.order),
    }
    losses, seconds = contenders[who]()
    size = spec.recipe.batch_size
    counted = [rows[n] for n in ours.order[WARM * size : len(seconds) * size]]
    return {
        "tokens_per_cpu_s": sum(map(len, counted)) / sum(seconds[WARM:]),
        "cpu_s_per_step": statistics.mean(seconds[WARM:]),
        "peak_rss_mb": usage.peak() >> 20,
        "losses": losses,
    }


# --- all of them ------------------------------------------------------------------------------------------------------


def raced(spec: Spec, folder: Path, rounds: int) -> dict[str, Any]:
    """All contenders in turns, the medians of their rounds, and how far their losses lie apart."""
    told: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": [], "trl": []}
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    for _ in range(rounds):
        for who, found in told.items():
            argv = [sys.executable, __file__, "--contender", who, "--spec", str(folder / "spec.json")]
            done = subprocess.run(argv, check=True, capture_output=True, text=True, env=quiet())
            found.append(json.loads(done.stdout.splitlines()[-1]))
    names = ("tokens_per_cpu_s", "cpu_s_per_step", "peak_rss_mb")
    figures: dict[str, Any] = {
        who: {name: round(statistics.median(one[name] for one in found), 3) for name in names}
        for who, found in told.items()
    }
    first = told["ours"][0]["losses"]
    for who in ("bare", "trl"):
        figures[f"ratio to {who}"] = round(figures["ours"]["tokens_per_cpu_s"] / figures[who]["tokens_per_cpu_s"], 3)
        other = told[who][0]["losses"]
        figures[f"largest difference of losses to {who}"] = round(
            max(abs(a - b) for a, b in zip(first, other, strict=True)), 4
        )
    return figures


def quiet() -> dict[str, str]:
    return {**config.environment(), **bases.QUIET, "OMP_NUM_THREADS": "1"}


def served(base: Path, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """How far llama.cpp and torch lie apart with a trained adapter, and with whole weights that hold it; and how both answer."""
    from tests import smallmodel

    import test_bridge

    spec = Spec(base, written(folder, 2 * TAUGHT), folder / "validation.jsonl", folder, Recipe(steps=TAUGHT))
    tokenizer = transformers.AutoTokenizer.from_pretrained(base / "hf")
    rows, _ = peft.read_rows(spec.rows, tokenizer, 256)
    loop = peft.Loop(peft_shape.shaped(spec), rows, spec)
    stepped(loop, spec.recipe.steps)
    model, exact = loop.model.eval(), folder / "f16.gguf"
    peft_shape.save(model, tokenizer, spec)
    gguf.base(Path(bases.source(NAME).place), exact, bits=16)
    gguf.adapter(folder / "adapter", model.config.to_dict(), folder / "adapter.gguf", name="bench")
    adapter = ("--adapter", str(folder / "adapter.gguf"))
    with smallmodel.serving(folder, *adapter, gguf=exact) as engine:
        found = {"adapter": test_bridge.distance(engine, model)}
        with model.disable_adapter():
            found["without it"] = test_bridge.distance(engine, model)
    with smallmodel.serving(folder, *adapter, gguf=base / "base.q8_0.gguf") as engine:
        scores = answered(engine, model, tokenizer, folder)
    model.merge_and_unload().save_pretrained(folder / "weights")
    gguf.model(folder / "weights", exact, folder / "model.gguf", bits=16)
    whole = peft_shape.load(folder / "weights").eval()
    with smallmodel.serving(folder, gguf=folder / "model.gguf") as engine:
        found["whole weights"] = test_bridge.distance(engine, whole)
    return {name: round(value, 4) for name, value in found.items()}, scores


def answered(engine: Any, model: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """The same questions of templates that were never seen, put to the engine and to PEFT, both greedy."""
    path = written(folder, ASKED, "test")
    rows, _ = peft.read_rows(path, tokenizer, 256)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    pairs = []
    for row, line in zip(rows, lines, strict=True):
        said = engine.chat(line["messages"], max_tokens=64)["choices"][0]["message"]["content"]
        pairs.append((float(said.strip() == line["completion"]), float(peft.evaluate(model, [row])["exact_match"])))
    verdict = compare.of_pairs(pairs, "exact_match")
    return {
        "n": verdict.n, "llama.cpp, 8 bits": verdict.mean_a, "PEFT, 32 bits": verdict.mean_b,
        "difference": round(verdict.difference, 4), "interval": [round(verdict.low, 4), round(verdict.high, 4)],
        "answered otherwise": verdict.wins + verdict.losses,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Our training beside a bare loop and TRL, and what it made, served.")
    parser.add_argument("--quick", action="store_true", help="a third of the steps")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--contender", choices=["ours", "bare", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        from ciranda.train.recipe import spec as read

        print(json.dumps(contend(chosen.contender, read(json.loads(chosen.spec.read_text())))))
        return 0
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = prepared(folder)
        apart, scores = served(base, folder)
        rows = written(folder, 120)
        for size, steps in ((2, 18), (8, 9)):
            recipe = Recipe(batch_size=size, steps=max(6, steps // 3) if chosen.quick else steps)
            spec = Spec(base, rows, rows, folder / f"out-{size}", recipe, threads=1)
            figures[f"batch {size}"] = raced(spec, folder, chosen.rounds)
    report = {
        "held": f"ratio to bare >= {HELD}, to trl > 1, served within {CLOSE}, the same score within noise",
        "rounds": chosen.rounds, "figures": figures,
        "mean distance of log probabilities to torch": apart, "held-out score": scores, "machine": platform.machine(),
        "torch": torch.__version__,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "train.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    fast = all(one["ratio to bare"] >= HELD and one["ratio to trl"] > 1 for one in figures.values())
    near = apart["adapter"] < CLOSE and apart["whole weights"] < CLOSE
    return 0 if fast and near and scores["interval"][0] <= 0 <= scores["interval"][1] else 1


if __name__ == "__main__":
    sys.exit(main())
