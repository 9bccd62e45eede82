"""What the pages of judges, comparisons and replays show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Worth:
    """What a judge is worth for one model: believed, or why not."""

    kind: str
    model: str
    believed: bool
    why: str = ""
    labels: int = 0
    people: float | None = None
    judge: float | None = None
    rise: float | None = None
    agreement: float | None = None
    source: str = ""
    until: str = ""


@dataclass(frozen=True)
class JudgeRow:
    """One judge in the list."""

    name: str
    model: str
    url: str
    scale: int
    since: str
    worth: tuple[Worth, ...] = ()


@dataclass(frozen=True)
class Opinion:
    """What it said of a version, as it stands."""

    version: str
    against: str
    suite: str
    n: int
    silent: int
    mean: float | None
    at: str


@dataclass(frozen=True)
class JudgePage:
    """One judge, whole. `queues`: the review queues that it can be held against."""

    row: JudgeRow
    criteria: str
    digest: str
    mask: bool
    judged: tuple[Opinion, ...] = ()
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """Candidate minus live on one metric, over all cases or in a slice."""

    metric: str
    part: str
    n: int
    candidate: float
    live: float
    gain: float
    low: float
    high: float
    p: float
    size: str
    detectable: float
    needed: int
    verdict: str


@dataclass(frozen=True)
class Sides:
    """Two versions on the suites that both were asked. `others`: versions of the model that may be chosen."""

    candidate: str
    live: str
    suites: tuple[tuple[str, tuple[Compared, ...]], ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplayRow:
    """One replay in the list."""

    id: str
    model: str
    version: str
    champion: str
    state: str
    cases: int
    seen: int
    changed: int | None
    judge: str
    at: str
    by: str


@dataclass(frozen=True)
class Changed:
    """A request that would have got another answer."""

    interaction: str
    prompt: str
    before: str
    after: str
    gain: float


@dataclass(frozen=True)
class ReplayPage:
    """One replay, whole. `preferred`: gain, low, high, and why a judge is not believed."""

    row: ReplayRow
    since: str
    until: str
    reason: str = ""
    compared: tuple[Compared, ...] = ()
    preferred: tuple[float, float, float, str] | None = None
    changed: tuple[Changed, ...] = ()


@dataclass(frozen=True)
class ReplaysPage:
    """Replays, and the versions that traffic may be replayed to."""

    rows: tuple[ReplayRow, ...] = ()
    candidates: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
