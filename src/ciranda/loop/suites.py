"""Suites and what came of them, as people ask for them: registering, reading cases, answers beside another version's.

Two things are held here. A key that is limited to models sees the suites that these models are judged by, and those that nobody is.
And what a policy hides of a dataset stays hidden in its copies: the cases that were made of its rows, and the answers to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ciranda.data import reading
from ciranda.errors import Forbidden, Invalid
from ciranda.evals import bias, library, suites, swaps, written
from ciranda.evals.cases import Case, Suite
from ciranda.evals.library import SuiteVersion
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Answer, Evaluation, evaluations
from ciranda.govern.access import Principal
from ciranda.loop.platform import Platform
from ciranda.registry import models

HIDDEN = "[hidden by policy]"


@dataclass(frozen=True)
class Beside:
    """One case: what a version answered, and what the other one did; `gain` is how much better it scored."""

    answer: Answer
    other: Answer | None = None
    gain: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.answer.to_dict(),
            "other": self.other.to_dict() if self.other else None,
            "gain": self.gain,
        }


@dataclass(frozen=True)
class Told:
    """An evaluation with its answers, beside another's on the same cases.

    Args:
        row: The recorded evaluation.
        other: The one that it is compared with; None without any.
        metric: What answers are ordered by, the worst (or the largest loss) first.
        answers: Those asked for.
        gaps: What its counterfactual pairs say.
        hidden: Whether a policy hides the texts from whoever asks.
    """

    row: dict[str, Any]
    other: dict[str, Any] | None
    metric: str
    answers: tuple[Beside, ...]
    gaps: tuple[bias.Gap, ...] = ()
    hidden: bool = False
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)


def add(
    platform: Platform,
    text: str,
    who: Principal,
    *,
    file: str,
    name: str = "",
    swap: Sequence[str] = (),
    note: str = "",
) -> SuiteVersion:
    """Register the suite of a file that somebody sent; `swap` adds the counterfactual partners of its cases."""
    suite = written.read(text, file=file, name=name)
    return _registered(platform, suite, who, origin=file, swap=swap, note=note)


def take(
    platform: Platform, dataset: str, who: Principal, *, split: str = "test", limit: int | None = None, name: str = "",
    swap: Sequence[str] = (), note: str = "",
) -> SuiteVersion:  # fmt: skip
    """Register a split of a dataset version, as far as the policies leave its rows to whoever asks.

    Raises:
        Refused: The split has no rows.
        Forbidden: The dataset is closed to them.
    """
    reader = reading.asking(who, "evaluation")
    found = suites.from_dataset(platform.db, platform.home, dataset, split=split, limit=limit, reader=reader)
    suite = Suite(name or f"{dataset.partition('@')[0]}-{split}", found.cases)
    return _registered(platform, suite, who, origin=found.name, swap=swap, note=note)


def _registered(
    platform: Platform, suite: Suite, who: Principal, *, origin: str, swap: Sequence[str], note: str
) -> SuiteVersion:
    if (held := reached(platform, who.models)) is not None and suite.name not in held and _taken(platform, suite.name):
        raise Forbidden(f"the suite {suite.name} judges models that this key does not reach", where="suite",
                        remedy="choose another name: --name")  # fmt: skip
    made = swaps.partners(suite.cases, swaps.lists(swap, {}, "swap"))
    whole = Suite(suite.name, (*suite.cases, *made))
    return library.register(platform.db, platform.home, whole, actor=who.name, origin=origin, note=note)


def _taken(platform: Platform, name: str) -> bool:
    with platform.db.reading() as conn:
        return bool(library.line(conn, name))


def uses(platform: Platform) -> dict[str, set[str]]:
    """The models that each registered suite judges: by a gate, or by an evaluation."""
    found: dict[str, set[str]] = {}
    with platform.db.reading() as conn:
        for one in models.every(conn):
            for gate in one.spec.gates:
                found.setdefault(gate.suite.partition("@")[0], set()).add(one.name)
        query = sa.select(evaluations.c.suite, evaluations.c.model).distinct()
        for row in conn.execute(query):
            found.setdefault(row.suite.partition("@")[0], set()).add(row.model)
    return found


def reached(platform: Platform, held: Sequence[str]) -> set[str] | None:
    """The registered suites that a key limited to these models sees; None when it sees all."""
    if "*" in held:
        return None
    by = uses(platform)
    with platform.db.reading() as conn:
        return {name for name in library.names(conn) if not by.get(name) or by[name] & set(held)}


def demand(platform: Platform, name: str, who: Principal) -> None:
    """Raise Forbidden unless the key sees this suite."""
    held = reached(platform, who.models)
    if held is not None and name.partition("@")[0] not in held and _taken(platform, name.partition("@")[0]):
        raise Forbidden(f"the suite {name} judges models that this key does not reach", where="suites",
                        remedy="ask an admin for a key that reaches them")  # fmt: skip


def cases(platform: Platform, version: SuiteVersion, who: Principal) -> tuple[Case, ...]:
    """The cases of a version, their texts hidden where a policy says so."""
    found = library.of(platform.home, version).cases
    return tuple(map(_veiled, found)) if hidden(platform, version.origin, who) else found


def hidden(platform: Platform, source: str, who: Principal) -> bool:
    """Whether the texts that came out of a dataset (`home@3/test`, or a suite made of it) are hidden from somebody."""
    dataset = _dataset(platform, source)
    if not dataset:
        return False
    try:
        bound = reading.decision(platform.db, dataset, reading.asking(who, "viewing"))
    except Forbidden:
        return True
    return bound.texts or bound.rows


def _dataset(platform: Platform, source: str) -> str:
    """The dataset version that a suite's cases came from; empty when they came from a file."""
    if "/" in source and source.rpartition("/")[2] in ("train", "validation", "test") and "@" in source:
        return source.rpartition("/")[0]
    with platform.db.reading() as conn:
        named = {one.ref: one.origin for one in library.line(conn, source.partition("@")[0])}
    origin = named.get(source, "")
    return _dataset(platform, origin) if origin and origin != source else ""


