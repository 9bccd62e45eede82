"""Fine-tuning with torch, transformers and PEFT: the loop for answers and for text. It runs in a job's own process.

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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import safetensors
import safetensors.torch
import torch
import transformers

from ciranda.engines import peft_shape
from ciranda.engines.peft_samples import Samples
from ciranda.errors import Failed, Invalid
from ciranda.jobs import usage
from ciranda.store import files
from ciranda.train import packing
from ciranda.train.packing import SHARED, Pack, Tokens
from ciranda.train.recipe import PREFERRING, Spec

CLIP = 1.0
EXHAUSTED = ("allocate memory", "out of memory")

Report = Callable[[dict[str, Any]], None]


def train(spec: Spec, report: Report) -> dict[str, Any]:
    """Train one version's weights and leave them in `spec.output`; return what `result.json` holds.

    Raises:
        Invalid: the rows, the base or the adapter to start from do not fit the recipe.
        Failed: the loss stopped being a number, or memory ran out; says what to change.
    """
    started = time.perf_counter()
    torch.set_num_threads(spec.threads or len(os.sched_getaffinity(0)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.base / "hf")
    with memory_named(spec):
        school = prepared(spec, tokenizer)
        samples = Samples(school.model, tokenizer, spec.validation, report)
        school.run(report, samples.now_and_then)
        samples.ask(spec.recipe.steps)
        report({"phase": "validating", "rows": len(school.validation)})
        judged = school.validate(spec.recipe.steps, report)
        trained = sum(p.numel() for p in school.weights.values())
        tuning = peft_shape.save(school.model, tokenizer, spec)
    return {
        "method": spec.recipe.method,
        "tuning": tuning,
        "loss_curve": school.curve,
        "validation": judged,
        "rows": len(school.rows),
        "rows_rehearsed": len(school.plain),
        "rows_left_out": school.left_out,
        "trained_parameters": trained,
        "tokens": school.tokens,
        "tokens_per_s": school.tokens_per_s,
        "resumed_at": school.resumed_at,
        "peak_rss_bytes": usage.peak(),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "environment": environment(),
    }


def prepared(spec: Spec, tokenizer: Any) -> Any:
    """The run over the rows of the spec, by its method: ours for answers and text, TRL's for what was preferred.

    Raises:
        Invalid: no row fits, or the model does not fit the recipe.
    """
    if spec.recipe.method in PREFERRING:
        return _preferences(spec, tokenizer)
    method, bound = spec.recipe.method, spec.recipe.max_tokens
    rows, left_out = read_rows(spec.rows, tokenizer, bound, method)
    validation, _ = read_rows(spec.validation, tokenizer, bound, method)
    _some(rows, left_out, spec)
    loop = Loop(peft_shape.shaped(spec), rows, spec, validation)
    loop.left_out = left_out
    return loop


def _preferences(spec: Spec, tokenizer: Any) -> Any:
    from ciranda.engines import peft_pairs  # TRL is an extra of its own

    rows, plain, left_out = peft_pairs.read(spec.rows, tokenizer, spec.recipe)
    validation, _, _ = peft_pairs.read(spec.validation, tokenizer, spec.recipe)
    _some(rows, left_out, spec)
    model = peft_shape.shaped(spec)
    school = peft_pairs.School(
        model, tokenizer, rows, validation, spec, plain=plain, likelihoods=likelihoods, finite=finite, loss=loss
    )
    school.left_out = left_out
    return school


def _some(rows: Sequence[Any], left_out: int, spec: Spec) -> None:
    if not rows:
        raise Invalid(
            f"no row fits in max_tokens {spec.recipe.max_tokens} ({left_out} are longer)",
            where=str(spec.rows),
            remedy="raise max_tokens in the recipe, or bring rows",
        )


def environment() -> dict[str, str]:
    """The versions that a reproduction needs."""
    modules = {"torch": torch, "transformers": transformers, "peft": peft, "safetensors": safetensors}
    return {name: str(module.__version__) for name, module in modules.items()} | {
        "threads": str(torch.get_num_threads())
    }


def read_rows(path: Path, tokenizer: Any, max_tokens: int, method: str = "sft") -> tuple[list[Tokens], int]:
    """The rows of a JSON-lines file in tokens, and how many were too long. Text is never too long: it is cut into pieces.

    Raises:
        Invalid: a line is no JSON object with `messages` and `completion`; names the line.
    """
    found: list[Tokens] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                found += _read(line, tokenizer, f"{path}:{number}", max_tokens if method == "pretrain" else 0)
    rows = [row for row in found if len(row) <= max_tokens]
    return rows, len(found) - len(rows)


def _read(line: str, tokenizer: Any, where: str, piece: int) -> list[Tokens]:
    """A line in tokens: a prompt and its answer, or with `piece` all of it as text, in pieces of so many tokens."""
    try:
        values = json.loads(line)
        messages, completion = values["messages"], str(values["completion"])
        group = str(values.get("language") or "")
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) if messages else ""
        if not prompt and not piece:
            raise ValueError("there is nothing to answer to; text alone is for `method: pretrain`")
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"no training row: {error}", where=where, remedy='write {"messages": [...], "completion": "..."}'
        ) from None
    if piece:
        return _pieces(tokenizer, prompt + completion, piece, group)
    given, due = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))
    return [Tokens(tuple(given), (*due, tokenizer.eos_token_id), group)]


def _pieces(tokenizer: Any, text: str, size: int, group: str) -> list[Tokens]:
    """A text in pieces of at most `size` tokens; each piece begins with the token that the one before ended with."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    tokens = [start, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    step = size - 1
    return [
        Tokens((tokens[at],), tuple(tokens[at + 1 : at + size]), group)
        for at in range(0, max(1, len(tokens) - 1), step)
    ]


