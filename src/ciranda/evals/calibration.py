"""What a judge's opinions are worth: held against what people said of the same answers, and corrected by it.

A judge is cheap and biased, people are dear and right. From answers that both saw follows what people would have said of answers
that only the judge saw, with an interval that knows both samples. Which way depends on whose answers people saw:

    this version's own    prediction-powered inference with a tuned slope (PPI++; Angelopoulos, Duchi, Zrnic 2023), as a
                          regression of people on the judge: mean(people) + slope * (mean(judge, all) - mean(judge, labelled))
    another version's     that would pull every newcomer towards the old mean. What carries over is how the judge grades what
                          is right and what is wrong, so the line from people to judge is turned round, as a laboratory does with
                          an imperfect test (Rogan, Gladen 1978): mean(people) + (mean(judge, all) - mean(judge, labelled)) / rise

Variances are robust (HC3), and grow with the distance from what was labelled and with a judge that tells little. A difference of
two versions is the judge's divided by its rise. For pairs the line goes through the middle, since no order means anything.

A calibration holds for one judge (by digest), the versions that answered as that judge, one model's answers, and for a while.
`standing` says why one is not believed: too few labels, no clear relation with what people say, out of date, another engine, too
many answers without an opinion. It cannot see that people have changed their minds, or that a candidate fools the judge as no
labelled answer does: that is why a calibration ends by itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.evals import compare
from ciranda.evals.compare import LEAST, Comparison
from ciranda.evals.intervals import Estimate
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

Kind = Literal["judge", "preferred"]
Z95, Z90 = 1.959963984540054, 1.6448536269514722
CLEAR = 3.0  # standard errors that the rise must be above nothing: dividing by less would be dividing by noise
SILENT = 0.1  # share of answers without an opinion beyond which the rest says nothing of the whole

judge_calibrations = sa.Table(
    "judge_calibrations",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("judge", sa.String(63), nullable=False, index=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("source", sa.String(500), nullable=False),
    sa.Column("pairs", sa.JSON, nullable=False),
    sa.Column("silent", sa.Integer, nullable=False),
    sa.Column("served", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("valid_until", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Fit:
    """A line by least squares, `y + slope * (at - x)`, through the means or through the middle of both scales."""

    x: float
    y: float
    slope: float
    points: tuple[tuple[float, float], ...]
    free: bool

    @property
    def spread(self) -> float:
        return math.fsum((x - self.x) ** 2 for x, _ in self.points)

    @property
    def error(self) -> float:
        """Standard error of the slope."""
        return math.sqrt(self.variance(1.0, 0.0))

    def variance(self, away: float, centre: float = 1.0) -> float:
        """Of the line's height `away` from its middle; each residual as large as if its own point had not been there (HC3)."""
        n, spread, total = len(self.points), self.spread, 0.0
        for x, y in self.points:
            lever = (x - self.x) / spread if spread else 0.0
            own = (1 / n if self.free else 0.0) + lever * (x - self.x)
            residual = (y - self.y - self.slope * (x - self.x)) / max(1 - own, 0.05)
            total += (((centre / n if self.free else 0.0) + away * lever) * residual) ** 2
        return total


def fit(points: Sequence[tuple[float, float]], *, free: bool = True) -> Fit:
    """The line through points; not `free`: through the middle of both scales, 0.5."""
    x, y = (_mean(x for x, _ in points), _mean(y for _, y in points)) if free else (0.5, 0.5)
    spread = math.fsum((at - x) ** 2 for at, _ in points)
    rise = math.fsum((at - x) * (up - y) for at, up in points)
    return Fit(x, y, rise / spread if spread else 0.0, tuple(points), free)


@dataclass(frozen=True)
class Pair:
    """What the judge (`score`) and people (`label`) said of answers of a version, within 0 and 1; how often that was."""

    score: float
    label: float
    version: str = ""
    count: int = 1


