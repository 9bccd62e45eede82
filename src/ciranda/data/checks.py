"""Checks on rows before they become a version: each looks at all rows and says which have a flaw and why; policy says what follows.

    schema         prompt and answer are there, the conversation ends with a question, no control characters
    length         prompt and answer together stay below a bound
    pii            no personal data (`mask` replaces it by its kind)
    conflicts      no two answers to one prompt (`drop` keeps the one that most rows give)
    duplicates     no example twice, case and spaces aside
    toxicity       no listed word
    contamination  no phrase and no group of the test rows (or of a suite) among the training rows, so a test stays a test

Actions: `block` (or `strict`) refuses the version, `drop` leaves the row out, `mask` changes it, `warn` only reports, `off`.
They run in this order, each on what the ones before left. A blocked version is refused after all have looked, so one report
names everything. Near duplicates are not judged here: sentences of one template resemble each other on purpose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ciranda.data.rows import Message, Row, normalised
from ciranda.data.words import toxic
from ciranda.errors import Invalid, Refused
from ciranda.govern import guard

EXAMPLES = 100  # findings kept per check in a stored report; the counts are of all
SHOWN = 10  # findings named in the message of a refusal
ACTIONS = ("strict", "block", "drop", "mask", "warn", "off")


@dataclass(frozen=True)
class Flaw:
    """One check's word on one row (by its place); `mended` is the row without the flaw, where that is possible."""

    place: int
    reason: str
    mended: Row | None = None


@dataclass(frozen=True)
class Finding:
    """A flaw, and what policy did about it."""

    check: str
    action: str
    origin: str
    key: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """What is left of the rows, every finding, and the figures of each check."""

    kept: tuple[Row, ...]
    looked: int
    findings: tuple[Finding, ...]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Whether a finding forbids the version."""
        return any(finding.action == "block" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For storage and pages: all counts, and up to EXAMPLES findings of each check."""
        shown: dict[str, list[dict[str, str]]] = defaultdict(list)
        for one in self.findings:
            if len(shown[one.check]) < EXAMPLES:
                shown[one.check].append({"origin": one.origin, "key": one.key, "reason": one.reason})
        checks = {name: {**figures, "examples": shown[name]} for name, figures in self.figures.items()}
        return {"looked": self.looked, "kept": len(self.kept), "blocked": self.blocked, "checks": checks}


