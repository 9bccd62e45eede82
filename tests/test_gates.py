"""Gates: what each rule says of known evaluations, and that "cannot tell" is an answer."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config.model import Gate
from ciranda.errors import Invalid
from ciranda.evals.suites import Answer, Evaluation
from ciranda.registry import gates
from ciranda.registry.gates import judge, parse


def evaluation(right: Callable[[int], bool], n: int = 200, metric: str = "exact_match") -> Evaluation:
    """`n` cases, every fourth Portuguese; `right` says which are answered well."""
    answers = [
        Answer(f"case-{i}", "?", "!", "!", {metric: float(right(i))}, {"language": "en" if i % 4 else "pt-BR"}, 0.1)
        for i in range(n)
    ]
    return Evaluation("test", "sha256:suite", tuple(answers))


def share(percent: float) -> Callable[[int], bool]:
    """The same random `percent` of cases for everybody; a higher percent includes the cases of a lower one."""
    dice = random.Random(7)
    luck = [dice.random() * 100 for _ in range(10_000)]
    return lambda i: luck[i] < percent


def outcome(
    rule: str, candidate: Evaluation | None, live: Evaluation | None = None, **more: object
) -> gates.GateResult:
    gate = Gate.model_validate({"metric": "exact_match", "rule": rule, **more})
    verdict = judge([gate], {"test": candidate} if candidate else {}, {"test": live} if live else None)
    assert verdict.outcome == verdict.gates[0].outcome
    return verdict.gates[0]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("better than live", gates.Rule("better")),
        ("not worse than live by 0.05", gates.Rule("not worse", 0.05)),
        (">= 0.7", gates.Rule(">=", 0.7)),
        ("<=0.01", gates.Rule("<=", 0.01)),
        ("  >   1 ", gates.Rule(">", 1.0)),
    ],
)
def test_rules_are_read(text: str, rule: gates.Rule) -> None:
    assert parse(text) == rule


@pytest.mark.parametrize(
    "text", ["", "better", "at least 0.7", "== 1", ">= high", "not worse than live", ">= 0.7; drop"]
)
def test_what_is_no_rule_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(Invalid, match="is no rule of a gate") as caught:
        parse(text)
    assert "better than live" in caught.value.remedy


def test_better_than_live() -> None:
    good, poor = evaluation(share(80)), evaluation(share(20))
    assert outcome("better than live", good, poor).outcome == "pass"
    assert outcome("better than live", poor, good).outcome == "fail"
    assert outcome("better than live", good, good).outcome == "cannot tell"


def test_not_worse_than_live_by_a_margin() -> None:
    live = evaluation(share(80), 800)
    assert outcome("not worse than live by 0.05", evaluation(share(79.5), 800), live).outcome == "pass"
    assert outcome("not worse than live by 0.05", evaluation(share(60), 800), live).outcome == "fail"
    few = "not worse than live by 0.05"
    assert outcome(few, evaluation(share(70), 20), evaluation(share(70), 20)).outcome == "cannot tell"


def test_a_bound_is_failed_only_when_chance_does_not_explain_it() -> None:
    assert outcome(">= 0.7", evaluation(share(80))).outcome == "pass"
    assert outcome(">= 0.7", evaluation(share(40))).outcome == "fail"
    assert outcome(">= 0.7", evaluation(share(66))).outcome == "cannot tell"
    assert outcome("<= 0.01", evaluation(share(0))).outcome == "pass"
    assert outcome("<= 0.01", evaluation(share(30))).outcome == "fail"


def test_fewer_is_better_where_that_is_so() -> None:
    clean, foul = evaluation(share(1), metric="toxicity"), evaluation(share(40), metric="toxicity")
    gate = Gate(metric="toxicity", rule="better than live")
    assert judge([gate], {"test": clean}, {"test": foul}).outcome == "pass"
    assert judge([gate], {"test": foul}, {"test": clean}).outcome == "fail"


def test_a_slice_is_judged_alone() -> None:
    english_only = evaluation(lambda i: i % 4 != 0)
    result = outcome(">= 0.9", english_only, slice={"language": "en"})
    assert (result.outcome, result.candidate and result.candidate.n) == ("pass", 150)
    assert outcome(">= 0.9", english_only, slice={"language": "pt-BR"}).outcome == "fail"


def test_a_slice_without_cases_cannot_tell_unless_it_is_optional() -> None:
    assert outcome(">= 0.1", evaluation(share(90)), slice={"language": "de"}).outcome == "cannot tell"
    result = outcome(">= 0.1", evaluation(share(90)), slice={"language": "de"}, optional=True)
    assert (result.outcome, "no case" in result.reason) == ("pass", True)


def test_what_was_not_measured_cannot_be_told() -> None:
    assert outcome(">= 0.1", None).outcome == "cannot tell"
    assert outcome(">= 0.1", None, optional=True).outcome == "cannot tell"  # the suite itself was not run
    assert outcome("better than live", evaluation(share(90))).outcome == "cannot tell"
    missing = judge([Gate(metric="valid_json", rule=">= 0.1")], {"test": evaluation(share(90))})
    assert missing.outcome == "cannot tell"


def test_evidence_has_both_values_interval_and_n() -> None:
    result = outcome("better than live", evaluation(share(80)), evaluation(share(20)))
    said = result.to_dict()
    assert said["candidate"]["n"] == said["live"]["n"] == said["comparison"]["n"] == 200
    assert said["comparison"]["low"] < said["comparison"]["difference"] < said["comparison"]["high"]
    assert "against" in result.reason


def test_no_gates_pass_and_say_so() -> None:
    verdict = judge([], {})
    assert (verdict.outcome, verdict.reason) == ("pass", "no gates")


@given(st.lists(st.sampled_from([(">= 0.7", 80), (">= 0.7", 40), (">= 0.7", 66)]), min_size=1, max_size=4))
def test_a_verdict_passes_only_when_every_gate_does(chosen: list[tuple[str, float]]) -> None:
    suites = {f"suite-{place}": evaluation(share(percent)) for place, (_, percent) in enumerate(chosen)}
    rules = [Gate(metric="exact_match", rule=rule, suite=f"suite-{place}") for place, (rule, _) in enumerate(chosen)]
    verdict = judge(rules, suites)
    outcomes = {gate.outcome for gate in verdict.gates}
    assert (verdict.outcome == "pass") == (outcomes == {"pass"})
    assert (verdict.outcome == "fail") == ("fail" in outcomes)
