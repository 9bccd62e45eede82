"""Fine-tuning with torch, transformers and PEFT: the one file that names them. It runs in a job's own process.

A plain loop, since on a CPU it beats the ready-made trainers (`bench/train.py`), with two exact economies: rows are packed
without padding and share the system prompt (`train.packing`); and, since the vocabulary is large and the model small, logits are
made where an answer's token is due and nowhere else. The backward pass ends below the lowest trained layer.

Validation is teacher-forced: a row counts when every token of the answer, its end included, is the likeliest one, which is
what greedy decoding would have written. Weights are float32: bfloat16 is 50 times slower on a processor without its instructions.
A checkpoint is one safetensors file, replaced whole; order and rates follow from the step, so a resumed run ends the same.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import safetensors
import safetensors.torch
import torch
import transformers

from ciranda.errors import Failed, Invalid, Unavailable
from ciranda.store import files
from ciranda.train import packing
from ciranda.train.packing import SHARED, Pack, Tokens
from ciranda.train.recipe import Spec

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CLIP = 1.0

Report = Callable[[dict[str, Any]], None]


def train(spec: Spec, report: Report) -> dict[str, Any]:
    """Train one adapter and leave it in `spec.output/adapter`; return what `result.json` holds.

    Raises:
        Invalid: the rows, the base or the adapter to start from do not fit the recipe.
        Failed: the loss stopped being a number, or memory ran out; says what to change.
    """
    started = time.perf_counter()
    torch.set_num_threads(spec.threads or len(os.sched_getaffinity(0)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    rows, left_out = read_rows(spec.rows, tokenizer, spec.recipe.max_tokens)
    validation, _ = read_rows(spec.validation, tokenizer, spec.recipe.max_tokens)
    if not rows:
        raise Invalid(
            f"no row fits in max_tokens {spec.recipe.max_tokens} ({left_out} are longer)",
            where=str(spec.rows),
            remedy="raise max_tokens in the recipe, or bring rows",
        )
    model = adapted(spec)
    loop = Loop(model, rows, spec)
    loop.resume()
    with memory_named(spec):
        loop.run(report)
        report({"phase": "validating", "rows": len(validation)})
        judged = evaluate(model, validation)
    save(model, tokenizer, spec.output / "adapter")
    report({"phase": "validated", **judged})
    return {
        "loss_curve": loop.curve,
        "validation": judged,
        "rows": len(rows),
        "rows_left_out": left_out,
        "tokens_per_s": loop.tokens_per_s,
        "resumed_at": loop.resumed_at,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """The versions that a reproduction needs."""
    modules = {"torch": torch, "transformers": transformers, "peft": peft, "safetensors": safetensors}
    return {name: str(module.__version__) for name, module in modules.items()} | {
        "threads": str(torch.get_num_threads())
    }


def read_rows(path: Path, tokenizer: Any, max_tokens: int) -> tuple[list[Tokens], int]:
    """The rows of a JSON-lines file in tokens, and how many were too long.

    Raises:
        Invalid: a line is no JSON object with `messages` and `completion`; names the line.
    """
    with path.open(encoding="utf-8") as file:
        found = [_tokens(line, tokenizer, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()]
    rows = [row for row in found if len(row) <= max_tokens]
    return rows, len(found) - len(rows)


def _tokens(line: str, tokenizer: Any, where: str) -> Tokens:
    try:
        values = json.loads(line)
        messages, completion = values["messages"], values["completion"]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"no training row: {error}", where=where, remedy='write {"messages": [...], "completion": "..."}'
        ) from None
    given, due = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))
    return Tokens(tuple(given), (*due, tokenizer.eos_token_id), str(values.get("language") or ""))


def adapted(spec: Spec) -> Any:
    """The base with a fresh adapter on its upper layers, or with the one to start from, ready to be trained.

    Raises:
        Invalid: recipe, base and adapter do not fit each other.
    """
    torch.manual_seed(spec.recipe.seed)
    base = load(spec.base / "hf")
    recipe, count = spec.recipe, base.config.num_hidden_layers
    if recipe.layers > count:
        raise Invalid(
            f"the recipe trains {recipe.layers} layers, the base has {count}",
            where=str(spec.base),
            remedy=f"set layers to {count} or fewer",
        )
    wanted = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(TARGETS),
        layers_to_transform=list(range(count - recipe.layers, count)),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    if spec.init_adapter is None:
        return peft.get_peft_model(base, wanted)
    _same_shape(spec.init_adapter, wanted)
    return peft.PeftModel.from_pretrained(base, spec.init_adapter, is_trainable=True)


def load(folder: Path) -> Any:
    """The base's weights in float32.

    Raises:
        Invalid: the folder holds no model that transformers can load.
    """
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        )
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise Invalid(
            f"the base cannot be loaded: {error}",
            where=str(folder),
            remedy="delete the folder and prepare the base again",
        ) from None


def _same_shape(folder: Path, wanted: Any) -> None:
    """An adapter goes on only in its own shape; another rank or depth means other tensors."""
    try:
        held = peft.LoraConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise Invalid(f"no adapter to start from: {error}", where=str(folder), remedy="start afresh") from None
    for name in ("r", "lora_alpha", "layers_to_transform"):
        if getattr(held, name) != getattr(wanted, name):
            raise Invalid(
                f"the adapter to start from has {name} {getattr(held, name)}, the recipe asks for {getattr(wanted, name)}",
                where=str(folder),
                remedy="keep rank, alpha and layers of the version to start from, or start afresh",
            )


class Loop:
    """The optimiser's loop over one model and its rows, and the checkpoint that lets another process go on."""

    def __init__(self, model: Any, rows: Sequence[Tokens], spec: Spec) -> None:
        self.model, self.rows, self.spec, self.recipe = model, rows, spec, spec.recipe
        self.order = packing.schedule(
            [row.group for row in rows], spec.recipe.steps * spec.recipe.batch_size, spec.recipe.seed
        )
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(list(self.weights.values()), lr=0.0, weight_decay=0.0)
        self.curve: list[tuple[int, float]] = []
        self.resumed_at = 0
        self.tokens = 0
        self.seconds = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens of rows, each counted with its whole prompt, trained in a second."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def run(self, report: Report) -> None:
        """From the last checkpoint to the last step."""
        self.model.train()
        for step in range(self.resumed_at, self.recipe.steps):
            started = time.perf_counter()
            loss = self.step(step)
            self.seconds += time.perf_counter() - started
            self.curve.append((step + 1, loss))
            report({"step": step + 1, "steps": self.recipe.steps, "loss": loss, "tokens_per_s": self.tokens_per_s})
            if (step + 1) % self.spec.checkpoint_steps == 0:
                self.save(step + 1)

    def step(self, number: int) -> float:
        """One update; the loss per answer token."""
        size = self.recipe.batch_size
        rows = [self.rows[n] for n in self.order[number * size : number * size + size]]
        judged = sum(len(row.answer) for row in rows)
        total = 0.0
        for pack in packing.packs(rows):
            found, due = logits(self.model, pack), torch.tensor(pack.targets)
            loss = torch.nn.functional.cross_entropy(found, due, reduction="sum") / judged
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            rate = self.recipe.learning_rate
            raise Failed(
                f"the loss became {total} at step {number + 1} with learning rate {rate:g}",
                where=str(self.spec.output),
                remedy=f"lower learning_rate in the recipe, for example to {rate / 3:.1g}",
            )
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), CLIP)
        self.optimiser.param_groups[0]["lr"] = self.recipe.rate(number)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.tokens += sum(len(row) for row in rows)
        return total

    def save(self, step: int) -> None:
        """Weights, both moments and the curve in one file, replaced whole."""
        tensors: dict[str, torch.Tensor] = {}
        for name, p in self.weights.items():
            state = self.optimiser.state[p]
            tensors |= {
                f"weight.{name}": p.detach(),
                f"mean.{name}": state["exp_avg"],
                f"square.{name}": state["exp_avg_sq"],
            }
        note = {"step": str(step), "work": self.spec.digest, "curve": json.dumps(self.curve)}
        files.write_atomic(self.spec.checkpoint, safetensors.torch.save(tensors, metadata=note))

    def resume(self) -> None:
        """Go on where a killed process of the same work had saved; anything else in the place is ignored."""
        if not self.spec.checkpoint.exists():
            return
        with safetensors.safe_open(self.spec.checkpoint, framework="pt") as saved:
            note = saved.metadata() or {}
            if note.get("work") != self.spec.digest:
                return
            self.resumed_at = int(note["step"])
            for name, p in self.weights.items():
                p.data.copy_(saved.get_tensor(f"weight.{name}"))
                self.optimiser.state[p] = {
                    "step": torch.tensor(float(self.resumed_at)),
                    "exp_avg": saved.get_tensor(f"mean.{name}"),
                    "exp_avg_sq": saved.get_tensor(f"square.{name}"),
                }
        self.curve = [(int(at), float(loss)) for at, loss in json.loads(note["curve"])]


