"""Learning from what people preferred, through TRL: pairs of answers (DPO), answers with thumbs (KTO). The one file that names it.

    DPO   Rafailov et al. 2023: the chosen answer gains on the rejected one, beside a reference
    KTO   Ethayarajh et al. 2024: an answer with a thumb up gains, one with a thumb down loses; no pairs are needed

Beside both stands the loss of the better answers as an anchor (Pang et al. 2024; `sft` of TRL), and `beta` is 1: of answers that
are merely compared both may become unlikely, the more so when they are short and differ in a few tokens, since with the 0.1 that is
usual for long ones the comparison is not content before some 30 nats lie between them (docs/train.md).

What people put right is what went wrong, so comparisons alone teach the opposite mistake. Each step so rehearses right answers
of the dataset that nobody compared, by the same loss and weight (as Ouyang et al. 2022 mix pretraining into what they optimise).
TRL has that for neither trainer: `Anchored` adds it to both.

The reference is the model as it was at the start: for a fresh adapter the weights beneath it, for one to go on from a frozen copy
of it, for whole weights their likelihoods, computed beforehand. Rows come in the order that `train.packing` laid down for the whole
run, thumbs up and down drawn equally often, rates follow from the step, and only the same work goes on from TRL's checkpoint.

Validation is ours and asks rows that training never saw. A pair came out right when its chosen answer gained more on the reference
than its rejected one; of thumbs, the figure is the chance that an answer with a thumb up gained more than one with a thumb down
(the area under the curve, 0.5 is chance). `likelier` is the same of the model itself, without the reference, per token.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from ciranda.errors import Invalid
from ciranda.train import packing
from ciranda.train.packing import Tokens
from ciranda.train.recipe import Recipe, Spec

Report = Callable[[dict[str, Any]], None]
Likelihoods = Callable[[Any, Sequence[Tokens]], list[float]]
Finite = Callable[[float, int, Spec], None]
Loss = Callable[[Any, Sequence[Tokens]], Any]
CLIP = 1.0


@dataclass(frozen=True)
class Judged:
    """One row: a prompt and the answers to it in tokens, the better one first; `thumb` where there is only one."""

    prompt: str
    answers: tuple[str, ...]
    tokens: tuple[Tokens, ...]
    thumb: int = 0

    @property
    def length(self) -> int:
        return max(len(one) for one in self.tokens)

    @property
    def group(self) -> str:
        return f"{self.tokens[0].group} {self.thumb}"

    @property
    def plain(self) -> bool:
        """Whether nobody compared it: an answer that is right as it is."""
        return len(self.answers) == 1 and not self.thumb


def read(path: Path, tokenizer: Any, recipe: Recipe) -> tuple[list[Judged], list[Tokens], int]:
    """The rows of a JSON-lines file that say what is preferred, the plain right answers among them, and how many were too long.

    Raises:
        Invalid: a line is no such row, or none has a pair (dpo) or a thumb (kto).
    """
    with path.open(encoding="utf-8") as file:
        found = [
            _row(line, tokenizer, recipe.method, f"{path}:{number}")
            for number, line in enumerate(file, 1)
            if line.strip()
        ]
    if found and all(row.plain for row in found):
        raise _wrong(recipe.method, f"none of {len(found)} rows says what is preferred", f"{path}:1")
    rows = [row for row in found if row.length <= recipe.max_tokens]
    plain = [row.tokens[0] for row in rows if row.plain]
    return [row for row in rows if not row.plain], plain, len(found) - len(rows)


def _wrong(method: str, why: str, where: str) -> Invalid:
    needed = '"rejected": "..."' if method == "dpo" else '"thumb": 1 or -1'
    remedy = f'write {{"messages": [...], "completion": "...", {needed}}}'
    return Invalid(f"no training row for {method}: {why}", where=where, remedy=remedy)


def _row(line: str, tokenizer: Any, method: str, where: str) -> Judged:
    try:
        values = json.loads(line)
        prompt = tokenizer.apply_chat_template(values["messages"], add_generation_prompt=True, tokenize=False)
        rejected, said = str(values.get("rejected") or ""), int(values.get("thumb") or 0)
        answers = [str(values["completion"]), *([rejected] if rejected and method == "dpo" else [])]
        if said < 0 and method == "dpo" and not rejected:
            raise ValueError("thumb is -1, and nothing is better")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _wrong(method, f"{type(error).__name__}: {error}", where) from None
    thumb = said if method == "kto" else 0
    given = tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    group = str(values.get("language") or "")
    due = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers)
    return Judged(
        prompt, tuple(answers), tuple(Tokens(given, (*one, tokenizer.eos_token_id), group) for one in due), thumb
    )


class School(transformers.TrainerCallback):  # type: ignore[misc]
    """One run of TRL's trainer over our rows, in our order, told in our words."""

    def __init__(
        self, model: Any, tokenizer: Any, rows: Sequence[Judged], validation: Sequence[Judged], spec: Spec,
        *, plain: Sequence[Tokens] = (), likelihoods: Likelihoods, finite: Finite, loss: Loss,
    ) -> None:  # fmt: skip
        self.model, self.spec, self.recipe = model, spec, spec.recipe
        self.order = packing.schedule(
            [row.group for row in rows], spec.recipe.steps * spec.recipe.batch_size, spec.recipe.seed
        )
        self.rows, self.validation, self.plain = rows, validation, plain
        again = spec.recipe.steps * spec.recipe.rehearse if plain else 0
        self.again = packing.schedule([row.group for row in plain], again, spec.recipe.seed) if again else ()
        self.likelihoods, self.finite, self.loss = likelihoods, finite, loss
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.folder = spec.output / f"trl-{spec.digest[:16]}"
        self.curve: list[tuple[int, float]] = []
        self.resumed_at = self.tokens = self.left_out = 0
        self.seconds = 0.0
        self._began = 0.0
        self._report: Report = lambda _: None
        self._look: Callable[[int], None] = lambda _: None
        model.eval()
        self.before = self._sums()
        self.start = _figures(spec.recipe, self.validation, self.before, self.before)
        self.trainer = _trainer(self, tokenizer)
        self.trainer.remove_callback(transformers.PrinterCallback)  # what it prints we tell as progress

    @property
    def tokens_per_s(self) -> float:
        """Tokens of rows, each answer counted with its whole prompt, trained in a second."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def run(self, report: Report, look: Callable[[int], None] = lambda _: None) -> None:
        """From the last whole checkpoint to the last step; `look` is called where a checkpoint is, before the last step."""
        self._report, self._look = report, look
        last = _whole(self.folder)
        if last is not None:
            state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json"))
            self.resumed_at = state.global_step
            self.curve = [(one["step"], one["loss"]) for one in state.log_history if "loss" in one]
        self.trainer.train(resume_from_checkpoint=str(last) if last else None)
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")
        shutil.rmtree(self.folder, ignore_errors=True)

    def validate(self, step: int, report: Report) -> dict[str, Any]:
        """How the validation rows fare by now, told as a line of progress; `before` is how they fared at the start."""
        if not self.validation:
            return {"exact_match": None, "loss": None, "n": 0, "measure": _MEASURE[self.recipe.method]}
        self.model.eval()
        judged = _figures(self.recipe, self.validation, self._sums(), self.before)
        report({"validation": {"step": step, **judged}})
        return {**judged, "before": self.start["likelier"]}

    def _sums(self) -> list[list[float]]:
        """The log likelihood of each answer of each validation row."""
        flat = self.likelihoods(self.model, [one for row in self.validation for one in row.tokens])
        sums = iter(flat)
        return [[next(sums) for _ in row.tokens] for row in self.validation]

    def step(self, number: int) -> list[Judged]:
        """The rows of a step (from 0)."""
        size = self.recipe.batch_size
        return [self.rows[n] for n in self.order[number * size : (number + 1) * size]]

    def rehearsed(self, number: int) -> list[Tokens]:
        """The right answers that are taught again in a step (from 0)."""
        size = self.recipe.rehearse
        return [self.plain[n] for n in self.again[number * size : (number + 1) * size]]

    def anchored(self, model: Any, number: int) -> Any:
        """The loss of right answers in a step: of those rehearsed, and of those with a thumb up; of pairs TRL adds it itself."""
        liked = [row.tokens[0] for row in self.step(number) if row.thumb > 0]
        return sum(self.recipe.anchor * self.loss(model, rows) for rows in (liked, self.rehearsed(number)) if rows)

    # --- what TRL calls ---------------------------------------------------------------------------------------------

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.seconds += time.perf_counter() - self._began
        self.tokens += sum(len(one) for row in self.step(state.global_step - 1) for one in row.tokens)
        self.tokens += sum(map(len, self.rehearsed(state.global_step - 1)))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if "loss" not in (logs or {}):
            return
        step, loss = state.global_step, float(logs["loss"])
        self.finite(loss, step, self.spec)
        self.curve.append((step, loss))
        line = {"step": step, "steps": self.recipe.steps, "loss": loss, "rate": self.recipe.rate(step - 1)}
        self._report({**line, "tokens_per_s": round(self.tokens_per_s, 1)})
        if step % self.spec.checkpoint_steps == 0 and step < self.recipe.steps:
            self._look(step)
        if self.recipe.looks(step):
            self.validate(step, self._report)
            self.model.train()


_MEASURE = {"dpo": "preferred", "kto": "ranked"}


def _trainer(school: School, tokenizer: Any) -> Any:
    recipe, drawn = school.recipe, [school.rows[n] for n in school.order]
    optimiser = torch.optim.AdamW(list(school.weights.values()), lr=recipe.learning_rate, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: recipe.rate(min(step, recipe.steps - 1)) / recipe.learning_rate
    )
    given: dict[str, Any] = {
        "output_dir": str(school.folder), "max_steps": recipe.steps, "per_device_train_batch_size": recipe.batch_size,
        "beta": recipe.beta, "max_length": None, "seed": recipe.seed, "max_grad_norm": CLIP, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "train_sampling_strategy": "sequential", "logging_steps": 1,
        "logging_nan_inf_filter": False, "save_steps": school.spec.checkpoint_steps, "save_total_limit": 1, "report_to": [],
        "disable_tqdm": True, "dataloader_pin_memory": False, "precompute_ref_log_probs": recipe.tuning == "full",
    }  # fmt: skip
    shared: dict[str, Any] = {
        "model": school.model,
        "processing_class": tokenizer,
        "callbacks": [school],
        "optimizers": (optimiser, rates),
    }
    lines: list[dict[str, Any]]
    if recipe.method == "dpo":
        lines = [{"prompt": one.prompt, "chosen": one.answers[0], "rejected": one.answers[1]} for one in drawn]
        anchored = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, recipe.anchor]} if recipe.anchor else {}
        args = trl.DPOConfig(**given, **anchored)
        return Pairs(school, args=args, train_dataset=datasets.Dataset.from_list(lines), **shared)
    lines = [{"prompt": one.prompt, "completion": one.answers[0], "label": one.thumb > 0} for one in drawn]
    liked = sum(one.thumb > 0 for one in drawn)
    weight = liked / (len(drawn) - liked) if 0 < liked < len(drawn) else 1.0
    args = trl.KTOConfig(**given, undesirable_weight=weight)
    return Thumbs(school, args=args, train_dataset=datasets.Dataset.from_list(lines), **shared)


class Anchored:
    """A trainer of TRL's with the loss of right answers beside what it compares, by the recipe's `anchor`."""

    def __init__(self, school: School, **shared: Any) -> None:
        super().__init__(**shared)
        self.school = school

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs=return_outputs, **more)  # type: ignore[misc]
        if return_outputs or not self.school.recipe.anchor:
            return loss
        return loss + self.school.anchored(model, self.state.global_step)  # type: ignore[attr-defined]


class Pairs(Anchored, trl.DPOTrainer):  # type: ignore[misc]
    """DPO, anchored."""


class Thumbs(Anchored, trl.KTOTrainer):  # type: ignore[misc]
    """KTO, anchored."""


def _whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the trainer's state is its last file. Torn ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (FileNotFoundError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
        else:
            return path
    return None


def _figures(
    recipe: Recipe, rows: Sequence[Judged], now: Sequence[Sequence[float]], before: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """What validation says, from the answers' log likelihoods now and at the start."""
    if not rows:
        return {"exact_match": None, "loss": None, "n": 0, "measure": _MEASURE[recipe.method], "likelier": None}
    gains = [[a - b for a, b in zip(mine, theirs, strict=True)] for mine, theirs in zip(now, before, strict=True)]
    mean = [
        [a / len(one.answer) for a, one in zip(mine, row.tokens, strict=True)]
        for mine, row in zip(now, rows, strict=True)
    ]
    if recipe.method == "dpo":
        margins = [better - worse for better, worse in gains]
        share = sum(margin > 0 for margin in margins) / len(rows)
        likelier = sum(better > worse for better, worse in mean) / len(rows)
    else:
        thumbs = [row.thumb for row in rows]
        margins = [gain * thumb for (gain,), thumb in zip(gains, thumbs, strict=True)]
        share, likelier = _ranked([gain for (gain,) in gains], thumbs), _ranked([one for (one,) in mean], thumbs)
    loss = sum(_loss(recipe, margin) for margin in margins) / len(rows)
    return {
        "exact_match": share,
        "loss": loss,
        "n": len(rows),
        "measure": _MEASURE[recipe.method],
        "likelier": likelier,
    }


def _loss(recipe: Recipe, margin: float) -> float:
    """The method's loss of one row; of KTO without its estimate of the divergence, which only a batch has."""
    pull = recipe.beta * margin
    right = 1 / (1 + math.exp(-max(-500.0, min(500.0, pull))))
    return -math.log(max(right, 1e-300)) if recipe.method == "dpo" else 1 - right


def _ranked(values: Sequence[float], thumbs: Sequence[int]) -> float:
    """The chance that a row with a thumb up has the greater value than one with a thumb down, ties by half; with thumbs of one
    kind only, the share of values on its side of zero."""
    up = [value for value, thumb in zip(values, thumbs, strict=True) if thumb > 0]
    down = [value for value, thumb in zip(values, thumbs, strict=True) if thumb < 0]
    if not up or not down:
        return sum(value * thumb > 0 for value, thumb in zip(values, thumbs, strict=True)) / len(values)
    wins = sum((a > b) + (a == b) / 2 for a in up for b in down)
    return wins / (len(up) * len(down))