def _veiled(case: Case) -> Case:
    messages = tuple(replace(said, content=HIDDEN) for said in case.messages)
    return replace(case, messages=messages, reference=None if case.reference is None else HIDDEN, choices=(), calls=())


def told(
    platform: Platform, evaluation: str, who: Principal, *, against: str = "", metric: str = "", part: str = "",
    differing: bool = False,
) -> Told:  # fmt: skip
    """An evaluation with its answers, the worst by a metric first; beside another's, the largest loss first.

    Args:
        against: Id of another evaluation; its answers to the same cases stand beside.
        part: Only cases of this slice, as in `language=en`.
        differing: Only cases whose two scores (or answers) differ.
    """
    with platform.db.reading() as conn:
        row = suites.get(conn, evaluation)
        other = suites.get(conn, against) if against else None
    mine = suites.load(platform.home, row["report"])
    theirs = suites.load(platform.home, other["report"]) if other else None
    chosen = _metric(metric, row)
    found = list(_beside(mine, theirs, chosen, part))
    if differing:
        found = [one for one in found if one.other and (one.gain or one.answer.answer != one.other.answer)]
    veil = hidden(platform, row["suite"], who)
    shown = tuple(map(_veiled_answer, found)) if veil else tuple(found)
    return Told(row, other, chosen, shown, tuple(bias.audit(mine)), veil)


def _metric(wanted: str, row: dict[str, Any]) -> str:
    if wanted and wanted not in row["metrics"]:
        raise Invalid(
            f"{row['id']} has no {wanted!r}", where="metric", remedy=f"choose one of {', '.join(row['metrics'])}"
        )
    return wanted or next(iter(row["metrics"]), "")


def _beside(mine: Evaluation, theirs: Evaluation | None, metric: str, part: str) -> Iterator[Beside]:
    """The answers, by how bad (or how much worse than the other's) they scored."""
    others = {one.case: one for one in theirs.answers} if theirs else {}
    sign = (1 if scorer(metric).higher_is_better else -1) if metric else 1
    found = []
    for one in _of_slice(mine.answers, part):
        score, other = one.scores.get(metric), others.get(one.case)
        before = other.scores.get(metric) if other else None
        gain = None if score is None or before is None else sign * (score - before)
        rank = gain if gain is not None else sign * score if score is not None else 0.0
        found.append((rank, one.case, Beside(one, other, gain)))
    return (beside for _, _, beside in sorted(found, key=lambda entry: entry[:2]))


def _of_slice(answers: Iterable[Answer], part: str) -> Iterator[Answer]:
    name, _, value = part.partition("=")
    return (one for one in answers if not part or one.slices.get(name) == value)


def _veiled_answer(beside: Beside) -> Beside:
    other = _quiet(beside.other) if beside.other else None
    return replace(beside, answer=_quiet(beside.answer), other=other)


def _quiet(answer: Answer) -> Answer:
    reference = None if answer.reference is None else HIDDEN
    return replace(answer, prompt=HIDDEN, reference=reference, answer=HIDDEN, tools=(), labels={})


def page(
    platform: Platform, reach: Sequence[str] | None, *, model: str = "", version: str = "", suite: str = "",
    before: tuple[str, str] | None = None, limit: int = 50,
) -> list[dict[str, Any]]:  # fmt: skip
    """Recorded evaluations, newest first; those before a moment and id."""
    table = evaluations
    query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    for column, value in ((table.c.model, model), (table.c.version, version)):
        query = query.where(column == value) if value else query
    if suite:
        query = query.where((table.c.suite == suite) | table.c.suite.like(f"{suite}@%"))
    if reach is not None:
        query = query.where(table.c.model.in_(list(reach)))
    if before:
        query = query.where(sa.tuple_(table.c.created_at, table.c.id) < sa.tuple_(*before))
    with platform.db.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(query)]


def champion(platform: Platform, row: dict[str, Any]) -> str:
    """The evaluation to look at beside one: of the newest other version of its model on the same cases; empty without any."""
    table = evaluations
    query = (
        sa.select(table.c.id)
        .where(
            table.c.model == row["model"],
            table.c.suite_digest == row["suite_digest"],
            table.c.version != row["version"],
        )
        .order_by((table.c.created_at < row["created_at"]).desc(), table.c.created_at.desc())
        .limit(1)
    )
    with platform.db.reading() as conn:
        return str(conn.execute(query).scalar() or "")
