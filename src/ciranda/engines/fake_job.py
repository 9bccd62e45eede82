"""The fake trainer, beside the fake engine: `python -m ciranda.engines.fake_job <folder>`, a whole training job in a moment.

It does what `engines.peft_job` does, with a parrot for a model: it takes the rows of each step in the recipe's own order, answers
them as it would by now, and then remembers them. The loss of a step is how far those answers were from the right ones (0 the
same, 1 nothing in common), and validation figures come from what it really answers, so a curve falls because it learns.
`steps`, `batch_size`, `seed`, `validate_every` and `max_tokens` (words, here) mean what they say; rate, rank and layers a parrot
has none of. Of a pair it learns the chosen answer, of answers with thumbs those that were liked. All that it is are its lessons, so
a full tuning differs only in the names of the files that it leaves.

Killed anywhere it goes on from its last checkpoint and ends the same, byte for byte. It leaves what the real one leaves:
`adapter/` (one JSON file), the same for the engine under the name that versions give it, and `result.json` last.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ciranda.data.rows import Row, parse
from ciranda.engines import parrot
from ciranda.engines.parrot import Parrot
from ciranda.errors import Invalid
from ciranda.jobs import inside, usage
from ciranda.jobs.inside import Progress
from ciranda.jobs.usage import Usage
from ciranda.store import clock, files
from ciranda.train import bases, packing, provenance, recipe
from ciranda.train.recipe import Spec

SAMPLES = 3
LAYERS = 12  # that its configuration claims, so that a recipe's layers have a bound


def prepare(folder: Path, values: Mapping[str, Any], report: Progress) -> None:
    """Make the base that needs no weights: a configuration and nothing else, whole or absent."""
    place = Path(values["bases"]) / bases.slug(str(values["base"]))
    beside = place.with_name(f".{place.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "hf").mkdir(mode=0o700, parents=True)
    (beside / "hf/config.json").write_text(json.dumps({"model_type": "parrot", "num_hidden_layers": LAYERS}))
    about = {
        "format": bases.FORMAT, "name": values["base"], "source": "fake", "licence": "Apache-2.0",
        "digest": f"sha256:{files.sha256_of_folder(beside)}", "prepared_at": clock.iso(),
    }  # fmt: skip
    files.write_atomic(beside / "base.json", json.dumps(about, indent=1))
    shutil.rmtree(place, ignore_errors=True)
    beside.replace(place)
    files.sync_folder(place.parent)
    report({"phase": "done"})


def train(folder: Path, values: Mapping[str, Any], report: Progress) -> None:
    """Learn the rows of every step, and write `output/result.json` last."""
    began = time.perf_counter()
    spec = recipe.spec(values, where=str(folder / "spec.json"))
    spec = replace(spec, output=folder / spec.output)
    spec.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (spec.output / "result.json").exists():
        return
    rows, left_out = read(spec.rows, spec.recipe.max_tokens)
    rows = [row for row in rows if row.thumb >= 0]
    validation = [row for row in read(spec.validation, spec.recipe.max_tokens)[0] if row.thumb >= 0]
    if not rows:
        raise Invalid(f"no row fits in max_tokens {spec.recipe.max_tokens}", where=str(spec.rows),
                      remedy="raise max_tokens in the recipe, or bring rows")  # fmt: skip
    made_of = provenance.of(spec, {"fake": "1"})
    report({"run": made_of})
    school = School(spec, rows, validation)
    with Usage(report):
        school.learn(report)
    judged = school.validate(spec.recipe.steps, report)
    _keep(school.parrot, spec)
    seconds = time.perf_counter() - began
    result = {
        "method": spec.recipe.method, "tuning": "full" if spec.whole else "lora",
        "loss_curve": school.curve, "validation": judged, "rows": len(rows), "rows_left_out": left_out,
        "tokens": school.words, "tokens_per_s": school.words / max(seconds, 1e-6), "resumed_at": school.resumed_at,
        "peak_rss_bytes": usage.peak(), "seconds": seconds,
        "cpu_seconds": time.process_time(), "provenance": made_of,
        "environment": {"fake": "1", "python": platform.python_version()},
    }  # fmt: skip
    files.write_atomic(spec.output / "result.json", json.dumps(result, indent=1))
    school.checkpoint.unlink(missing_ok=True)
    report({"phase": "done"})


def read(path: Path, most_words: int) -> tuple[list[Row], int]:
    """The rows of a JSON-lines file, and how many were too long. Raises Invalid, naming the line."""
    with path.open(encoding="utf-8") as file:
        found = [_row(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()]
    rows = [row for row in found if _words(row) <= most_words]
    return rows, len(found) - len(rows)


def _row(line: str, where: str) -> Row:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise Invalid(f"no training row: {error}", where=where, remedy="write one JSON object") from None
    return parse(values, origin=where, strict=False)


def _words(row: Row) -> int:
    return sum(len(said.content.split()) for said in row.messages) + len(row.completion.split())


class School:
    """One training run; `resumed_at` is the step that a killed one had saved."""

    def __init__(self, spec: Spec, rows: Sequence[Row], validation: Sequence[Row]) -> None:
        recipe = spec.recipe
        self.spec, self.rows, self.validation = spec, rows, validation
        self.order = packing.schedule([row.language for row in rows], recipe.steps * recipe.batch_size, recipe.seed)
        start = spec.init_adapter or spec.init_weights
        self.parrot = Parrot.load(start / parrot.FILE) if start else Parrot()
        self.curve: list[tuple[int, float]] = []
        self.words = self.resumed_at = 0
        self.checkpoint = spec.output / "checkpoint.json"
        self._resume()

    def learn(self, report: Progress) -> None:
        """Every step that is left, with what it answers to a few validation rows where checkpoints are and at the end."""
        recipe, began = self.spec.recipe, time.perf_counter()
        for step in range(self.resumed_at, recipe.steps):
            lesson = self._lesson(step)
            loss = sum(_distance(self.parrot, row) for row in lesson) / len(lesson)
            self._hear(lesson)
            self.curve.append((step + 1, loss))
            speed = self.words / max(time.perf_counter() - began, 1e-6)
            how = {"loss": loss, "rate": recipe.rate(step), "tokens_per_s": speed}
            report({"step": step + 1, "steps": recipe.steps, **how})
            if (step + 1) % self.spec.checkpoint_steps == 0:
                self._save(step + 1)
            if (step + 1) % self.spec.checkpoint_steps == 0 or step + 1 == recipe.steps:
                self._sample(step + 1, report)
            if recipe.looks(step + 1):
                self.validate(step + 1, report)

    def validate(self, step: int, report: Progress) -> dict[str, Any]:
        """How it answers the validation rows by now, told as a line of progress."""
        judged = evaluate(self.parrot, self.validation)
        report({"validation": {"step": step, **judged}})
        return judged

    def _sample(self, step: int, report: Progress) -> None:
        for row in self.validation[:SAMPLES]:
            said = {"prompt": row.prompt, "reference": row.completion, "answer": self.parrot.answer(row.prompt)}
            report({"sample": {"step": step, **said}})

    def _lesson(self, step: int) -> list[Row]:
        size = self.spec.recipe.batch_size
        return [self.rows[n] for n in self.order[step * size : step * size + size]]

    def _hear(self, lesson: Sequence[Row]) -> None:
        for row in lesson:
            self.parrot.learn(row.prompt, row.completion)
            self.words += _words(row)

    def _save(self, step: int) -> None:
        saved = {"work": self.spec.digest, "step": step, "curve": self.curve}
        files.write_atomic(self.checkpoint, json.dumps(saved))

    def _resume(self) -> None:
        """Go on where a killed process of the same work was; what it had heard by then follows from the step."""
        try:
            saved = json.loads(self.checkpoint.read_text())
        except (FileNotFoundError, ValueError):
            return
        if saved["work"] != self.spec.digest:
            return
        self.resumed_at, self.curve = saved["step"], [(step, loss) for step, loss in saved["curve"]]
        for step in range(self.resumed_at):
            self._hear(self._lesson(step))


def _distance(taught: Parrot, row: Row) -> float:
    return 1 - SequenceMatcher(None, taught.answer(row.prompt), row.completion, autojunk=False).ratio()


def evaluate(taught: Parrot, rows: Sequence[Row]) -> dict[str, Any]:
    """Exact match and distance of its answers; no figure is made up when there is no row."""
    if not rows:
        return {"exact_match": None, "loss": None, "n": 0, "measure": "exact_match"}
    exact = sum(taught.answer(row.prompt) == row.completion for row in rows)
    loss = sum(_distance(taught, row) for row in rows) / len(rows)
    return {"exact_match": exact / len(rows), "loss": loss, "n": len(rows), "measure": "exact_match"}


def _keep(taught: Parrot, spec: Spec) -> None:
    """The artefact, and its form for the engine: here the same, under the names that every version has."""
    folder, served = ("weights", "model.gguf") if spec.whole else ("adapter", "adapter.gguf")
    (spec.output / folder).mkdir(mode=0o700, exist_ok=True)
    taught.save(spec.output / folder / parrot.FILE)
    taught.save(spec.output / served)


KINDS = {"train": train, "base": prepare}


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns its exit code."""
    return inside.main(KINDS, argv)


if __name__ == "__main__":
    sys.exit(main())
