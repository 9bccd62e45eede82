"""Drift between versions, and the balance of labels: the tests keep their word on false alarms and see what is large."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ciranda.data import labels, shift
from ciranda.data.shift import Profile

SUBJECTS = {
    "home": "lamp kitchen door heating garage window curtain music volume bedroom",
    "health": "pain doctor fever tablet dose allergy rash sleep headache blood",
}


def sample(dice: random.Random, rows: int, *, subject: str = "home", words: int = 8, pt: float = 0.3) -> Profile:
    texts = [
        " ".join(dice.choice(SUBJECTS[subject].split()) for _ in range(dice.randrange(3, words))) for _ in range(rows)
    ]
    return shift.profile(
        np.array([len(text) for text in texts]),
        ["pt" if dice.random() < pt else "en" for _ in texts],
        [dice.choice(["on", "off", "dim"]) for _ in texts],
        [shift.bucket_of(text) for text in texts],
    )


def found(before: Profile, after: Profile, *, effect: float = 0.1) -> list[str]:
    return [one.what for one in shift.shifts(before, after, alpha=0.01, effect=effect)]


def test_sets_of_one_kind_do_not_differ() -> None:
    dice = random.Random(2)
    alarms = sum(bool(found(sample(dice, 400), sample(dice, 300), effect=0.0)) for _ in range(200))
    assert alarms <= 6  # 1 % by promise, so 2 are expected


def test_each_kind_of_change_is_named() -> None:
    dice = random.Random(3)
    usual = sample(dice, 2000)
    assert found(usual, sample(dice, 2000, pt=0.6)) == ["languages"]
    assert found(usual, sample(dice, 2000, words=20))[0] == "lengths"
    assert "words" in found(usual, sample(dice, 2000, subject="health"))
    assert found(usual, sample(dice, 30, pt=1.0)) == []  # too few to tell


def test_a_small_difference_is_nobodys_business_however_certain() -> None:
    dice = random.Random(4)
    usual, other = sample(dice, 60_000), sample(dice, 60_000, pt=0.33)
    assert found(usual, other) == []
    assert found(usual, other, effect=0.01) == ["languages"]


@pytest.mark.parametrize(
    ("value", "freedom", "above"),
    [(3.841, 1, 0.05), (18.307, 10, 0.05), (124.342, 100, 0.05), (0.5, 5, 0.9921), (60.0, 20, 7.12e-6)],
)
def test_the_chi_squared_tail_is_that_of_the_tables(value: float, freedom: int, above: float) -> None:
    assert shift._chi_squared_above(value, freedom) == pytest.approx(above, rel=0.01)


@pytest.mark.parametrize(
    ("completion", "label"),
    [
        ('{"intent": "HassTurnOn", "slots": {}}', "HassTurnOn"),
        (" Positive. ", "positive"),
        ('{"a": 1}', ""),
        ("{broken", ""),
        ("A long answer that says many things and is certainly no class of anything.", ""),
        ("two\nlines", ""),
    ],
)
def test_a_label_is_what_a_short_answer_says(completion: str, label: str) -> None:
    assert labels.label_of(completion) == label


def test_shares_out_of_bounds_are_named_only_where_answers_are_classes() -> None:
    counts = {"yes": 950, "no": 45, "maybe": 5}
    told = list(labels.unbalanced(counts, 1000, smallest=0.01, largest=0.9))
    assert [(one.label, one.reason) for one in told] == [
        ("yes", "95.0% of the labels, more than 90.0%"),
        ("maybe", "0.50% of the labels (5 rows), less than 1.00%"),
    ]
    assert not list(labels.unbalanced(counts, 5000, smallest=0.01, largest=0.9))
    assert not list(labels.unbalanced({f"answer {n}": 1 for n in range(900)}, 1000, smallest=0.01, largest=0.9))