class Loop:
    """The optimiser's loop over one model and its rows, and the checkpoint that lets another process go on."""

    def __init__(self, model: Any, rows: Sequence[Tokens], spec: Spec, validation: Sequence[Tokens] = ()) -> None:
        self.validation, self.left_out, self.plain = validation, 0, ()
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

    def run(self, report: Report, look: Callable[[int], None] = lambda _: None) -> None:
        """From the last checkpoint to the last step; `look` is called where a checkpoint is, before the last one."""
        self.resume()
        self.model.train()
        for step in range(self.resumed_at, self.recipe.steps):
            started = time.perf_counter()
            loss = self.step(step)
            self.seconds += time.perf_counter() - started
            self.curve.append((step + 1, loss))
            report(
                {"step": step + 1, "steps": self.recipe.steps, "loss": loss, "rate": self.recipe.rate(step),
                 "tokens_per_s": round(self.tokens_per_s, 1)}
            )  # fmt: skip
            if (step + 1) % self.spec.checkpoint_steps == 0:
                self.save(step + 1)
                if step + 1 < self.recipe.steps:
                    look(step + 1)
            if self.recipe.looks(step + 1):
                self.validate(step + 1, report)
                self.model.train()

    def validate(self, step: int, report: Report) -> dict[str, Any]:
        """How the validation rows fare by now, told as a line of progress."""
        judged = evaluate(self.model, self.validation, by_token=self.recipe.method == "pretrain")
        report({"validation": {"step": step, **judged}})
        return judged

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
        finite(total, number + 1, self.spec)
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


def evaluate(model: Any, rows: Sequence[Tokens], *, by_token: bool = False) -> dict[str, Any]:
    """Teacher-forced: the share that came out right and the loss per token; no figure is made up when there is no row.

    Args:
        by_token: Count tokens (text goes on in many ways) instead of whole answers.
    """
    measure = "next_token" if by_token else "exact_match"
    if not rows:
        return {"exact_match": None, "loss": None, "n": 0, "measure": measure}
    model.eval()
    exact, right, loss, tokens = 0, 0, 0.0, 0
    with torch.no_grad():
        for pack in packing.packs(rows):
            found, due = logits(model, pack), torch.tensor(pack.targets)
            same = found.argmax(-1) == due
            exact += sum(bool(same[start:end].all()) for start, end in pack.spans)
            right += int(same.sum())
            loss += float(torch.nn.functional.cross_entropy(found, due, reduction="sum"))
            tokens += len(due)
    share = right / tokens if by_token else exact / len(rows)
    return {"exact_match": share, "loss": loss / tokens, "n": len(rows), "measure": measure}


def loss(model: Any, rows: Sequence[Tokens]) -> torch.Tensor:
    """The loss per answer token, with its gradient."""
    found = [
        torch.nn.functional.cross_entropy(logits(model, pack), torch.tensor(pack.targets), reduction="sum")
        for pack in packing.packs(rows)
    ]
    return torch.stack(found).sum() / sum(len(row.answer) for row in rows)


def likelihoods(model: Any, rows: Sequence[Tokens]) -> list[float]:
    """The log likelihood of each row's answer, given its prompt."""
    found: list[float] = []
    with torch.no_grad():
        for pack in packing.packs(rows):
            chances = torch.log_softmax(logits(model, pack), -1)
            each = chances.gather(1, torch.tensor(pack.targets)[:, None])[:, 0]
            found += [float(each[start:end].sum()) for start, end in pack.spans]
    return found


def finite(loss: float, step: int, spec: Spec) -> None:
    """Raises Failed when the loss is no number any more, with what to lower."""
    if math.isfinite(loss):
        return
    rate = spec.recipe.learning_rate
    raise Failed(
        f"the loss became {loss} at step {step} with learning rate {rate:g}",
        where=str(spec.output),
        remedy=f"lower learning_rate in the recipe, for example to {rate / 3:.1g}",
    )


@contextmanager
def memory_named(spec: Spec) -> Iterator[None]:
    """Turn the allocator's complaint into ours, with what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in EXHAUSTED):
            raise
        raise Failed(
            f"memory ran out: {error}",
            where=str(spec.output),
            remedy=f"lower {'layers, ' if spec.recipe.tuning == 'lora' else ''}batch_size or max_tokens in the recipe, "
            + ("write `tuning: lora`, " if spec.recipe.tuning == "full" else "")
            + "or take a machine with more memory",
        ) from error
