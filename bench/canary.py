"""How releases are decided, measured by simulation of the very bets of `ciranda.deploy.bets`.

    python bench/canary.py            400 runs each, looked at after every request
    python bench/canary.py --quick    100 runs each, as in the tests

Held: false rollback <= 1 %, false promotion at the margin <= 5 %, a candidate with 10 % errors stopped within 150 of its
requests. Written to bench/results/canary.json; exit code 1 when one of them is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda.deploy.bets import (
    ERROR_RATE,
    FINE,
    LATENCY,
    QUALITY,
    THUMBS_UP,
    WORSE,
    Metric,
    Rules,
    e_value,
    one_bets,
    pair_bets,
)

RULES = Rules()
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """What is simulated: for each metric, how often it is 1 for the champion and for the candidate."""

    name: str
    metrics: tuple[tuple[Metric, float, float], ...]
    share: float
    horizon: int
    truth: str  # better, equal, margin, worse
    swing: float = 0.0  # the champion's and candidate's rates both swing by this part, over 500 requests


@dataclass(frozen=True)
class Result:
    case: str
    truth: str
    runs: int
    promoted: float
    rolled_back: float
    held: float
    median_requests: float
    median_candidate_requests: float
    p90_candidate_requests: float


def canary(case: Case, runs: int, seed: int) -> Result:
    """Every run in one row; a run is over when it is decided, and is looked at after every request."""
    dice = np.random.default_rng(seed)
    worse = [np.tile(WORSE, (runs, 1)) for _ in case.metrics]
    fine = [np.tile(FINE, (runs, 1)) for _ in case.metrics]
    totals = [np.zeros(runs) for _ in case.metrics]
    ended, mine = np.zeros(runs), np.zeros(runs)
    outcome = np.zeros(runs, int)  # 0 running, 1 promoted, -1 rolled back
    for n in range(1, case.horizon + 1):
        ours = dice.random(runs) < case.share
        running = outcome == 0
        mine += ours & running
        for place, (metric, champion, candidate) in enumerate(case.metrics):
            factor = 1 + case.swing * np.sin(2 * np.pi * n / 500)
            value = (dice.random(runs) < np.where(ours, candidate, champion) * factor).astype(float)
            centre = (totals[place] + metric.usual) / n
            grown = one_bets(ours, value, centre=centre, share=case.share, metric=metric)
            worse[place], fine[place] = worse[place] + grown[0], fine[place] + grown[1]
            totals[place] += value
        harm = np.mean([e_value(logs) for logs in worse], axis=0) >= RULES.rollback_at
        good = np.min([e_value(logs) for logs in fine], axis=0) >= RULES.advance_at
        decided = running & (harm | (good & (mine >= RULES.min_requests)))
        outcome[decided] = np.where(harm[decided], -1, 1)
        ended[decided] = n
        if (outcome != 0).all():
            break
    done = outcome != 0
    return _result(case.name, case.truth, outcome, ended[done], mine[done])


def shadow(
    name: str, metric: Metric, up: float, down: float, truth: str, runs: int, seed: int, horizon: int = 3000
) -> Result:
    """Pairs: the candidate is right alone with chance `up`, the champion alone with chance `down`, else they agree."""
    dice = np.random.default_rng(seed)
    worse_by = dice.choice([-1.0, 1.0, 0.0], p=[up, down, 1 - up - down], size=(runs, horizon))
    outcome, ended = np.zeros(runs, int), np.zeros(runs)
    for run in range(runs):
        grown = pair_bets(worse_by[run], metric.margin)
        harm = e_value(WORSE + grown[0].cumsum(axis=0)) >= RULES.rollback_at
        good = e_value(FINE + grown[1].cumsum(axis=0)) >= RULES.advance_at
        good[: RULES.min_pairs - 1] = False
        first = np.argmax(harm | good) if (harm | good).any() else -1
        outcome[run] = 0 if first < 0 else -1 if harm[first] else 1
        ended[run] = first + 1
    done = outcome != 0
    return _result(name, truth, outcome, ended[done], ended[done])


def _result(name: str, truth: str, outcome: np.ndarray, ended: np.ndarray, mine: np.ndarray) -> Result:
    def median(values: np.ndarray, q: float = 0.5) -> float:
        return float(np.quantile(values, q)) if len(values) else float("nan")

    return Result(name, truth, len(outcome), float((outcome == 1).mean()), float((outcome == -1).mean()),
                  float((outcome == 0).mean()), median(ended), median(mine), median(mine, 0.9))  # fmt: skip


def cases(full: bool) -> list[Case]:
    one, five = (replace(ERROR_RATE, margin=margin) for margin in (0.01, 0.05))
    wide = replace(QUALITY, margin=0.03)
    every = ((ERROR_RATE, 0.02, 0.02), (LATENCY, 0.05, 0.05), (QUALITY, 0.85, 0.85), (THUMBS_UP, 0.8, 0.8))
    harmed = ((ERROR_RATE, 0.02, 0.10), *every[1:])
    quick = [
        Case("errors 2 % -> 2 %, half", ((one, 0.02, 0.02),), 0.5, 8000, "equal"),
        Case("errors 2 % -> 3 % = margin, half", ((one, 0.02, 0.03),), 0.5, 8000, "margin"),
        Case("errors 2 % -> 10 %, a tenth", ((ERROR_RATE, 0.02, 0.10),), 0.1, 8000, "stop"),
        Case("errors 0 % -> 10 %, a tenth", ((ERROR_RATE, 0.0, 0.10),), 0.1, 8000, "stop"),
        Case("errors 2 % -> 10 %, a quarter, four metrics", harmed, 0.25, 4000, "stop"),
        Case("errors 0 % -> 0 %, half, margin 5 %", ((five, 0.0, 0.0),), 0.5, 2000, "equal"),
        Case("quality 85 % -> 75 %, half", ((QUALITY, 0.85, 0.75),), 0.5, 8000, "worse"),
    ]
    return quick if not full else [
        *quick,
        Case("errors 2 % -> 1 %, half", ((one, 0.02, 0.01),), 0.5, 20_000, "better"),
        Case("errors 2 % -> 2 %, a tenth, load swings", ((one, 0.02, 0.02),), 0.1, 20_000, "equal", swing=0.8),
        Case("errors 2 % -> 3 % = margin, a tenth", ((one, 0.02, 0.03),), 0.1, 20_000, "margin"),
        Case("errors 2 % -> 30 %, a twentieth", ((ERROR_RATE, 0.02, 0.30),), 0.05, 8000, "stop"),
        Case("quality 85 % -> 85 %, half", ((wide, 0.85, 0.85),), 0.5, 20_000, "equal"),
        Case("quality 85 % -> 82 % = margin, half", ((wide, 0.85, 0.82),), 0.5, 20_000, "margin"),
        Case("all four equal, half", every, 0.5, 12_000, "equal"),
        Case("all four equal, a twentieth", every, 0.05, 12_000, "equal"),
    ]  # fmt: skip


def shadows(runs: int) -> list[Result]:
    return [
        shadow("shadow: the same answers", QUALITY, 0.0, 0.0, "equal", runs, 1),
        shadow("shadow: equal, 10 % differ", QUALITY, 0.05, 0.05, "equal", runs, 2),
        shadow("shadow: worse by the margin, 15 % differ", QUALITY, 0.05, 0.10, "margin", runs, 3),
        shadow("shadow: base model against a trained one", QUALITY, 0.83, 0.0, "better", runs, 4),
        shadow("shadow: half as good", QUALITY, 0.05, 0.48, "worse", runs, 5),
    ]


def missed(results: list[Result]) -> list[str]:
    """Which figures do not hold, in words. Two standard errors are allowed for the number of runs."""
    out = []
    for one in results:
        slack = 2 * np.sqrt(0.05 * 0.95 / one.runs)
        if one.truth in ("equal", "better") and one.rolled_back > 0.01 + 2 * np.sqrt(0.01 * 0.99 / one.runs):
            out.append(f"{one.case}: false rollback {one.rolled_back:.1%}")
        if one.truth in ("margin", "worse", "stop") and one.promoted > 0.05 + slack:
            out.append(f"{one.case}: false promotion {one.promoted:.1%}")
        if one.truth == "stop" and not (one.rolled_back >= 0.95 and one.median_candidate_requests <= 150):
            out.append(f"{one.case}: stopped after {one.median_candidate_requests:.0f} of its requests")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs and cases")
    parser.add_argument("--runs", type=int, default=0)
    asked = parser.parse_args()
    runs = asked.runs or (100 if asked.quick else 400)
    began = time.process_time()
    results = shadows(runs) + [canary(case, runs, 100 + n) for n, case in enumerate(cases(not asked.quick))]
    print(f"{'case':52} {'promote':>8} {'rollback':>8} {'hold':>6} {'requests':>9} {'candidate':>9} {'its p90':>8}")
    for one in results:
        print(f"{one.case:52} {one.promoted:8.1%} {one.rolled_back:8.1%} {one.held:6.1%} {one.median_requests:9.0f} "
              f"{one.median_candidate_requests:9.0f} {one.p90_candidate_requests:8.0f}")  # fmt: skip
    wrong = missed(results)
    print(f"{runs} runs each, {time.process_time() - began:.0f} s of CPU; " + ("; ".join(wrong) or "all figures hold"))
    RESULTS.mkdir(exist_ok=True)
    report = {"runs": runs, "missed": wrong, "cases": [asdict(one) for one in results]}
    (RESULTS / "canary.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
