"""Whether a search finds a better recipe than the default: eight trials on the demo's sentences, judged on rows that none has seen.

    python bench/search.py                      some forty minutes of one core
    python bench/search.py --home /tmp/searched             and keep it, to look at; killed, it goes on; over, it may have more:
    python bench/search.py --home /tmp/searched --more 4
    python bench/search.py --home /tmp/searched --exam      do not search on: the exam of the best so far

What `ciranda search start` does is done here without a platform around it: the demo's English sentences, the packaged base, the
space below, trials as jobs of their own, one at a time. Trial 0 is the default recipe. The best by validation and the default then
sit the same exam on the test split, served by llama.cpp, and are compared pair by pair. Nothing is held: what came out is written
to bench/results/search.json, better or not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda import loop
from ciranda.config import Home
from ciranda.evals import compare, exams, suites
from ciranda.evals.suites import Evaluation, Suite
from ciranda.jobs.local import JobSpec
from ciranda.loop import intake, picks, searching
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.train import plans, trials
from ciranda.train.search import resume
from ciranda.train.trials import Trial

RESULTS = Path(__file__).parent / "results"
MODEL = "smart-home"
FILE = """\
model: smart-home
base: smollm2-135m-instruct
data:
  sources: [{intents: en, count: 3000}]
train:
  search:
    trials: TRIALS
    budget: 3h
    workers: WORKERS
    space:
      learning_rate: {low: 0.0015, high: 0.005}
      steps: [240, 360, 480]
      batch_size: [1, 2]
      layers: [12, 16, 20]
      rank: [8, 16]
evaluate: {cases: 90, max_tokens: 64}
"""


def searched(platform: Platform, count: int, workers: int) -> str:
    """Search to the end, telling each trial that ends; the search's id."""
    text = FILE.replace("TRIALS", str(count)).replace("WORKERS", str(workers))
    loop.apply(platform, loop.plan(platform, {str(platform.root / "smart-home.yaml"): text}), "bench")
    with platform.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    intake.take(platform, spec, actor="bench", patient=True)
    return followed(platform, searching.start(platform, MODEL, actor="bench", event="bench"))


def more(platform: Platform, count: int) -> str:
    """Give the search that is over more room, as `ciranda search resume --trials` does."""
    search = f"search:{MODEL}:bench"
    limit = trials.get(platform.db, search)["plan"]["limit"] + count
    resume(platform.db, search, actor="bench", bounds={"limit": limit})
    return followed(platform, search)


def followed(platform: Platform, search: str) -> str:
    """Do the leader's part until the search is over, telling each trial that ends."""
    leader = searching.Searching(platform)
    seen = {one.number for one in trials.of(platform.db, search) if not one.open}
    while trials.get(platform.db, search)["state"] == "running":
        leader.tick()
        for one in trials.of(platform.db, search):
            if not one.open and one.number not in seen:
                seen.add(one.number)
                print(line(one), flush=True)
        time.sleep(0.5)
    return search


def line(one: Trial) -> str:
    r = one.recipe
    reached = f"{one.objective:.1%}" if one.objective is not None else one.reason
    drawn = f"rate {r.learning_rate:g} steps {r.steps} of {r.batch_size} layers {r.layers} rank {r.rank}"
    return f"trial {one.number} {one.state} {reached}: {drawn}"


def examined(platform: Platform, suite: Suite, one: Trial) -> Evaluation:
    """The cases asked of what a trial trained, by the engine that would serve it."""
    with platform.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    about = {
        "base": one.base,
        "adapter": str(Path(one.folder) / "adapter.gguf"),
        "serve": spec.serve.model_dump(mode="json"),
    }
    engine = picks.serving(platform.home, "llamacpp", "trial", about, ready_file="{ready}")
    exam = exams.Spec(tuple(engine), "trial", str(platform.home.engine_key), (suite,), ("exact_match",), max_tokens=64)
    key = f"exam:{one.number}:{len(suite.cases)}"
    folder = platform.home.jobs / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(exam.to_dict()))
    platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder))
    while platform.jobs.status(key).state == "running":
        time.sleep(0.5)
    return exams.results(platform.jobs.collect(key))[0]


def told(one: Trial) -> dict[str, Any]:
    names = ("learning_rate", "steps", "batch_size", "layers", "rank")
    return {
        "number": one.number, "state": one.state, "recipe": {name: getattr(one.recipe, name) for name in names},
        "validation": one.objective, "loss": one.loss, "seconds": round(one.spent_s),
        "checks": [[round(100 * check.step / one.recipe.steps), check.exact_match] for check in one.checks], "reason": one.reason,
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--trials", type=int, default=8)
    options.add_argument("--more", type=int, default=0, help="Trials to add to the search that --home holds.")
    options.add_argument(
        "--exam", action="store_true", help="Only examine the best so far of the search that --home holds."
    )
    options.add_argument("--cases", type=int, default=300, help="Questions of the exam.")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--home", type=Path, help="Where it is done; kept. Without it a folder that goes.")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = asked.home or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        platform = loop.open(Home(folder.absolute() / ".ciranda"))
        if not asked.exam:
            if asked.more:
                more(platform, asked.more)
            else:
                searched(platform, asked.trials, asked.workers)
        search = f"search:{MODEL}:bench"
        row, known = trials.get(platform.db, search), trials.of(platform.db, search)
        plan = plans.of(row)
        number = plans.chosen(plan, known) if plan else None
        if number is None:
            sys.exit(f"no trial has a result: {row['reason']}")
        best = known[number]
        suite = suites.from_dataset(platform.db, platform.home, row["dataset"], limit=asked.cases)
        found = {one.number: examined(platform, suite, one) for one in {best.number: best, 0: known[0]}.values()}
        verdict = compare.compare(found[best.number], found[0], "exact_match").to_dict()
        result = {
            "model": "SmolLM2-135M-Instruct, Q8_0, llama.cpp", "dataset": row["dataset"], "state": row["state"],
            "trials": [told(one) for one in known],
            "best": best.number, "minutes": round(trials.elapsed_s(row) / 60, 1),
            "worker_minutes": round(sum(one.spent_s for one in known) / 60, 1),
            "test": {"n": len(suite.cases), "best": verdict["mean_a"], "default": verdict["mean_b"], "comparison": verdict},
        }  # fmt: skip
        (RESULTS / "search.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps({name: result[name] for name in ("best", "minutes", "test")}, indent=1))
        platform.close()


if __name__ == "__main__":
    main()