def logits(model: Any, pack: Pack) -> torch.Tensor:
    """The model's logits at the judged places of a pack, and only there."""
    causal = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    owners = torch.tensor(pack.owners)
    seen = ((owners[:, None] == owners[None, :]) | (owners[None, :] == SHARED)).tril()
    states = causal.model(
        input_ids=torch.tensor([pack.tokens]),
        attention_mask=seen[None, None],
        position_ids=torch.tensor([pack.positions]),
        use_cache=False,
    ).last_hidden_state
    found: torch.Tensor = causal.lm_head(states[0, torch.tensor(pack.judged)])
    return found


def evaluate(model: Any, rows: Sequence[Tokens]) -> dict[str, Any]:
    """Teacher-forced exact match and loss per token; no figure is made up when there is no row."""
    if not rows:
        return {"exact_match": None, "loss": None, "n": 0}
    model.eval()
    exact, loss, tokens = 0, 0.0, 0
    with torch.no_grad():
        for pack in packing.packs(rows):
            found, due = logits(model, pack), torch.tensor(pack.targets)
            right = found.argmax(-1) == due
            exact += sum(bool(right[start:end].all()) for start, end in pack.spans)
            loss += float(torch.nn.functional.cross_entropy(found, due, reduction="sum"))
            tokens += len(due)
    return {"exact_match": exact / len(rows), "loss": loss / tokens, "n": len(rows)}


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """The standard artefact: PEFT's folder with the tokenizer and the chat template, whole or absent."""
    beside = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    (beside / "README.md").unlink(missing_ok=True)  # a card of blanks; the registry writes the real one
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    files.sync_folder(folder.parent)


