"""Several comparisons at once, how large a difference is, and what so many cases could have found."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config.model import Gate
from ciranda.evals import compare, power
from ciranda.evals.suites import Answer, Evaluation
from ciranda.registry import gates


def evaluation(scores: list[float], metric: str = "exact_match", topics: int = 1) -> Evaluation:
    answers = [
        Answer(str(n), "", None, "", {metric: value}, {"topic": str(n % topics)}, 0.0) for n, value in enumerate(scores)
    ]
    return Evaluation("test", "sha256:0", tuple(answers))


def test_holm_is_what_the_textbook_says() -> None:
    assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert compare.holm([0.2]) == [0.2]
    assert compare.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_an_adjusted_p_is_never_smaller_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = compare.holm(p_values)
    assert all(after >= before for after, before in zip(adjusted, p_values, strict=True))
    assert all(0 <= value <= 1 for value in adjusted)
    ranked = [adjusted[place] for place in sorted(range(len(p_values)), key=p_values.__getitem__)]
    assert ranked == sorted(ranked)


def test_one_slice_in_ten_that_looks_worse_is_no_claim() -> None:
    """9 losses of 40 cases in one slice are convincing alone, not among ten."""
    right = [1.0] * 400
    wrong_in_three = [0.0 if n % 10 == 3 and n < 90 else 1.0 for n in range(400)]
    alone = compare.compare(evaluation(wrong_in_three, topics=10), evaluation(right, topics=10), "exact_match",
                            where={"topic": "3"})  # fmt: skip
    assert alone.verdict == "worse"
    told = compare.by_slice(evaluation(wrong_in_three, topics=10), evaluation(right, topics=10), "exact_match")
    assert (len(told), told["topic=3"].family) == (10, 10)
    assert told["topic=3"].p_value == pytest.approx(alone.p_value)
    assert told["topic=3"].adjusted_p == pytest.approx(10 * alone.p_value)
    assert told["topic=3"].verdict == ("worse" if 10 * alone.p_value < 0.05 else "cannot_tell")
    milder = [0.0 if n % 10 == 3 and n < 70 else 1.0 for n in range(400)]
    told = compare.by_slice(evaluation(milder, topics=10), evaluation(right, topics=10), "exact_match")
    assert told["topic=3"].verdict == "cannot_tell"
    assert "among 10 comparisons" in told["topic=3"].reason


def test_gates_claim_harm_only_where_it_holds_among_all_of_them() -> None:
    """Ten slices are gated; in one of them seven answers of forty are wrong by chance: no yes, but no claim of harm either."""
    live = evaluation([1.0] * 400, topics=10)
    candidate = evaluation([0.0 if n % 10 == 3 and n < 70 else 1.0 for n in range(400)], topics=10)
    rules = [Gate(metric="exact_match", rule="not worse than live by 0.01", slice={"topic": str(n)}) for n in range(10)]
    alone = gates.judge([rules[3]], {"test": candidate}, {"test": live})
    among = gates.judge(rules, {"test": candidate}, {"test": live})
    assert (alone.outcome, among.gates[3].outcome) == ("fail", "cannot tell")
    assert among.gates[3].comparison is not None
    assert (among.gates[3].comparison.family, among.outcome) == (10, "cannot tell")


def test_effects_have_sizes_in_words() -> None:
    one_sided = [1.0] * 10 + [0.0] * 90
    assert power.effect(one_sided, rate=True) == power.Effect(0.5, "g")
    assert power.effect(one_sided, rate=True).size == "large"
    assert power.effect([1.0, -1.0] * 20, rate=True).size == "negligible"
    assert power.effect([0.3, 0.1, 0.2, 0.2], rate=False).size == "large"
    told = compare.of_pairs([(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 8 + [(1.0, 1.0)] * 80, "exact_match")
    assert told.to_dict()["effect"] == {"value": pytest.approx(0.1), "kind": "g", "size": "small"}


def test_a_comparison_that_cannot_tell_says_how_many_cases_would() -> None:
    dice = random.Random(3)
    pairs = [(float(dice.random() < 0.8), float(dice.random() < 0.8)) for _ in range(100)]
    told = compare.of_pairs(pairs, "exact_match", 0.05)
    assert told.verdict == "cannot_tell"
    assert told.needed > 100
    assert f"about {told.needed:,} cases would tell" in told.reason


def test_more_cases_detect_less_and_what_is_detectable_is_found() -> None:
    def gains(n: int) -> list[float]:
        return [1.0, -1.0, *[0.0] * 18] * (n // 20)

    few, many = (power.detectable(gains(n), rate=True) for n in (200, 2000))
    assert 0.05 < few < 0.1
    assert 0.01 < many < few / 2
    dice = random.Random(5)
    up, down = (0.1 + few) / 2, (0.1 - few) / 2
    found = 0
    for _ in range(200):
        drawn = dice.choices([1.0, -1.0, 0.0], [up, down, 1 - up - down], k=200)
        found += compare.of_pairs([(gain, 0.0) for gain in drawn], "exact_match").verdict == "better"
    assert found >= 150
