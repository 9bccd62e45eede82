"""Gates: rules that a version's evaluations must satisfy. Pure: `judge` sees values, not stores.

    better than live                 significantly better on the same cases
    not worse than live by 0.05      worse by 0.05 or more is excluded
    >= 0.7, > 0.7, <= 0.01, < 0.01   the value itself

An honest "cannot tell" is one of three outcomes and opens no door: no cases, a missing metric, too few cases to tell
a difference, or a value on the wrong side of its bound that chance alone could have put there. A verdict passes when
every gate passes, fails when any fails, and cannot tell otherwise. `optional` gates of a slice without cases pass,
and say so. Each gate must hold by itself, so several need no correction to pass; that the candidate is worse is claimed only
where it holds among all the gates that compare (Holm). How often all this errs is measured in docs/gates.md.
Of a judge's metric the figures are what people would have said (`evals.calibration`); one that is not believed opens no door.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ciranda.config.model import Gate
from ciranda.errors import Invalid
from ciranda.evals import judge as judging
from ciranda.evals.calibration import Standing
from ciranda.evals.compare import Comparison, compare, together
from ciranda.evals.intervals import Estimate
from ciranda.evals.suites import Evaluation

Outcome = Literal["pass", "fail", "cannot tell"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

BOUND = re.compile(r"(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)")
NOT_WORSE = re.compile(r"not worse than live by\s+(\d+(?:\.\d+)?)")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A gate's rule as understood: `kind` is `better`, `not worse` or a sign; `value` the margin or bound."""

    kind: str
    value: float = 0.0


def parse(text: str) -> Rule:
    """Read a rule.

    Raises:
        Invalid: It is none; shows the forms there are.
    """
    words = " ".join(text.split())
    if words == "better than live":
        return Rule("better")
    if match := NOT_WORSE.fullmatch(words):
        return Rule("not worse", float(match[1]))
    if match := BOUND.fullmatch(words):
        return Rule(match[1], float(match[2]))
    raise Invalid(f"{text!r} is no rule of a gate", where="gates: rule",
                  remedy="write `better than live`, `not worse than live by 0.05`, `>= 0.7` or `<= 0.01`")  # fmt: skip


@dataclass(frozen=True)
class GateResult:
    """What one gate said, with its evidence.

    Args:
        reason: One sentence for people.
        candidate: The candidate's figure with interval and n; None when there is none.
        live: The live version's, for rules that compare.
        comparison: Candidate against live on the cases that both answered, for rules that compare.
        judge: Of a judge's metric, by which calibration its figures are what people would say, or why it is not believed.
    """

    metric: str
    rule: str
    suite: str
    slice: Mapping[str, str]
    outcome: Outcome
    reason: str
    candidate: Estimate | None = None
    live: Estimate | None = None
    comparison: Comparison | None = None
    judge: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "slice": dict(self.slice)}


@dataclass(frozen=True)
class Verdict:
    """What all gates together say of a version."""

    outcome: Outcome
    gates: tuple[GateResult, ...]

    @property
    def reason(self) -> str:
        """One sentence: what failed or could not be told, or that all passed."""
        wanting = [gate.reason for gate in self.gates if gate.outcome != "pass"]
        return "; ".join(wanting) if wanting else f"all {len(self.gates)} gates passed" if self.gates else "no gates"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"outcome": self.outcome, "reason": self.reason, "gates": [gate.to_dict() for gate in self.gates]}


def judge(
    gates: Sequence[Gate],
    candidate: Mapping[str, Evaluation],
    live: Mapping[str, Evaluation] | None = None,
    standings: Mapping[str, Standing] | None = None,
) -> Verdict:
    """Hold a version's evaluations against the gates. Pure.

    Args:
        gates: The rules of the model file.
        candidate: The candidate's evaluations, by the suite as the gates name it.
        live: The live version's, on the same suites; None when nothing is live.
        standings: What is to be believed of each judge's metric; one that is not in it is not believed.
    """
    asked = [
        _Asked(gate, candidate.get(gate.suite), (live or {}).get(gate.suite), _standing(gate.metric, standings or {}))
        for gate in gates
    ]
    compared = [_compared(one) for one in asked]
    family = iter(together([one for one in compared if one], claims={"worse"}))
    results = tuple(_judge(one, next(family) if found else None) for one, found in zip(asked, compared, strict=True))
    return Verdict(_together([result.outcome for result in results]), results)


