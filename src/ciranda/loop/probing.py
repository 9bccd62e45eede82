"""What a finished trial is measured by beside the trainer's own validation: served as users would get it, and asked.

    size_mb       bytes that are served: the base's GGUF with the adapter's, or the whole weights'
    latency_ms    median time of one answer, one question after another, by the engine that will serve it
    exact_match   in place of the trainer's, where methods are compared, since each validates by a measure of its own

The asking is an exam, a job of its own under a key that follows from the trial's, with some of the validation's questions; the test
split is never touched.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ciranda.config.model import ModelSpec
from ciranda.data.rows import parse
from ciranda.errors import Failed
from ciranda.evals import exams
from ciranda.evals.cases import Case
from ciranda.evals.suites import Suite
from ciranda.jobs.local import JobSpec
from ciranda.loop import picks
from ciranda.loop.platform import Platform
from ciranda.store import files
from ciranda.train.plans import Plan
from ciranda.train.run import Result
from ciranda.train.trials import Trial

CASES = 40
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Probe:
    """Measures the finished runs of one search (`train.search.Measure`)."""

    platform: Platform
    spec: ModelSpec
    plan: Plan

    def __call__(self, trial: Trial, result: Result) -> Mapping[str, float] | None:
        """What was measured, or None while its exam is under way.

        Raises:
            Failed: What was trained could not be served.
        """
        found: dict[str, float] = {}
        if "size_mb" in self.plan.measured:
            found["size_mb"] = self._bytes(trial, result) / MEGABYTE
        if "latency_ms" not in self.plan.measured and not self.plan.compared:
            return found
        asked = self._asked(trial, result)
        return None if asked is None else found | asked

    def _bytes(self, trial: Trial, result: Result) -> int:
        base = self.plan.bases[trial.base].folder / "base.q8_0.gguf"
        own = sum(file.stat().st_size for file in result.folder.glob("*.gguf"))
        beside = (result.folder / "adapter.gguf").exists() and base.exists()
        return own + (base.stat().st_size if beside else 0)

    def _asked(self, trial: Trial, result: Result) -> dict[str, float] | None:
        key = f"probe:{trial.job.removeprefix('train:')}"
        state = self.platform.jobs.status(key)
        if state.state in ("unknown", "lost"):
            self._submit(key, trial, result)
        if state.state == "failed":
            raise Failed(
                f"it could not be served: {state.reason}", where=f"job {key}", remedy="read its log.txt and engine.log"
            )
        if state.state != "succeeded":
            return None
        answers = [one for one in exams.results(self.platform.jobs.collect(key))[0].answers if not one.error]
        if not answers:
            raise Failed("it answered nothing", where=f"job {key}", remedy="read its engine.log")
        exact = statistics.fmean(one.scores["exact_match"] for one in answers)
        found = {"exact_match": exact} if self.plan.compared else {}
        return found | {"latency_ms": 1000 * statistics.median(one.seconds for one in answers)}

    def _submit(self, key: str, trial: Trial, result: Result) -> None:
        folder = self.platform.home.jobs / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        home, serve = self.platform.home, self.spec.serve.model_dump(mode="json")
        adapter, weights = (result.folder / name for name in ("adapter.gguf", "model.gguf"))
        about = {
            "base": trial.base, "serve": serve | {"slots": 1},
            "adapter": str(adapter) if adapter.exists() else None, "weights": str(weights) if weights.exists() else None,
        }  # fmt: skip
        exam = exams.Spec(
            engine=tuple(picks.serving(home, self.spec.engine_for(trial.base), "trial", about, ready_file="{ready}")),
            name="trial", key_file=str(home.engine_key), metrics=("exact_match",), concurrency=1,
            suites=(questions(self.plan.validation[self.plan.recipe.method]),), max_tokens=self.spec.evaluate.max_tokens,
        )  # fmt: skip
        files.write_atomic(folder / "spec.json", json.dumps(exam.to_dict(), ensure_ascii=False))
        self.platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder))


def questions(path: Path, most: int = CASES) -> Suite:
    """Some rows of a validation file as cases, spread evenly over it; the same for every trial."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line]
    chosen = lines[:: max(1, len(lines) // most)][:most]
    rows = [parse(json.loads(line), origin=str(path), strict=False) for line in chosen]
    return Suite("validation", tuple(Case(row.key, row.messages, row.completion, {}) for row in rows))
