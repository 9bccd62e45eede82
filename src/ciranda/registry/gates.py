"""Gates: rules that a version's evaluations must satisfy. Pure: `judge` sees values, not stores.

    better than live                 significantly better on the same cases
    not worse than live by 0.05      worse by 0.05 or more is excluded
    >= 0.7, > 0.7, <= 0.01, < 0.01   the value itself

An honest "cannot tell" is one of three outcomes and opens no door: no cases, a missing metric, too few cases to tell
a difference, or a value on the wrong side of its bound that chance alone could have put there. A verdict passes when
every gate passes, fails when any fails, and cannot tell otherwise. `optional` gates of a slice without cases pass,
and say so.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ciranda.config.model import Gate
from ciranda.errors import Invalid
from ciranda.evals.compare import Comparison, compare
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
    gates: Sequence[Gate], candidate: Mapping[str, Evaluation], live: Mapping[str, Evaluation] | None = None
) -> Verdict:
    """Hold a version's evaluations against the gates. Pure.

    Args:
        gates: The rules of the model file.
        candidate: The candidate's evaluations, by the suite as the gates name it.
        live: The live version's, on the same suites; None when nothing is live.
    """
    results = tuple(_judge(gate, candidate.get(gate.suite), (live or {}).get(gate.suite)) for gate in gates)
    return Verdict(_together([result.outcome for result in results]), results)


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    if "fail" in outcomes:
        return "fail"
    return "cannot tell" if "cannot tell" in outcomes else "pass"


def _judge(gate: Gate, candidate: Evaluation | None, live: Evaluation | None) -> GateResult:
    rule, where = parse(gate.rule), gate.slice or None
    mine = candidate.estimate(gate.metric, where) if candidate else None
    theirs = live.estimate(gate.metric, where) if live else None
    compared: Comparison | None = None
    if mine is None or candidate is None:
        outcome, why = _without_cases(gate, candidate)
    elif rule.kind in SIGNS:
        outcome, why = _against_bound(rule, mine)
    elif live is None:
        outcome, why = "cannot tell", "nothing is live to compare with"
    else:
        compared = compare(candidate, live, gate.metric, rule.value, where=where, least=gate.least)
        outcome, why = _against_live(rule, compared)
    place = f" on {', '.join(f'{k}={v}' for k, v in gate.slice.items())}" if gate.slice else ""
    reason = f"{gate.metric} {gate.rule}{place}: {why}"
    return GateResult(gate.metric, gate.rule, gate.suite, gate.slice, outcome, reason, mine, theirs, compared)


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
