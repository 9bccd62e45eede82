"""Near duplicates: planted ones are found, the estimate is true to the texts, and templates stay apart at the default."""

from __future__ import annotations

import random

import numpy as np

from ciranda.data import near
from ciranda.data.rows import normalised

WORDS = (
    "the committee looked at figures of last year and found that most rivers in the north had less water than expected while towns "
    "near the coast asked for more pumps before summer because pipes were old and repairs had been put off again by the council"
)


def sentence(dice: random.Random, words: int = 30) -> str:
    return " ".join(dice.choice(WORDS.split()) for _ in range(words))


def jaccard(one: str, other: str) -> float:
    first, second = ({text[at : at + 5] for at in range(len(text) - 4)} for text in map(normalised, (one, other)))
    return len(first & second) / len(first | second)


def edited(text: str, dice: random.Random, edits: int) -> str:
    words = text.split()
    for _ in range(edits):
        words[dice.randrange(len(words))] = dice.choice(("zebra", "quartz", "vivid", "jumbo"))
    return " ".join(words)


def twins_of(texts: list[str], threshold: float = 0.85) -> dict[int, int]:
    return {place: other for place, other, _ in near.twins(near.signatures(texts), threshold)}


def test_planted_near_duplicates_are_found_and_hardly_anything_else() -> None:
    dice = random.Random(5)
    texts = [sentence(dice) for _ in range(3000)]
    planted = {len(texts) + n: dice.randrange(3000) for n in range(600)}
    texts += [edited(texts[of], dice, dice.randrange(0, 4)) for of in planted.values()]
    alike = {place: jaccard(texts[place], texts[of]) for place, of in planted.items()}
    found = twins_of(texts)
    sure = [place for place, true in alike.items() if true >= 0.93]
    assert len(sure) > 150
    assert sum(place in found for place in sure) / len(sure) >= 0.98
    assert not [place for place in found if jaccard(texts[place], texts[found[place]]) < 0.7]


def test_the_estimate_is_close_to_the_true_similarity() -> None:
    dice = random.Random(1)
    pairs = [(text := sentence(dice), edited(text, dice, dice.randrange(9))) for _ in range(300)]
    first, second = (near.signatures([pair[side] for pair in pairs]) for side in (0, 1))
    wrong = near.similarity(first, second) - np.array([jaccard(*pair) for pair in pairs])
    assert abs(wrong.mean()) < 0.04
    assert wrong.std() < 0.06


def test_a_twin_is_told_of_a_row_that_stays() -> None:
    text = WORDS
    found = twins_of([text, f"{text} today", text.upper(), "something else altogether", text])
    assert found == {1: 0, 2: 0, 4: 0}


def test_sentences_of_one_template_stay_apart_at_the_default() -> None:
    rooms = ("kitchen", "bedroom", "garage", "living room", "bathroom", "hallway")
    assert not twins_of([f"turn on the light in the {room} please" for room in rooms])


def test_signatures_are_the_same_in_any_batch() -> None:
    dice = random.Random(3)
    texts = ["", "a", *(sentence(dice, dice.randrange(1, 60)) for _ in range(50))]
    whole = near.signatures(texts)
    alone = [near.signatures([text]) for text in texts]
    assert (whole == np.concatenate(alone)).all()
    assert list(near.twins(near.signatures([]), 0.8)) == []
