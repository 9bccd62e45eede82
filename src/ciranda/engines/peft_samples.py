"""What the model in training answers by now: a few questions of the validation rows, asked now and then, greedily.

For people, who see in two answers what a loss cannot say. Nothing of training depends on it: no random number is drawn and no
weight touched. It is kept cheap: few questions, asked together, short answers, at most `SHARE` of the time that training took; the
end of a run is always sampled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

QUESTIONS = 3
LONGEST_TOKENS = 64
LONGEST_PROMPT_TOKENS = 512
SHARE = 0.03

Report = Callable[[dict[str, Any]], None]


class Samples:
    """The questions of one run, and when to ask them.

    Args:
        rows: The validation rows, a JSON-lines file; the first few that are a question and no disliked answer are asked.
        report: Where answers go, a line each.
    """

    def __init__(self, model: Any, tokenizer: Any, rows: Path, report: Report) -> None:
        self._model, self._tokenizer, self._report = model, tokenizer, report
        self._asked = _questions(rows, tokenizer)
        self._began = time.perf_counter()
        self._spent_s = self._last_s = 0.0

    def now_and_then(self, step: int) -> None:
        """Ask, if that keeps within the share of time."""
        if self._spent_s + self._last_s <= SHARE * (time.perf_counter() - self._began):
            self.ask(step)

    def ask(self, step: int) -> None:
        """Ask now, and tell what was answered after this step."""
        if not self._asked:
            return
        began = time.perf_counter()
        training = self._model.training
        self._model.eval()
        try:
            answers = self._answers()
        finally:
            self._model.train(training)
        for (row, _, _), answer in zip(self._asked, answers, strict=True):
            said = {"prompt": _last(row), "reference": row["completion"], "answer": answer}
            self._report({"sample": {"step": step, **said}})
        self._last_s = time.perf_counter() - began
        self._spent_s += self._last_s

    def _answers(self) -> list[str]:
        """Greedy answers, all questions at once, the shorter ones padded on the left."""
        end = self._tokenizer.eos_token_id
        width = max(len(tokens) for _, tokens, _ in self._asked)
        padded = [[end] * (width - len(tokens)) + tokens for _, tokens, _ in self._asked]
        seen = [[0] * (width - len(tokens)) + [1] * len(tokens) for _, tokens, _ in self._asked]
        with torch.no_grad():
            found = self._model.generate(
                input_ids=torch.tensor(padded), attention_mask=torch.tensor(seen), do_sample=False,
                max_new_tokens=max(due for _, _, due in self._asked), pad_token_id=end, eos_token_id=end,
            )  # fmt: skip
        return [str(self._tokenizer.decode(one[width:], skip_special_tokens=True)) for one in found]


def _questions(rows: Path, tokenizer: Any) -> list[tuple[Mapping[str, Any], list[int], int]]:
    """Rows with the tokens of their prompts, and how many tokens an answer may take: twice the right one's, bounded."""
    found: list[tuple[Mapping[str, Any], list[int], int]] = []
    with rows.open(encoding="utf-8") as file:
        for line in file:
            if len(found) == QUESTIONS:
                break
            row = json.loads(line) if line.strip() else {}
            if not row.get("messages") or not row.get("completion") or row.get("thumb", 0) < 0:
                continue
            prompt = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, tokenize=False)
            tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            due = len(tokenizer(row["completion"], add_special_tokens=False)["input_ids"])
            if len(tokens) <= LONGEST_PROMPT_TOKENS:
                found.append((row, tokens, min(LONGEST_TOKENS, 2 * due + 1)))
    return found


def _last(row: Mapping[str, Any]) -> str:
    """What the person said last."""
    return str(row["messages"][-1].get("content") or "")
