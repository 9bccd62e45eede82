"""How near an estimate comes to the run that it is made of: every method and tuning on the packaged base, told first and then done.

    python bench/estimates.py             some five minutes of one core
    python bench/estimates.py --only dpo

Nothing was measured in this home before, so each estimate rests on the shape of the base, on rows, and on the machine's speed of
this moment, as it does for whoever trains here for the first time. Then the run is done, as a job on one core, and its time from
the beginning of its process to the end and its memory at the widest stand beside what was said.

Held: time within a factor of two either way; memory never more than was said, and at least half of it. Written to
bench/results/estimates.json; exit code 1 when it is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda import config, loop
from ciranda.config import Home
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.engines import hassil
from ciranda.jobs.local import JobSpec
from ciranda.loop import estimates, staging
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.train import bases
from ciranda.train.recipe import Recipe, Spec

RESULTS = Path(__file__).parent / "results"
MODEL = "smart-home"
BASE = "smollm2-135m-instruct"
FILE = f"model: {MODEL}\nbase: {BASE}\ntrain: {{search: {{trials: 1, workers: 1}}}}\nevaluate: {{cases: 30, max_tokens: 64}}\n"
TIMES, LEAST = 2.0, 0.5
RUNS: dict[str, dict[str, Any]] = {
    "sft": {"steps": 60},
    "sft, 30 layers, 8 rows a step": {"steps": 12, "layers": 30, "batch_size": 8},
    "dpo": {"method": "dpo", "steps": 16},
    "kto": {"method": "kto", "steps": 16},
    "pretrain": {"method": "pretrain", "steps": 60},
    "full": {"tuning": "full", "steps": 24},
}


def opened(folder: Path) -> Platform:
    """A home with the model, its base, and rows of every kind."""
    platform = loop.open(Home(folder / ".ciranda"))
    loop.apply(platform, loop.plan(platform, {str(folder / "smart-home.yaml"): FILE}), "bench")
    job = bases.job(BASE, bases=platform.home.bases, cache=Path(platform.settings.cache), folder=folder / "base")
    finished(job)
    datasets.commit(platform.db, platform.home, MODEL, rows(), transformation={}, actor="bench")
    return platform


def rows() -> list[Row]:
    """Sentences with their answers; some as pairs, beside the answer to another one, and some with thumbs."""
    known = [*hassil.sample("en", 500, 1, split="train"), *hassil.sample("en", 60, 1, split="validation")]
    others = [known[0], *known[:-1]]
    thumbs = (1, -1)
    pairs = [
        row.with_(rejected=other.completion, origin=f"{row.origin} pair")
        for row, other in zip(known, others, strict=True)
    ]
    votes = [row.with_(thumb=thumbs[n % 2], origin=f"{row.origin} vote") for n, row in enumerate(known)]
    return [row for each in zip(known, pairs, votes, strict=True) for row in each[:3]]


def finished(job: JobSpec) -> float:
    """Do a job to its end, as a process of ours, so that it has the priority at which the speed was measured; its seconds."""
    began = time.monotonic()
    subprocess.run(
        job.argv, check=True, capture_output=True, cwd=job.folder, env={**config.environment(), **(job.env or {})}
    )
    return time.monotonic() - began


def compared(platform: Platform, name: str, recipe: Recipe) -> dict[str, Any]:
    """What was said of a run, and what it took."""
    with platform.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    said = estimates.of(platform, spec, recipe=recipe)
    assert said is not None
    read = staging.staged(platform, said_of(platform), f"search:{name}", recipe.method, spec.evaluate.cases)
    folder = platform.home.jobs / re.sub(r"\W+", "-", name)
    folder.mkdir(parents=True)
    base = bases.need(platform.home.bases, BASE).folder
    job = Spec(base, read.rows, read.validation, Path("output"), recipe, threads=1)
    (folder / "spec.json").write_text(json.dumps(job.to_dict()))
    seconds = finished(JobSpec((sys.executable, "-m", "ciranda.engines.peft_job", str(folder)), folder))
    result = json.loads((folder / "output/result.json").read_text())
    found = {
        "seconds": [said.seconds, round(seconds, 1)], "memory_mb": [said.memory_bytes >> 20, result["peak_rss_bytes"] >> 20],
        "tokens of a row": [said.tokens, round(result["tokens"] / recipe.steps / recipe.batch_size, 1)],
    }  # fmt: skip
    return found | {
        "time said / taken": round(said.seconds / seconds, 2),
        "memory said / taken": round(said.memory_bytes / result["peak_rss_bytes"], 2),
    }


def said_of(platform: Platform) -> str:
    newest = datasets.newest_of(platform.db, MODEL)
    assert newest is not None
    return newest.ref


def held(one: dict[str, Any]) -> bool:
    return 1 / TIMES <= one["time said / taken"] <= TIMES and 1.0 <= one["memory said / taken"] <= 1 / LEAST


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--only", choices=list(RUNS), help="One of them; nothing is written then.")
    asked = options.parse_args()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        platform = opened(Path(folder))
        for name, values in RUNS.items():
            if asked.only in (None, name):
                found[name] = compared(platform, name, Recipe(**values))
                print(name, json.dumps(found[name]), flush=True)
        platform.close()
    if not asked.only:
        report = {"held": f"time within {TIMES:g} times, memory from 1 to {1 / LEAST:g} times", "runs": found}
        (RESULTS / "estimates.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(map(held, found.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
