"""Releases judged by betting: what is decided, after how many answers, and that nothing but the answers decides it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.deploy.bets import ERROR_RATE, FINE, QUALITY, WORSE, Rules, e_value, one_bets, pair_bets, rate_bets
from ciranda.deploy.evidence import Evidence, One, Pair, Stage, Step, add, decide
from ciranda.errors import Invalid

SHADOW = Stage("shadow")
HALF = Stage("canary", 0.5, last=True)
RULES = Rules.of(["error_rate", "quality"], {"error_rate": 0.05, "quality": 0.05})


def shadow(candidate: float, champion: float, *, limit: int = 400, seed: int = 1) -> tuple[int, Step]:
    """Pairs of answers, right with these probabilities, until something is decided."""
    chance, evidence = random.Random(seed), Evidence()
    for n in range(1, limit + 1):
        pair = Pair("quality", float(chance.random() < candidate), float(chance.random() < champion))
        evidence = add(evidence, [pair], RULES)
        step = decide(SHADOW, evidence, RULES)
        if step.action != "hold":
            return n, step
    return limit, step


def canary(
    candidate: float, champion: float, *, rules: Rules, share: float = 0.5, limit: int = 4000
) -> tuple[int, Step]:
    """Requests that fail with these probabilities; returns how many of them the candidate got, and the decision."""
    chance, evidence, mine = random.Random(7), Evidence(), 0
    for _ in range(limit):
        ours = chance.random() < share
        mine += ours
        failed = float(chance.random() < (candidate if ours else champion))
        evidence = add(evidence, [One("error_rate", "candidate" if ours else "champion", failed, share)], rules)
        step = decide(Stage("canary", share, last=True), evidence, rules)
        if step.action != "hold":
            break
    return mine, step


def test_a_far_better_candidate_leaves_the_shadow_as_soon_as_the_least_number_of_pairs_is_there() -> None:
    n, step = shadow(0.83, 0.0)
    assert (step.action, n) == ("advance", RULES.min_pairs)
    assert "quality" in step.reason
    assert "pairs" in step.reason


def test_a_far_worse_candidate_is_stopped_after_a_dozen_pairs() -> None:
    n, step = shadow(0.0, 1.0)
    assert step.action == "rollback"
    assert n <= 12
    assert step.e_values["quality:worse"] >= 100


def test_equal_answers_are_called_not_worse_after_some_seventy_pairs() -> None:
    n, step = shadow(1.0, 1.0)
    assert step.action == "advance"
    assert 60 <= n <= 80


def test_half_as_good_is_stopped_within_fifty_pairs() -> None:
    n, step = shadow(0.4, 0.85)
    assert step.action == "rollback"
    assert n <= 50


def test_ten_percent_errors_are_stopped_within_150_answers_of_the_candidate() -> None:
    mine, step = canary(0.10, 0.0, rules=Rules.of(["error_rate", "latency_p95_ms", "quality", "thumbs_up"]), share=0.1)
    assert step.action == "rollback"
    assert mine <= 150
    assert step.reason.startswith("error_rate is worse at 10% of traffic")


def test_a_faultless_candidate_is_promoted() -> None:
    mine, step = canary(0.0, 0.0, rules=Rules.of(["error_rate"], {"error_rate": 0.05}))
    assert step.action == "promote"
    assert mine <= 100


def test_the_same_evidence_advances_a_middle_stage_and_promotes_the_last() -> None:
    rules, evidence = Rules.of(["error_rate"], {"error_rate": 0.05}), Evidence()
    arms = ["candidate", "champion"] * 100
    evidence = add(evidence, [One("error_rate", arm, 0.0, 0.5) for arm in arms], rules)  # type: ignore[arg-type]
    assert decide(Stage("canary", 0.5), evidence, rules).action == "advance"
    assert decide(Stage("canary", 0.5, last=True), evidence, rules).action == "promote"
    held = decide(HALF, evidence.enter(), rules)
    assert held.action == "hold"
    assert "0 of at least 20" in held.reason


@pytest.mark.parametrize(("stage", "action"), [(SHADOW, "hold"), (HALF, "hold")])
def test_nothing_known_decides_nothing(stage: Stage, action: str) -> None:
    assert decide(stage, Evidence(), RULES).action == action


def test_without_patience_left_a_person_is_asked() -> None:
    rules = Rules.of(["error_rate"], {"error_rate": 0.01}, patience=30)
    evidence = add(Evidence(), [One("error_rate", "candidate", 0.0, 0.5)] * 30, rules)
    step = decide(HALF, evidence, rules)
    assert (step.action, step.ask) == ("hold", True)


def test_few_thumbs_do_not_block_once_shadow_pairs_have_decided_quality() -> None:
    rules = Rules.of(["error_rate", "quality", "thumbs_up"], {"error_rate": 0.05})
    singles = [One("error_rate", arm, 0.0, 0.5) for arm in ("candidate", "champion")] * 150  # type: ignore[arg-type]
    votes = [One("thumbs_up", arm, 1.0, 0.5) for arm in ("candidate", "champion")] * 3  # type: ignore[arg-type]
    blind = add(Evidence(), [*singles, *votes], rules)
    assert decide(HALF, blind, rules).action == "hold"
    sure = add(blind, [Pair("quality", 1.0, 0.0)] * 10, rules)
    step = decide(HALF, sure, rules)
    assert step.action == "promote"
    assert "thumbs_up does not block, 6 votes" in step.reason


def test_bad_thumbs_still_roll_back_what_looked_fine_in_shadow() -> None:
    rules = Rules.of(["error_rate", "quality", "thumbs_up"])
    evidence = add(Evidence(), [Pair("quality", 1.0, 0.0)] * 20, rules)
    votes = [One("thumbs_up", "candidate", 0.0, 0.5), One("thumbs_up", "champion", 1.0, 0.5)] * 30
    assert decide(HALF, add(evidence, votes, rules), rules).action == "rollback"


def test_a_conversation_counts_once() -> None:
    told_often = add(Evidence(), [Pair("quality", 1.0, 0.0, unit="c1")] * 50, RULES)
    assert told_often.pair("quality").candidates == 1
    again = add(Evidence.from_dict(told_often.to_dict()), [Pair("quality", 1.0, 0.0, unit="c1")], RULES)
    assert again == told_often


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_values_outside_the_bets_are_refused(value: float) -> None:
    with pytest.raises(Invalid, match="outside"):
        add(Evidence(), [One("quality", "candidate", value, 0.5)], RULES)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_compares_nothing_is_refused(share: float) -> None:
    with pytest.raises(Invalid, match="compares nothing"):
        add(Evidence(), [One("quality", "candidate", 1.0, share)], RULES)


def test_rules_refuse_a_useless_margin_and_know_which_scorers_are_bad_when_high() -> None:
    with pytest.raises(Invalid, match="of no use"):
        Rules.of(["quality"], {"quality": 5})
    with pytest.raises(Invalid, match="at least one"):
        Rules.of([])
    assert [m.sign for m in Rules.of(["toxicity", "valid_json"]).metrics] == [1, -1]


def test_evidence_of_another_format_is_not_guessed_at() -> None:
    with pytest.raises(Invalid, match="format 9"):
        Evidence.from_dict({"format": 9})


observations = st.lists(
    st.one_of(
        st.builds(
            One,
            st.sampled_from(["error_rate", "quality"]),
            st.sampled_from(["candidate", "champion"]),
            st.floats(0, 1),
            st.sampled_from([0.05, 0.25, 0.5]),
            st.sampled_from(["", "a", "b"]),
        ),
        st.builds(Pair, st.just("quality"), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["", "a", "b"])),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(observations, st.integers(0, 30))
def test_a_restart_anywhere_changes_nothing(seen: list[One | Pair], cut: int) -> None:
    whole = add(Evidence(), seen, RULES)
    half = Evidence.from_dict(json.loads(json.dumps(add(Evidence(), seen[:cut], RULES).at("x", "7").to_dict())))
    resumed = add(half, seen[cut:], RULES)
    assert (resumed.pairs, resumed.singles, resumed.units) == (whole.pairs, whole.singles, whole.units)
    assert resumed.cursors == {"x": "7"}


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0.01, 0.99), st.sampled_from([0.05, 0.25, 0.5]), st.floats(0, 1), st.booleans())
def test_no_bet_on_a_canary_gains_while_its_claim_holds(
    mine: float, centre: float, share: float, theirs: float, good: bool
) -> None:
    """Exact expectation over the arm and the outcome: at most 1 for every bet, whatever the baseline and the share."""
    metric = QUALITY if good else ERROR_RATE
    worse_by = metric.sign * (mine - theirs)
    arm, value = np.array([True, True, False, False]), np.array([1.0, 0.0, 1.0, 0.0])
    chance = np.array([share * mine, share * (1 - mine), (1 - share) * theirs, (1 - share) * (1 - theirs)])
    worse, fine = one_bets(arm, value, centre=centre, share=share, metric=metric)
    if worse_by <= metric.tolerance:
        assert (chance @ np.exp(worse) <= 1 + 1e-9).all()
    if worse_by >= metric.margin:
        assert (chance @ np.exp(fine) <= 1 + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.3]))
def test_no_bet_on_pairs_or_on_a_rate_gains_while_its_claim_holds(up: float, rest: float, margin: float) -> None:
    chance = np.array([up, (1 - up) * rest, (1 - up) * (1 - rest)])
    worse_by = np.array([1.0, 0.0, -1.0])
    worse, fine = pair_bets(worse_by, margin)
    if chance @ worse_by <= margin:
        assert (chance @ np.exp(worse) <= 1 + 1e-9).all()
    if chance @ worse_by >= margin:
        assert (chance @ np.exp(fine) <= 1 + 1e-9).all()
    if up <= margin:
        assert (np.array([up, 1 - up]) @ np.exp(rate_bets([1.0, 0.0], margin)) <= 1 + 1e-9).all()


def test_wealth_hardly_ever_reaches_its_bound_while_the_claim_holds() -> None:
    """Ville: at most 1 run in 20 may ever reach 20. 2,000 runs of 400 pairs that are worse by exactly the margin."""
    chance = np.random.default_rng(5)
    worse_by = chance.choice([1.0, 0.0, -1.0], p=[0.20, 0.65, 0.15], size=(2000, 400))
    wealth = e_value(FINE + pair_bets(worse_by, 0.05)[1].cumsum(axis=1))
    assert wealth.shape == (2000, 400)
    assert [np.exp(one).sum() for one in (FINE, WORSE)] == pytest.approx([1.0, 1.0])
    assert (wealth.max(axis=1) >= 20).mean() <= 0.05
    assert wealth[:, -1].mean() <= 1.3
