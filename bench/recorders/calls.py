"""The calls that peers are given: as large as those of `bench/interactions.py`, out of the same words."""

from __future__ import annotations

import random
from typing import Any

WORDS = [
    f"{a}{b}{c}"
    for a in ("lam", "por", "ti", "so", "ve")
    for b in ("pa", "ta", "ne", "ri")
    for c in ("", "s", "do", "r")
]


def calls(count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Requests and answers in the chat API's shape."""
    dice = random.Random(7)

    def words(number: int) -> str:
        return " ".join(dice.choices(WORDS, k=number))

    made = []
    for _ in range(count):
        messages = [{"role": "system", "content": words(150)}, {"role": "user", "content": words(40)}]
        answer = {"role": "assistant", "content": words(180)}
        made.append(({"model": "smart-home", "messages": messages}, {"choices": [{"index": 0, "message": answer}]}))
    return made