@dataclass(frozen=True)
class Calibration:
    """One comparison of a judge with people.

    Args:
        model: Whose answers were labelled.
        source: Where the labels came from, such as `queue smart-home, at random`.
        silent: Labelled answers on which the judge had no opinion.
        served: Which versions answered as the judge, by what the engine says of itself.
    """

    id: str
    judge: str
    digest: str
    kind: Kind
    model: str
    source: str
    pairs: tuple[Pair, ...]
    silent: int
    served: tuple[str, ...]
    created_at: str
    created_by: str
    valid_until: str

    @property
    def n(self) -> int:
        """Labelled answers with an opinion."""
        return sum(pair.count for pair in self.pairs)

    @property
    def rise(self) -> Fit:
        """From what people say to what the judge says: how much its score rises from wrong to right."""
        return fit([(label, score) for score, label in self._points()], free=self._free)

    def estimate(self, scores: Sequence[float], version: str = "") -> Estimate:
        """The mean that people would give to answers of a version of which the judge says this, with its 95 % interval."""
        own = self._points(version) if version and self._free else []
        told = _powered(fit(own), scores) if len(own) >= LEAST else _inverted(self.rise, scores)
        mean, error, freedom = told
        half, value = _t95(freedom) * error, min(1.0, max(0.0, mean))
        return Estimate(value, max(0.0, min(value, mean - half)), min(1.0, max(value, mean + half)), len(scores))

    def compared(self, raw: Comparison, gains: Sequence[float], *, least: int = LEAST) -> Comparison:
        """A comparison on the judge's scale, on that of people: the difference through the rise, as sure as both are."""
        line, n = self.rise, raw.n
        if not n or not line.slope:
            return raw
        square = (math.fsum(gain * gain for gain in gains) + 2) / (
            n + 2
        )  # one invented case for each side, as in `compare`
        variance, mean = max(0.0, square - raw.difference**2) / n, raw.difference / line.slope
        error = math.sqrt(variance + mean**2 * line.error**2) / abs(line.slope)
        told = replace(
            raw, mean_a=self._people(raw.mean_a), mean_b=self._people(raw.mean_b), difference=mean, low=mean - Z95 * error,
            high=mean + Z95 * error, floor=mean - Z90 * error, detectable=min(1.0, raw.detectable / abs(line.slope)),
            needed=math.ceil(raw.needed / line.slope**2),
        )  # fmt: skip
        return compare.judged(told, least=least)

    def figures(self) -> dict[str, float]:
        """What people read: both means, how they go together, on how many answers they stand on the same side of the middle."""
        points, line = self._points(), self.rise
        people, judge = _mean(y for _, y in points), _mean(s for s, _ in points)
        spreads = math.sqrt(fit([(y, s) for s, y in points]).spread * fit(points).spread)
        together = math.fsum((s - judge) * (y - people) for s, y in points)
        same = sum((s - 0.5) * (y - 0.5) > 0 or s == y == 0.5 for s, y in points)
        return {"people": people, "judge": judge, "rise": line.slope, "error": line.error,
                "correlation": together / spreads if spreads else 0.0, "agreement": same / len(points)}  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        kept = {name: value for name, value in self.__dict__.items() if name != "pairs"}
        return {**kept, "served": list(self.served), "n": self.n, "figures": self.figures() if self.n else {}}

    @property
    def _free(self) -> bool:
        return self.kind == "judge"

    def _people(self, score: float) -> float:
        line = self.rise
        return line.x + (score - line.y) / line.slope

    def _points(self, version: str = "") -> list[tuple[float, float]]:
        """What judge and people said, one point for each answer."""
        chosen = (pair for pair in self.pairs if not version or pair.version == version)
        return [(pair.score, pair.label) for pair in chosen for _ in range(pair.count)]


def counted(said: Iterable[tuple[float, float, str]]) -> tuple[Pair, ...]:
    """Score, label and version of each answer, alike ones as one."""
    return tuple(Pair(*one, count) for one, count in sorted(Counter(said).items()))


def _powered(line: Fit, scores: Sequence[float]) -> tuple[float, float, int]:
    """Mean, error and degrees of freedom of PPI++: people regressed on the judge, read at the mean of all scores."""
    away = _mean(scores) - line.x
    error = math.sqrt(line.variance(away) + line.slope**2 * _spread(scores))
    return line.y + line.slope * away, error, len(line.points) - 2


def _inverted(line: Fit, scores: Sequence[float]) -> tuple[float, float, int]:
    """The same from the judge regressed on people, turned round; without a rise nothing is known."""
    if not line.slope:
        return 0.5, math.inf, len(line.points) - 2
    away = (_mean(scores) - line.y) / line.slope
    error = math.sqrt(line.variance(away) + _spread(scores)) / abs(line.slope)
    return line.x + away, error, len(line.points) - 2


def _spread(scores: Sequence[float]) -> float:
    """The variance of a mean of scores."""
    mean, n = _mean(scores), len(scores)
    return math.fsum((score - mean) ** 2 for score in scores) / max(1, n - 1) / n


def _t95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion; near enough from ten degrees on."""
    nu = max(freedom, 3)
    return Z95 + (Z95**3 + Z95) / (4 * nu) + (5 * Z95**5 + 16 * Z95**3 + 3 * Z95) / (96 * nu * nu)


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return math.fsum(held) / len(held)


# --- is it believed? --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """What a gate needs to know of a judge's metric: its calibration, or why it is not believed.

    Args:
        refusal: Why, with the remedy; empty when it is believed.
        candidate, live: The versions that were judged.
    """

    metric: str
    calibration: Calibration | None = None
    refusal: str = ""
    candidate: str = ""
    live: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As evidence: which calibration, on how many labels, until when."""
        found = self.calibration
        if found is None:
            return {"refusal": self.refusal}
        return {"refusal": self.refusal, "calibration": found.id, "judge": found.judge, "digest": found.digest,
                "source": found.source, "labels": found.n, "valid_until": found.valid_until}  # fmt: skip


