"""The values of an evaluation: a case that is asked, what came back, and both together, which is what a scorer sees.

`Said` is the same whoever made it: an exam (a case and the engine's reply) or the monitor (a recorded interaction), so one scorer
judges both. What nobody knows is None, never 0: an answer of live traffic has no reference, an old record no logarithms,
and a scorer that needs them then says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ciranda.data.rows import Message


@dataclass(frozen=True)
class Call:
    """One call of a tool: its name, and the arguments as JSON values (or the raw text, when they are no JSON)."""

    name: str
    arguments: Any = None


@dataclass(frozen=True)
class Case:
    """One question of a suite.

    Args:
        slices: Which parts of the world it stands for, as in `{"language": "en"}`.
        choices: The answers there are, for a question of classification.
        schema: The JSON Schema that a right answer satisfies.
        tools: Tools that the model may call, in OpenAI's form.
        calls: The calls that it should make; None where nobody said (live traffic).
        pair: Id of the case that asks the same of somebody else (names, gender or region swapped).
        labels: What people said of the case, by question.
    """

    id: str
    messages: tuple[Message, ...]
    reference: str | None
    slices: dict[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    calls: tuple[Call, ...] | None = ()
    pair: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The last thing the person says."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), "")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without what it does not have: a case without them is written as it was before they existed."""
        whole = asdict(self)
        return {name: value for name, value in whole.items() if value or name in ALWAYS}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Case:
        """The case that `to_dict` wrote."""
        fields = dict(values)
        fields["messages"] = tuple(Message(**said) for said in values["messages"])
        fields["calls"] = tuple(Call(**call) for call in values.get("calls", ()))
        fields |= {name: tuple(values.get(name, ())) for name in ("choices", "tools")}
        return cls(**fields)


@dataclass(frozen=True)
class Suite:
    """Cases under a name. The digest is of the cases, in any order."""

    name: str
    cases: tuple[Case, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted cases."""
        texts = sorted(json.dumps(case.to_dict(), sort_keys=True, ensure_ascii=False) for case in self.cases)
        return f"sha256:{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}"

    @property
    def prompts(self) -> list[str]:
        """Every question, for the contamination check."""
        return [case.prompt for case in self.cases]


ALWAYS = ("id", "messages", "reference", "slices")


@dataclass(frozen=True)
class Reply:
    """What an engine gave: a text, calls of tools, and what it cost. `logprobs` holds one natural logarithm for each token."""

    text: str
    tools: tuple[Call, ...] = ()
    latency_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Said:
    """One answer with everything that is known of it: what a scorer sees.

    Args:
        prompt: The last thing the person said.
        case: What was expected of it beside the reference; None on live traffic.
        partner: What the case's counterfactual partner got; only for scorers that compare the two.
    """

    prompt: str
    answer: str
    reference: str | None = None
    messages: tuple[Message, ...] = ()
    case: Case | None = None
    tools: tuple[Call, ...] = ()
    latency_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    logprobs: tuple[float, ...] | None = None
    partner: Said | None = None

    @classmethod
    def of(cls, case: Case, reply: Reply) -> Said:
        """What was said to a case."""
        return cls(
            case.prompt, reply.text, case.reference, case.messages, case, reply.tools, reply.latency_ms,
            reply.tokens_in, reply.tokens_out, reply.cost, reply.logprobs,
        )  # fmt: skip
