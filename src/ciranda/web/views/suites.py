"""Suites with their cases, and evaluations: figures by slice, and answers beside another version's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PAGE = 25
HIDDEN = "[hidden by policy]"


@dataclass(frozen=True)
class Figure:
    """A metric's mean with its interval; `rate` when it lies within 0 and 1, and is shown as a percentage."""

    metric: str
    mean: float
    low: float
    high: float
    n: int
    rate: bool = True


@dataclass(frozen=True)
class Result:
    """One evaluation in a list."""

    id: str
    model: str
    version: str
    suite: str
    n: int
    errors: int
    figures: tuple[Figure, ...]
    created_at: str


@dataclass(frozen=True)
class SuiteRow:
    """One version of a registered suite. `slices` counts cases, `models` are those that it judges."""

    suite: str
    number: int
    digest: str
    cases: int
    slices: Mapping[str, Mapping[str, int]]
    origin: str
    note: str
    redacted: int
    created_at: str
    created_by: str
    models: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.suite}@{self.number}"


@dataclass(frozen=True)
class SuitesPage:
    """Every suite in its newest version, and the newest evaluations. `after` goes on where the page ended."""

    rows: tuple[SuiteRow, ...]
    results: tuple[Result, ...]
    after: str = ""


@dataclass(frozen=True)
class CaseRow:
    """One case; `expects` says what beside the reference: choices, schema, calls, partner."""

    id: str
    prompt: str
    reference: str | None
    slices: Mapping[str, str]
    expects: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuitePage:
    """One version of a suite with a page of its cases, its other versions, and how models did on it."""

    row: SuiteRow
    versions: tuple[SuiteRow, ...]
    cases: tuple[CaseRow, ...]
    page: int
    results: tuple[Result, ...]
    hidden: bool = False

    @property
    def pages(self) -> int:
        return max(1, -(-self.row.cases // PAGE))


@dataclass(frozen=True)
class Part:
    """A figure over a slice (empty: over all cases), beside the other evaluation's mean."""

    slice: str
    figure: Figure
    other: float | None = None


@dataclass(frozen=True)
class GapRow:
    """What the counterfactual pairs of one swap say on one metric."""

    swap: str
    metric: str
    pairs: int
    mean: float
    low: float
    high: float
    finding: str  # fair | biased | cannot_tell


@dataclass(frozen=True)
class AnswerRow:
    """One case: what was answered, beside the other's; `gain` is how much better it scored (turned so that more is better)."""

    prompt: str
    reference: str | None
    answer: str
    error: str
    score: float | None
    other: str | None
    other_score: float | None
    gain: float | None
    slices: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """What of an evaluation is looked at."""

    against: str = ""
    metric: str = ""
    slice: str = ""
    differing: bool = False
    page: int = 1

    def query(self, **changes: object) -> dict[str, object]:
        """As a query string, with changes; what is empty is left out."""
        told = {"against": self.against, "metric": self.metric, "slice": self.slice, "page": self.page,
                "differing": 1 if self.differing else ""}  # fmt: skip
        return {name: value for name, value in {**told, **changes}.items() if value not in ("", None)}


@dataclass(frozen=True)
class EvaluationPage:
    """One evaluation. `others` are evaluations of other versions on the same cases, to stand beside it."""

    result: Result
    other: Result | None
    others: tuple[Result, ...]
    asked: Asked
    parts: tuple[Part, ...]
    gaps: tuple[GapRow, ...]
    answers: tuple[AnswerRow, ...]
    total: int
    hidden: bool = False
    rate: bool = True
    slices: tuple[str, ...] = field(default=())

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE))
