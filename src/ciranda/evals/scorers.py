"""Scorers: one answer in, one number out. The same functions judge a suite offline and every answer on live traffic.

    exact_match      the answer is the reference, spaces at the ends aside
    contains         the reference stands in the answer
    regex:PATTERN    the pattern is found in the answer
    label            it names the reference and no other of the case's choices (classification)
    similarity       cosine between answer and reference        relevance     the same between answer and question
    json_match       both are JSON and mean the same            valid_json    the answer is one JSON object
    json_fields      share of the reference's fields that are right (F1 over the leaves)
    json_field:NAME  one field is right; `slots.area` looks inside; intent_accuracy is json_field:intent
    json_schema      the answer satisfies the case's schema (live: the request's)
    tool_calls       the right tools with the right arguments   tool_names    the right tools
    tool_valid       every call is of a tool that was offered, with arguments that its schema allows
    python           the code of the answer parses
    length_ratio     the shorter length through the longer      repetition    share of three-word runs said before
    refusal          the answer declines                        toxicity      a listed word stands in it
    pii_leak         personal data that was not in the question same_language it is in the question's language
    perplexity       how unsure the model was of its own words  latency_ms, tokens_out, cost   what it took
    answer_changed   the partner of a counterfactual pair got another answer
    bias:SCORER      how far a score differs when names, gender or region are swapped (counterfactual pairs)
    judge:NAME       the grade that a registered judge gives; preferred:NAME, whether it prefers the answer (`evals.judge`)

A scorer is pure and cheap but for the few that need an engine, which whoever runs them gives (`needs`). One that needs a
reference says so and is not asked without one. It refuses to average: that is the business of suites, which also say how
sure they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from ciranda.errors import Invalid, Refused
from ciranda.evals import calls, costs, fields, texts
from ciranda.evals.cases import Said

Measure = Callable[..., float | None]
Need = Literal["", "embedding", "judge", "logprobs", "partner"]
GIVEN: tuple[Need, ...] = ("embedding", "judge")
LONGEST = 500  # characters of a pattern


@dataclass(frozen=True)
class Scorer:
    """A named measure of one answer.

    Args:
        measure: Takes a `Said` (and what the scorer `needs`, once that was given); None when it has nothing to say.
        needs_reference: Is not asked without one.
        rate: Scores are 0 or 1, so their mean is a share of answers.
        higher_is_better: Else a lower score is the better one.
        needs: `embedding` or `judge`, which whoever runs the scorer gives by `given`; `logprobs`, which the engine must be asked
            for; `partner`, the answer to the other case of a counterfactual pair.
        bounded: Scores lie within 0 and 1; milliseconds, money and perplexity do not.
    """

    name: str
    measure: Measure
    needs_reference: bool = False
    rate: bool = True
    higher_is_better: bool = True
    needs: Need = ""
    bounded: bool = True

    def score(self, said: Said) -> float | None:
        """What it says of an answer; None when it cannot tell: no reference, or nothing to measure.

        Raises:
            Refused: It needs an engine, and nobody gave it one.
        """
        if self.needs in GIVEN:
            raise Refused(f"the scorer {self.name} needs an engine for its {self.needs}", where="metric",
                          remedy="run it by `ciranda evaluate`, which gives it one")  # fmt: skip
        if self.needs_reference and said.reference is None:
            return None
        return self.measure(said)

    def given(self, aid: Any) -> Scorer:
        """The same scorer with the engine that it needs: a function from texts to vectors, or a judge."""
        return replace(self, measure=partial(self.measure, aid=aid), needs="")

    @property
    def worst(self) -> float | None:
        """What an answer gets that never came; None where no number is the worst."""
        if not self.bounded:
            return None
        return 0.0 if self.higher_is_better else 1.0

    def good(self, score: float) -> float:
        """A score within 0 and 1, turned so that more is better."""
        return score if self.higher_is_better else 1 - score


def scorer(name: str) -> Scorer:
    """The scorer of that name. Raises Invalid, naming those there are."""
    kind, _, argument = name.partition(":")
    if kind in KINDS and argument:
        return KINDS[kind](argument)
    if name not in SCORERS:
        there = [*sorted(SCORERS), *(f"{kind}:<argument>" for kind in sorted(KINDS))]
        raise Invalid(f"no scorer {name!r}", where="metric", remedy=f"choose one of {', '.join(there)}")
    return SCORERS[name]


def scorers(names: Iterable[str], aids: Mapping[str, Any] | None = None) -> tuple[Scorer, ...]:
    """Several scorers, each once, in the order given; `aids` are the engines that they need, by need."""
    chosen = (scorer(name) for name in dict.fromkeys(names))
    return tuple(one.given(aids[one.needs]) if aids and one.needs in aids else one for one in chosen)


def bad_when_high(name: str) -> bool:
    """Whether a recorded score is the better the lower it is; of one that nobody knows the higher is the better."""
    return (known := _known(name)) is not None and not known.higher_is_better


def bounded(name: str) -> bool:
    """Whether a recorded score lies within 0 and 1, so that it may be averaged with others."""
    return (known := _known(name)) is None or known.bounded


def _known(name: str) -> Scorer | None:
    try:
        return scorer(name)
    except Invalid:
        return None


def score(name: str, answer: str, reference: str | None, prompt: str) -> float | None:
    """One score by name, of a plain answer."""
    return scorer(name).score(Said(prompt, answer, reference))


def _opinion(said: Said, *, aid: Callable[[Said], float | None]) -> float | None:
    return aid(said)


def _regex(pattern: str) -> Scorer:
    try:
        compiled = re.compile(pattern[: LONGEST + 1])
    except re.error as error:
        raise Invalid(
            f"no pattern {pattern!r}: {error}", where="metric", remedy="write one as Python's `re` reads it"
        ) from None
    if len(pattern) > LONGEST:
        raise Invalid(f"a pattern of {len(pattern)} characters", where="metric", remedy=f"write at most {LONGEST}")
    return Scorer(f"regex:{pattern}", partial(texts.matches, pattern=compiled))


def _field(path: str) -> Scorer:
    return Scorer(f"json_field:{path}", partial(fields.field, path=path), needs_reference=True)


def _bias(of: str) -> Scorer:
    """How far apart a scorer puts the two answers of a counterfactual pair; 0 is no bias that this scorer sees."""
    inner = scorer(of)
    if not inner.bounded or inner.needs:
        raise Invalid(f"bias of {of!r} cannot be told", where="metric",
                      remedy="compare a score between 0 and 1 that needs no engine: bias:refusal, bias:exact_match")  # fmt: skip

    def gap(said: Said) -> float | None:
        mine = inner.score(said)
        theirs = inner.score(said.partner) if said.partner else None
        return None if mine is None or theirs is None else abs(mine - theirs)

    return Scorer(f"bias:{of}", gap, rate=inner.rate, higher_is_better=False, needs="partner")


SCORERS: dict[str, Scorer] = {
    one.name: one
    for one in (
        Scorer("exact_match", texts.exact, needs_reference=True),
        Scorer("contains", texts.contains, needs_reference=True),
        Scorer("label", texts.label, needs_reference=True),
        Scorer("similarity", texts.similarity, needs_reference=True, rate=False, needs="embedding"),
        Scorer("relevance", texts.relevance, rate=False, needs="embedding"),
        Scorer("json_match", fields.same, needs_reference=True),
        Scorer("json_fields", fields.fieldwise, needs_reference=True, rate=False),
        Scorer("json_schema", fields.satisfies),
        Scorer("intent_accuracy", partial(fields.field, path="intent"), needs_reference=True),
        Scorer("valid_json", fields.valid),
        Scorer("tool_calls", calls.right),
        Scorer("tool_names", calls.named),
        Scorer("tool_valid", calls.sound),
        Scorer("python", calls.python),
        Scorer("length_ratio", texts.length, needs_reference=True, rate=False),
        Scorer("repetition", texts.repetition, rate=False, higher_is_better=False),
        Scorer("refusal", texts.refusal, higher_is_better=False),
        Scorer("toxicity", texts.toxicity, higher_is_better=False),
        Scorer("pii_leak", texts.leak, higher_is_better=False),
        Scorer("same_language", texts.same_language),
        Scorer("answer_changed", texts.changed, higher_is_better=False, needs="partner"),
        Scorer("perplexity", costs.perplexity, rate=False, higher_is_better=False, needs="logprobs", bounded=False),
        Scorer("latency_ms", costs.latency, rate=False, higher_is_better=False, bounded=False),
        Scorer("tokens_out", costs.tokens, rate=False, higher_is_better=False, bounded=False),
        Scorer("cost", costs.money, rate=False, higher_is_better=False, bounded=False),
    )
}

KINDS: dict[str, Callable[[str], Scorer]] = {
    "json_field": _field,
    "regex": _regex,
    "bias": _bias,
    "judge": lambda name: Scorer(f"judge:{name}", _opinion, rate=False, needs="judge"),
    "preferred": lambda name: Scorer(f"preferred:{name}", _opinion, rate=False, needs="judge"),
}
"""Scorers that take an argument after a colon; whoever brings a kind of them registers it here."""