class Blocked(Refused):
    """A blocking check found something; `report` says all of it."""

    def __init__(self, message: str, *, report: CheckReport, where: str = "", remedy: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.report = report


@dataclass(frozen=True)
class Bounds:
    """What checks compare with: the longest row, and the prompts of suites that training must not see."""

    max_characters: int = 2000
    suites: Mapping[str, Sequence[str]] = field(default_factory=dict)


def run(
    rows: Iterable[Row],
    policy: Mapping[str, str],
    *,
    max_characters: int = 2000,
    suites: Mapping[str, Sequence[str]] | None = None,
) -> CheckReport:
    """Look at all rows with every check that `policy` names.

    Args:
        policy: Action by check, as under `data: checks:`.
        suites: Prompts by suite name, for the contamination check.

    Raises Blocked when a blocking check found something, Invalid for an unknown check or action.
    """
    left, findings, figures = list(rows), [], {}
    looked, bounds = len(left), Bounds(max_characters, suites or {})
    for name, action in _ordered(policy):
        flaws = list(CHECKS[name](left, bounds))
        findings += [Finding(name, action, left[f.place].origin, left[f.place].key, f.reason) for f in flaws]
        figures[name] = {"action": action, "looked": len(left), "found": len({flaw.place for flaw in flaws})}
        left = _acted(left, flaws, action)
    report = CheckReport(tuple(left), looked, tuple(findings), figures)
    if report.blocked:
        raise _refusal(report)
    return report


def _ordered(policy: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The checks to run, in the order of CHECKS; `strict` is another word for `block`."""
    for name, action in policy.items():
        known = ACTIONS if name in CHECKS else tuple(CHECKS)
        if name not in CHECKS or action not in ACTIONS:
            wrong = f"no check {name!r}" if name not in CHECKS else f"no action {action!r}"
            raise Invalid(wrong, where=f"data: checks: {name}", remedy=f"choose one of {', '.join(known)}")
        if action == "mask" and name != "pii":
            raise Invalid(
                f"{name} cannot mask", where=f"data: checks: {name}", remedy="choose block, drop, warn or off"
            )
    for name in CHECKS:
        if (action := policy.get(name, "off")) != "off":
            yield name, "block" if action == "strict" else action


def _acted(rows: list[Row], flaws: Sequence[Flaw], action: str) -> list[Row]:
    if action == "drop":
        gone = {flaw.place for flaw in flaws}
        return [row for place, row in enumerate(rows) if place not in gone]
    if action == "mask":
        mended = {flaw.place: flaw.mended for flaw in flaws if flaw.mended}
        return [mended.get(place, row) for place, row in enumerate(rows)]
    return rows


def _refusal(report: CheckReport) -> Blocked:
    blocking = [finding for finding in report.findings if finding.action == "block"]
    named = "\n  ".join(f"{one.origin}: {one.check}: {one.reason}" for one in blocking[:SHOWN])
    more = f"\n  … and {len(blocking) - SHOWN} more" if len(blocking) > SHOWN else ""
    return Blocked(
        f"checks refuse these rows: {len(blocking)} finding{'s' if len(blocking) > 1 else ''}\n  {named}{more}",
        report=report,
        where=blocking[0].origin,
        remedy=f"correct the rows, or set `checks: {{{blocking[0].check}: drop}}` to go on without them",
    )


def _schema(rows: Sequence[Row], _bounds: Bounds) -> Iterator[Flaw]:
    for place, row in enumerate(rows):
        texts = [message.content for message in row.messages] + [row.completion]
        if not row.prompt.strip():
            yield Flaw(place, "the prompt is empty")
        elif not row.completion.strip():
            yield Flaw(place, "the completion is empty")
        elif row.messages[-1].role not in ("user", "tool"):
            yield Flaw(place, f"the conversation ends with the {row.messages[-1].role}, not with a question")
        elif any(message.role == "system" for message in row.messages[1:]):
            yield Flaw(place, "a system message stands after the first place")
        elif any(_control(text) for text in texts):
            yield Flaw(place, "a control character is in the text")


def _control(text: str) -> bool:
    return not text.isprintable() and any(ord(character) < 32 and character not in "\n\r\t" for character in text)


def _length(rows: Sequence[Row], bounds: Bounds) -> Iterator[Flaw]:
    for place, row in enumerate(rows):
        size = sum(len(message.content) for message in row.messages) + len(row.completion)
        if size > bounds.max_characters:
            yield Flaw(place, f"{size} characters, more than {bounds.max_characters}")


def _pii(rows: Sequence[Row], _bounds: Bounds) -> Iterator[Flaw]:
    for place, row in enumerate(rows):
        masked = [guard.mask(message.content) for message in row.messages]
        completion, found = guard.mask(row.completion)
        kinds = Counter(one.kind for _, findings in (*masked, (completion, found)) for one in findings)
        if kinds:
            messages = tuple(
                Message(message.role, text) for message, (text, _) in zip(row.messages, masked, strict=True)
            )
            named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            yield Flaw(place, f"personal data: {named}", row.with_(messages=messages, completion=completion))


def _duplicates(rows: Sequence[Row], _bounds: Bounds) -> Iterator[Flaw]:
    first: dict[tuple[Any, ...], Row] = {}
    for place, row in enumerate(rows):
        same = first.setdefault((_said(row), row.completion.strip()), row)
        if same is not row:
            yield Flaw(place, f"the same example as {same.origin or same.key[:12]}")


def _conflicts(rows: Sequence[Row], _bounds: Bounds) -> Iterator[Flaw]:
    answers: dict[Any, Counter[str]] = defaultdict(Counter)
    for row in rows:
        answers[_said(row)][row.completion.strip()] += 1
    for place, row in enumerate(rows):
        given = answers[_said(row)]
        best = given.most_common(1)[0][0]
        if row.completion.strip() != best:
            yield Flaw(place, f"another answer to this prompt stands in the rows: {best[:80]!r}")


def _toxicity(rows: Sequence[Row], _bounds: Bounds) -> Iterator[Flaw]:
    for place, row in enumerate(rows):
        if found := toxic(row.completion) or toxic(row.prompt):
            yield Flaw(place, f"listed word: {found[0]}")


def _contamination(rows: Sequence[Row], bounds: Bounds) -> Iterator[Flaw]:
    """Flaws are on the training side, so that dropping them leaves the test whole."""
    asked = {normalised(prompt): f"suite {name}" for name, prompts in bounds.suites.items() for prompt in prompts}
    weight = {"train": 0, "validation": 1, "test": 2}
    phrases: dict[str, tuple[int, str]] = {}
    groups: dict[str, tuple[int, str]] = {}
    for row in rows:
        held = (weight[row.split], f"{row.split} row {row.origin or row.key[:12]}")
        for index, name in ((phrases, normalised(row.prompt)), (groups, row.group)):
            if name and held[0] > index.get(name, (-1, ""))[0]:
                index[name] = held
    for place, row in enumerate(rows):
        phrase, mine = normalised(row.prompt), weight[row.split]
        if row.split != "test" and phrase in asked:
            yield Flaw(place, f"{row.split} row asks what {asked[phrase]} asks")
        elif phrases.get(phrase, (-1, ""))[0] > mine:
            yield Flaw(place, f"{row.split} row says what {phrases[phrase][1]} says")
        elif groups.get(row.group, (-1, ""))[0] > mine:
            yield Flaw(place, f"{row.split} row shares its group {row.group} with {groups[row.group][1]}")


def _said(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, normalised(message.content)) for message in row.messages)


CHECKS: dict[str, Callable[[Sequence[Row], Bounds], Iterator[Flaw]]] = {
    "schema": _schema,
    "length": _length,
    "pii": _pii,
    "conflicts": _conflicts,
    "duplicates": _duplicates,
    "toxicity": _toxicity,
    "contamination": _contamination,
}