def export(source: Path, out: Path) -> None:
    """Write a base as transformers reads it: float32 safetensors, tokenizer, chat template.

    Raises:
        Invalid: the source is no model that transformers can load, or has no chat template.
    """
    at: dict[str, Any] = {"gguf_file": source.name} if source.is_file() else {}
    folder = source.parent if source.is_file() else source
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **at)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **at)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise Invalid(
            f"the base cannot be loaded: {error}",
            where=str(source),
            remedy="give a model folder, a .gguf file or hf:org/name",
        ) from None
    if not tokenizer.chat_template:
        raise Invalid("the base has no chat template", where=str(source), remedy="choose an instruct or chat model")
    # Loaded from GGUF it counts as quantised, which save_pretrained refuses; the weights are plain float32 by now.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def download(repository: str, cache: Path) -> Path:
    """Fetch `org/name` or `org/name@revision` from the hub; only ever called for a base written as `hf:…`.

    Raises:
        Unavailable: the hub cannot be reached, or has no such repository.
    """
    name, _, revision = repository.partition("@")
    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*q8_0.gguf"]
    try:
        return Path(
            huggingface_hub.snapshot_download(name, revision=revision or None, cache_dir=cache, allow_patterns=wanted)
        )
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{repository} cannot be fetched: {error}",
            where="hf:",
            remedy="check the name and the network, or give a folder",
        ) from None


@contextmanager
def memory_named(spec: Spec) -> Iterator[None]:
    """Turn the allocator's complaint into ours, with what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise Failed(
            f"memory ran out: {error}",
            where=str(spec.output),
            remedy="lower layers, batch_size or max_tokens in the recipe, or take a machine with more memory",
        ) from error