@dataclass(frozen=True)
class _Asked:
    """One gate with what there is to decide it by. `standing` is there for a judge's metric."""

    gate: Gate
    candidate: Evaluation | None
    live: Evaluation | None
    standing: Standing | None

    @property
    def refusal(self) -> str:
        return self.standing.refusal if self.standing else ""

    def estimate(self, evaluation: Evaluation | None, version: str) -> Estimate | None:
        """The figure of an evaluation; of a judge's metric what people would have said."""
        if evaluation is None or self.refusal:
            return None
        where = self.gate.slice or None
        if self.standing is None or self.standing.calibration is None:
            return evaluation.estimate(self.gate.metric, where)
        scores = list(evaluation.scores(self.gate.metric, where).values())
        return self.standing.calibration.estimate(scores, version) if scores else None


def _standing(metric: str, standings: Mapping[str, Standing]) -> Standing | None:
    if (named := judging.of_metric(metric)) is None:
        return None
    refusal = (
        f"the judge {named[1]} was not asked, or never held against people; `ciranda judges show {named[1]}` says which"
    )
    return standings.get(metric) or Standing(metric, refusal=refusal)


def _compared(asked: _Asked) -> Comparison | None:
    """Candidate against live, for a rule that asks for it and cases that are there."""
    gate, candidate, live = asked.gate, asked.candidate, asked.live
    rule, where = parse(gate.rule), gate.slice or None
    if rule.kind in SIGNS or asked.refusal or candidate is None or live is None:
        return None
    mine, theirs = candidate.scores(gate.metric, where), live.scores(gate.metric, where)
    if not mine:
        return None
    found = compare(candidate, live, gate.metric, rule.value, where=where, least=gate.least)
    if asked.standing is None or asked.standing.calibration is None:
        return found
    gains = [mine[case] - theirs[case] for case in sorted(mine.keys() & theirs.keys())]
    return asked.standing.calibration.compared(found, gains, least=gate.least)


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    if "fail" in outcomes:
        return "fail"
    return "cannot tell" if "cannot tell" in outcomes else "pass"


def _judge(asked: _Asked, compared: Comparison | None) -> GateResult:
    gate, rule = asked.gate, parse(asked.gate.rule)
    mine = asked.estimate(asked.candidate, asked.standing.candidate if asked.standing else "")
    theirs = asked.estimate(asked.live, asked.standing.live if asked.standing else "")
    outcome: Outcome
    if asked.refusal:
        outcome, why = "cannot tell", asked.refusal
    elif mine is None:
        outcome, why = _without_cases(gate, asked.candidate)
    elif rule.kind in SIGNS:
        outcome, why = _against_bound(rule, mine)
    elif compared is None:
        outcome, why = "cannot tell", "nothing is live to compare with"
    else:
        outcome, why = _against_live(rule, compared)
    place = f" on {', '.join(f'{k}={v}' for k, v in gate.slice.items())}" if gate.slice else ""
    reason = f"{gate.metric} {gate.rule}{place}: {why}"
    known = asked.standing.to_dict() if asked.standing else None
    return GateResult(gate.metric, gate.rule, gate.suite, gate.slice, outcome, reason, mine, theirs, compared, known)


def _without_cases(gate: Gate, candidate: Evaluation | None) -> tuple[Outcome, str]:
    if candidate is None:
        return "cannot tell", f"suite {gate.suite} was not run"
    if gate.optional:
        return "pass", "no case of it yet, and the gate is optional"
    return "cannot tell", "no case has this metric"


def _against_bound(rule: Rule, mine: Estimate) -> tuple[Outcome, str]:
    """The value itself decides for it; against it only what chance does not explain."""
    said = f"{mine.mean:.3f} [{mine.low:.3f}, {mine.high:.3f}] on {mine.n} cases"
    holds = SIGNS[rule.kind]
    if holds(mine.mean, rule.value):
        return "pass", said
    best = mine.high if rule.kind.startswith(">") else mine.low
    return ("cannot tell", f"{said}, too few to tell") if holds(best, rule.value) else ("fail", said)


def _against_live(rule: Rule, compared: Comparison) -> tuple[Outcome, str]:
    low, high = compared.interval
    said = (
        f"{compared.mean_a:.3f} against {compared.mean_b:.3f}, gain {compared.difference:+.3f} [{low:+.3f}, {high:+.3f}] "
        f"on {compared.n} cases: {compared.reason}"
    )
    passing = {"better"} if rule.kind == "better" else {"better", "not_worse"}
    if compared.verdict in passing:
        return "pass", said
    return ("fail" if compared.verdict == "worse" else "cannot tell"), said