def standing(
    metric: str, judge: str, digest: str, found: Calibration | None, *, now: datetime, served: Iterable[str] = (),
    silent: int = 0, asked: int = 0, candidate: str = "", live: str = "",
) -> Standing:  # fmt: skip
    """Whether a judge's opinions may open a gate now.

    Args:
        digest: What the judge is by now.
        found: The newest calibration for the model whose answers were judged.
        served: Who answered as the judge when it gave the opinions in question.
        silent: How many of the answers it was `asked` about got no opinion.
    """
    why = _refusal(digest, found, now, frozenset(served))
    remedy = f"`ciranda judges calibrate {judge} --queue <queue>`"
    if not why and asked and silent / asked > SILENT:
        why = f"it had no opinion on {silent} of {asked} answers"
        remedy = "write its criteria more plainly, or take a better model"
    refusal = f"the judge {judge} is not believed: {why}; {remedy}" if why else ""
    return Standing(metric, found, refusal, candidate, live)


def _refusal(digest: str, found: Calibration | None, now: datetime, served: frozenset[str]) -> str:
    if found is None:
        return "it was never held against people"
    if found.digest != digest:
        return "it is another one since it was calibrated"
    if found.silent and found.silent / (found.n + found.silent) > SILENT:
        return f"it had no opinion on {found.silent} of {found.n + found.silent} answers that people labelled"
    if found.n < LEAST:
        return f"it was held against {found.n} labels, fewer than {LEAST}"
    if clock.parse(found.valid_until) <= now:
        return f"its calibration ended at {found.valid_until[:16]}"
    if new := served - set(found.served):
        return f"{', '.join(sorted(new))} answered as it, which was never calibrated"
    line = found.rise
    if line.slope <= CLEAR * line.error:
        return (
            "what it says has no clear relation with what people say: its score rises by "
            f"{line.slope:.2f} ± {Z95 * line.error:.2f} from wrong to right; label more of both, or change its criteria"
        )
    return ""


# --- the record -------------------------------------------------------------------------------------------------------


def record(conn: sa.Connection, made: Calibration) -> Calibration:
    """Keep a calibration; the same id again is left as it is."""
    known = conn.execute(sa.select(judge_calibrations.c.id).where(judge_calibrations.c.id == made.id)).first()
    if known is None:
        pairs = [[one.score, one.label, one.version, one.count] for one in made.pairs]
        row = {**made.__dict__, "pairs": pairs, "served": list(made.served)}
        conn.execute(judge_calibrations.insert().values(row))
        detail = {"id": made.id, "digest": made.digest, "kind": made.kind, "model": made.model, "source": made.source, "n": made.n,
                  "valid_until": made.valid_until}  # fmt: skip
        audit.record(conn, actor=made.created_by, action="judge.calibrated", subject=made.judge, detail=detail)
    return made


def newest(conn: sa.Connection, judge: str, kind: str, model: str) -> Calibration | None:
    """The newest calibration of a judge on a model's answers."""
    mine = judge_calibrations.c
    query = sa.select(judge_calibrations).where(mine.judge == judge, mine.kind == kind, mine.model == model)
    row = conn.execute(query.order_by(mine.created_at.desc(), mine.id.desc()).limit(1)).first()
    return _of(row._mapping) if row else None


def get(conn: sa.Connection, identifier: str) -> Calibration:
    """One calibration. Raises NotFound."""
    row = conn.execute(sa.select(judge_calibrations).where(judge_calibrations.c.id == identifier)).first()
    if row is None:
        raise NotFound(
            f"no calibration {identifier!r}", where="judges", remedy="`ciranda judges show <judge>` lists them"
        )
    return _of(row._mapping)


def of(conn: sa.Connection, judge: str, *, before: str = "", limit: int = 50) -> list[Calibration]:
    """The calibrations of a judge, newest first; `before` is the `created_at` of the last one seen."""
    query = sa.select(judge_calibrations).where(judge_calibrations.c.judge == judge)
    if before:
        query = query.where(judge_calibrations.c.created_at < before)
    ordered = query.order_by(judge_calibrations.c.created_at.desc(), judge_calibrations.c.id.desc()).limit(limit)
    return [_of(row._mapping) for row in conn.execute(ordered)]


def _of(row: Mapping[Any, Any]) -> Calibration:
    pairs = tuple(Pair(float(score), float(label), str(version), int(n)) for score, label, version, n in row["pairs"])
    return Calibration(**{**row, "pairs": pairs, "served": tuple(row["served"])})
