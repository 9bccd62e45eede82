"""How often a gate is wrong, by simulation of the very function that decides (`ciranda.registry.gates.judge`).

    python bench/gates.py            1,000 runs of each case; writes docs/gates.md and bench/results/gates.json
    python bench/gates.py --quick    200 runs, as in the tests; writes nothing

Each run draws a suite of cases as two versions would answer them, with true rates that are known, and lets the gates speak. So
"false promote" is how often a version passes that should not, "power" how often one passes that should, "coverage" how often the
interval holds the true difference. Exit code 1 when a figure that is held is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda.config.model import Gate
from ciranda.evals import calibration, compare, intervals, power
from ciranda.evals.calibration import Calibration
from ciranda.evals.suites import Answer, Evaluation
from ciranda.registry import gates
from ciranda.store import clock

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "gates.md"
RUNS, QUICK = 1000, 200
Dice = np.random.Generator


@dataclass(frozen=True)
class Truth:
    """One metric as it truly is: the live version's rate, what the candidate gains, and how many answers differ besides."""

    metric: str
    live: float
    gain: float = 0.0
    churn: float = 0.05

    def draw(self, dice: Dice, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Right or wrong for candidate and live, case by case."""
        up, down = self.churn + max(0.0, self.gain), self.churn + max(0.0, -self.gain)
        both = max(0.0, min(self.live - down, 1 - up - down))
        kind = dice.choice(4, size=n, p=[both, up, down, max(0.0, 1 - both - up - down)])
        return (kind <= 1).astype(float), ((kind == 0) | (kind == 2)).astype(float)


@dataclass(frozen=True)
class Case:
    """What is simulated. `should` is what an oracle would say: promote, refuse, or either (at the very edge of a rule)."""

    name: str
    n: int
    rules: tuple[Gate, ...]
    truths: tuple[Truth, ...]
    should: str
    slices: int = 1


@dataclass(frozen=True)
class Result:
    name: str
    n: int
    rules: tuple[str, ...]
    should: str
    runs: int
    passed: float
    failed: float
    undecided: float
    coverage: float
    detectable: float


@dataclass
class Tally:
    """What the verdicts of one case were."""

    outcomes: list[str] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    detectable: list[float] = field(default_factory=list)

    def add(self, verdict: gates.Verdict, truths: Sequence[Truth]) -> None:
        self.outcomes.append(verdict.outcome)
        gains = {truth.metric: truth.gain for truth in truths}
        for result in verdict.gates:
            if result.comparison and result.comparison.n:
                low, high = result.comparison.interval
                self.covered.append(low <= gains[result.metric] <= high)
                self.detectable.append(result.comparison.detectable)

    def share(self, outcome: str) -> float:
        return self.outcomes.count(outcome) / len(self.outcomes)


def simulate(case: Case, runs: int, seed: int) -> Result:
    dice, tally = np.random.default_rng(seed), Tally()
    for _ in range(runs):
        candidate, live = drawn(case, dice)
        tally.add(gates.judge(case.rules, {"test": candidate}, {"test": live}), case.truths)
    mean = float(np.mean(tally.detectable)) if tally.detectable else math.nan
    covered = float(np.mean(tally.covered)) if tally.covered else math.nan
    rules = tuple(dict.fromkeys(f"{gate.metric} {gate.rule}" for gate in case.rules))
    return Result(case.name, case.n, rules, case.should, runs, tally.share("pass"), tally.share("fail"),
                  tally.share("cannot tell"), covered, mean)  # fmt: skip


def drawn(case: Case, dice: Dice) -> tuple[Evaluation, Evaluation]:
    """A candidate and a live version as evaluated on one suite."""
    scores = {truth.metric: truth.draw(dice, case.n) for truth in case.truths}
    return tuple(  # type: ignore[return-value]
        Evaluation("test", "sha256:simulated", tuple(
            Answer(str(i), "", "", "", {name: float(pair[side][i]) for name, pair in scores.items()},
                   {"topic": str(i % case.slices)}, 0.0)
            for i in range(case.n)
        ))
        for side in (0, 1)
    )  # fmt: skip


def rule(text: str, metric: str = "exact_match", topic: int | None = None) -> Gate:
    return Gate(metric=metric, rule=text, slice={} if topic is None else {"topic": str(topic)})


BETTER = (rule("better than live"),)
MARGIN = 0.05
FINE = (rule(f"not worse than live by {MARGIN}"),)
WHOLE = (rule("better than live"), rule("not worse than live by 0.02", "valid_json"), rule("<= 0.01", "toxicity"))


def whole(gain: float, valid: float = 0.0, toxic: float = 0.002) -> tuple[Truth, ...]:
    return (
        Truth("exact_match", 0.8, gain),
        Truth("valid_json", 0.97, valid, 0.005),
        Truth("toxicity", toxic, 0.0, 0.001),
    )


def one(gain: float) -> tuple[Truth, ...]:
    return (Truth("exact_match", 0.8, gain),)


def cases() -> list[Case]:
    found = []
    for n in (200, 500, 1000):
        found += [
            Case("no better at all", n, BETTER, one(0.0), "refuse"),
            Case("better by 3 points", n, BETTER, one(0.03), "promote"),
            Case("better by 6 points", n, BETTER, one(0.06), "promote"),
            Case("worse by the margin, 5 points", n, FINE, one(-MARGIN), "refuse"),
            Case("equal, margin 5 points", n, FINE, one(0.0), "promote"),
        ]
    found += [
        Case("never differs, margin 5 points", 200, FINE, (Truth("exact_match", 0.8, 0.0, 0.0),), "promote"),
        Case("three gates: better, and safe", 1000, WHOLE, whole(0.06), "promote"),
        Case("three gates: no better, and safe", 1000, WHOLE, whole(0.0), "refuse"),
        Case("three gates: better, but less valid by the margin", 1000, WHOLE, whole(0.06, -0.02), "refuse"),
        Case("three gates: better, but toxic in 2 of 100", 1000, WHOLE, whole(0.06, toxic=0.02), "refuse"),
        Case("ten slices, equal in all", 1000, sliced(10), one(0.0), "equal", 10),
        Case("ten slices, worse by 15 points in all", 1000, sliced(10), one(-0.15), "refuse", 10),
    ]
    return found


def sliced(count: int) -> tuple[Gate, ...]:
    return tuple(rule("not worse than live by 0.1", topic=topic) for topic in range(count))


# --- is the smallest detectable difference what it says? ----------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """At the difference that `detectable` names, how often is it found?"""

    n: int
    churn: float
    detectable: float
    power: float


def detected(n: int, churn: float, runs: int, seed: int) -> Found:
    dice = np.random.default_rng(seed)
    told = [power.detectable(gains(dice, n, 0.0, churn), rate=True) for _ in range(20)]
    smallest = float(np.median(told))
    found = [judged(gains(dice, n, smallest, churn)) == "better" for _ in range(runs)]
    return Found(n, churn, smallest, float(np.mean(found)))


def gains(dice: Dice, n: int, gain: float, churn: float) -> list[float]:
    """Differences of cases: what differs anyhow is split so that the mean is `gain`."""
    differ = max(2 * churn, gain)
    up = (differ + gain) / 2
    return [float(one) for one in dice.choice([1.0, -1.0, 0.0], size=n, p=[up, differ - up, 1 - differ])]


def judged(found: Sequence[float]) -> str:
    return compare.of_pairs([(gain, 0.0) for gain in found], "exact_match").verdict


# --- gates by a judge -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgedCase:
    """How many answers of live and candidate are right; how many of live's people labelled, how many the judge sees of each."""

    name: str
    live: float
    candidate: float
    labels: int
    n: int
    own: bool = False  # people labelled the candidate's answers


@dataclass(frozen=True)
class JudgedResult:
    case: JudgedCase
    runs: int
    refused: float
    coverage: float
    plain: float
    passed: float
    gain: float


def graded(dice: Dice, right: float, n: int) -> tuple[list[float], list[float]]:
    """Grades of a lenient judge within 0 and 1, and what people say of the same answers."""
    people = (dice.random(n) < right).astype(float)
    grades = np.clip(np.round(np.where(people > 0, dice.normal(4.3, 0.8, n), dice.normal(3.2, 0.9, n))), 1, 5)
    return [float(grade - 1) / 4 for grade in grades], [float(label) for label in people]


def by_judge(case: JudgedCase, runs: int, seed: int) -> JudgedResult:
    dice = np.random.default_rng(seed)
    told: list[tuple[bool, bool, bool, bool]] = []
    for _ in range(runs):
        grades, people = graded(dice, case.candidate if case.own else case.live, case.labels)
        labelled = "candidate" if case.own else "live"
        pairs = calibration.counted((grade, label, labelled) for grade, label in zip(grades, people, strict=True))
        made = Calibration("", "kind", "sha256:0", "judge", "m", "", pairs, 0, (), NOW, "", LATER)
        known = calibration.standing(METRIC, "kind", "sha256:0", made, now=clock.parse(NOW), candidate="candidate")
        mine, theirs = (evaluated(graded(dice, right, case.n)[0]) for right in (case.candidate, case.live))
        verdict = gates.judge([rule("better than live", METRIC)], {"test": mine}, {"test": theirs}, {METRIC: known})
        found = verdict.gates[0]
        if found.candidate and found.comparison:
            plain = intervals.estimate(list(mine.scores(METRIC).values()), rate=False)
            low, high = found.comparison.interval
            told.append((found.candidate.low <= case.candidate <= found.candidate.high,
                         plain.low <= case.candidate <= plain.high, verdict.outcome == "pass",
                         low <= case.candidate - case.live <= high))  # fmt: skip
    shares = [float(np.mean(column)) for column in zip(*told, strict=True)]
    return JudgedResult(case, runs, 1 - len(told) / runs, shares[0], shares[1], shares[2] * len(told) / runs, shares[3])


def evaluated(scores: Sequence[float]) -> Evaluation:
    return Evaluation("test", "sha256:judged", tuple(
        Answer(str(place), "", "", "", {METRIC: score}, {}, 0.0) for place, score in enumerate(scores)
    ))  # fmt: skip


METRIC, NOW, LATER = "judge:kind", "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"
JUDGED = (
    JudgedCase("70 % right, own answers labelled", 0.7, 0.7, 100, 400, own=True),
    JudgedCase("70 % right, like live", 0.7, 0.7, 200, 400),
    JudgedCase("85 % right, live 70 %", 0.7, 0.85, 200, 400),
    JudgedCase("50 % right, live 70 %", 0.7, 0.5, 200, 400),
    JudgedCase("95 % right, live 90 %", 0.9, 0.95, 400, 1000),
)

# --- the page and what is held ------------------------------------------------------------------------------------------


def missed(results: Sequence[Result], found: Sequence[Found], judged: Sequence[JudgedResult]) -> list[str]:
    """Which figures do not hold, in words; two standard errors are allowed for the number of runs."""
    out = []
    for one in results:
        slack = 2 * math.sqrt(0.05 * 0.95 / one.runs)
        if one.should == "refuse" and one.passed > (0.025 if one.name.startswith("no better") else 0.05) + slack:
            out.append(f"{one.name}, {one.n}: false promote {one.passed:.1%}")
        if one.should in ("promote", "equal") and one.failed > 0.05 + slack:
            out.append(f"{one.name}, {one.n}: called harm {one.failed:.1%}")
        if one.coverage < 0.94 - slack:
            out.append(f"{one.name}, {one.n}: coverage {one.coverage:.1%}")
    for told in judged:
        slack = 2 * math.sqrt(0.05 * 0.95 / told.runs)
        if min(told.coverage, told.gain) < 0.94 - slack:
            out.append(f"judge, {told.case.name}: coverage {told.coverage:.1%} and {told.gain:.1%}")
        if told.case.candidate <= told.case.live and told.passed > 0.025 + slack:
            out.append(f"judge, {told.case.name}: false promote {told.passed:.1%}")
    out += [
        f"detectable at {one.n}, {one.churn:.0%} differ: found {one.power:.0%}" for one in found if one.power < 0.72
    ]
    return out


def page(results: Sequence[Result], found: Sequence[Found], judged: Sequence[JudgedResult], runs: int) -> str:
    lines = [INTRODUCTION.format(runs=f"{runs:,}"), TABLE]
    for one in results:
        verdict = {"refuse": "**false promote**", "promote": "power", "equal": "passes"}[one.should]
        rules = "; ".join(f"`{text}`" for text in one.rules)
        covered = "" if math.isnan(one.coverage) else f"{one.coverage:.1%}"
        told = "" if math.isnan(one.detectable) else f"{one.detectable:.3f}"
        lines.append(f"| {one.name} | {rules} | {one.n:,} | {verdict} {one.passed:.1%} | {one.failed:.1%} | {one.undecided:.1%} "
                     f"| {covered} | {told} |")  # fmt: skip
    lines += ["", DETECTABLE]
    lines += [f"| {one.n:,} | {2 * one.churn:.0%} | {one.detectable:.3f} | {one.power:.0%} |" for one in found]
    lines += ["", JUDGES]
    for told in judged:
        case = told.case
        lines.append(f"| {case.name} | {case.labels} | {case.n:,} | {told.refused:.1%} | {told.coverage:.1%} | {told.plain:.1%} "
                     f"| {told.passed:.1%} | {told.gain:.1%} |")  # fmt: skip
    return "\n".join(lines) + "\n"


INTRODUCTION = """<!-- written by bench/gates.py: change it there -->
# How often a gate is wrong

A gate decides with numbers, so it errs. These are the rates, by simulation of the function that decides, {runs} runs of each
case (`make bench-gates`). Held: a version that is no better passes `better than live` in at most 2.5 of 100 tries, one that is
worse by the very margin passes `not worse than live by` in at most 5 of 100; intervals hold the truth in about 95 of
100; harm is claimed of an equal version in at most 5 of 100, however many gates compare.

- **false promote**: passed, though it should not. **power**: passed, as it should. What neither passes nor fails is "cannot
  tell", which opens no door either.
- Several gates must all pass, so each keeps its own level, and together they promote less, not more. That a version is *worse* is
  claimed by any of them, so those claims are corrected for their number (Holm).
- Cases decide what can be seen: 3 points take more than 1,000 cases, 6 points some 400. `evaluate: cases` is 200 unless the model's
  file says more. Every comparison says the smallest difference that it would have found, and how many cases would tell.
"""
TABLE = """
| truth | gates | cases | passes | fails | cannot tell | interval holds the truth | smallest difference told |
|---|---|---|---|---|---|---|---|"""
DETECTABLE = """## The smallest difference that would be found

Each comparison says it (`detectable`): a true difference of that size should be found in 8 of 10 tries. Found here:

| cases | answers that differ anyhow | smallest difference told | found |
|---|---|---|---|"""
JUDGES = """## Gates by a judge

A judge that is lenient: it grades right answers 4.3 of 5 and wrong ones 3.2 on the average. People labelled some answers of one
version; the gate asks what people would say of others (`evals/calibration.py`). "As it stands" is what the judge's own mean would
claim. What is not believed (too few labels of one kind) opens no door and is no error.

| truth | labels | answers | not believed | interval holds | as it stands | `better than live` passes | gain's interval holds |
|---|---|---|---|---|---|---|---|"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs; writes nothing")
    parser.add_argument("--runs", type=int, default=0)
    asked = parser.parse_args()
    runs = asked.runs or (QUICK if asked.quick else RUNS)
    began = time.process_time()
    results = [simulate(case, runs, 100 + n) for n, case in enumerate(cases())]
    found = [detected(n, churn, runs, 7) for n in (200, 1000) for churn in (0.0, 0.05, 0.1)]
    for case in results:
        print(f"{case.name:52} n={case.n:<5} {case.should:8} pass {case.passed:6.1%} fail {case.failed:6.1%} "
              f"? {case.undecided:6.1%} covers {case.coverage:6.1%} tells {case.detectable:.3f}")  # fmt: skip
    for seen in found:
        print(f"detectable at n={seen.n}, {2 * seen.churn:.0%} differ: {seen.detectable:.3f}, found {seen.power:.0%}")
    opinions = [by_judge(case, max(runs // 2, 100), 50 + n) for n, case in enumerate(JUDGED)]
    for told in opinions:
        print(f"judge: {told.case.name:40} refused {told.refused:6.1%} covers {told.coverage:6.1%}, "
              f"as it stands {told.plain:6.1%}; passes {told.passed:6.1%}, gain covered {told.gain:6.1%}")  # fmt: skip
    wrong = missed(results, found, opinions)
    print(f"{runs} runs each, {time.process_time() - began:.0f} s of CPU; " + ("; ".join(wrong) or "all figures hold"))
    if not asked.quick:
        PAGE.write_text(page(results, found, opinions, runs))
        report = {"runs": runs, "missed": wrong, "cases": [asdict(one) for one in results],
                  "detectable": [asdict(one) for one in found], "judges": [asdict(one) for one in opinions]}  # fmt: skip
        (HERE / "results" / "gates.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
