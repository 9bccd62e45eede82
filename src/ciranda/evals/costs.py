"""Measures of what an answer took: time, tokens, money, and how sure the model was of its own words. None where nobody counted."""

from __future__ import annotations

import math

from ciranda.evals.cases import Said


def latency(said: Said) -> float | None:
    """Milliseconds from the question to the last token."""
    return said.latency_ms


def tokens(said: Said) -> float | None:
    """Tokens of the answer."""
    return None if said.tokens_out is None else float(said.tokens_out)


def money(said: Said) -> float | None:
    """What it cost, in the currency of the model's prices."""
    return said.cost


def perplexity(said: Said) -> float | None:
    """exp of the mean negative log-probability of the answer's tokens: 1 is certain, high is word salad."""
    if not said.logprobs:
        return None
    return math.exp(min(-math.fsum(said.logprobs) / len(said.logprobs), 50.0))
