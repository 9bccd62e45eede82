"""What checks found: a finding for each flaw, the figures of each check, and the refusal when one of them blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.data.checks.check import Check
from ciranda.data.checks.findings import EXAMPLES, Finding
from ciranda.data.rows import Row
from ciranda.errors import Invalid, Refused

SHOWN = 10  # findings named in the message of a refusal
ACTIONS = ("strict", "block", "drop", "mask", "warn", "off")


@dataclass(frozen=True)
class CheckReport:
    """How many rows were looked at and left, the findings, and the figures of each check.

    Args:
        findings: All of them for rows in memory, else the first EXAMPLES of each check.
        figures: By check: action, rows looked at, rows with a flaw.
        seconds: By check: processor time in all workers together.
        kept: The rows that are left, when they are in memory.
    """

    looked: int
    left: int
    findings: tuple[Finding, ...]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: tuple[Row, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether a finding forbids the version."""
        return any(told["action"] == "block" and told["found"] for told in self.figures.values())

    def to_dict(self) -> dict[str, Any]:
        """For storage and pages: all counts, the speed of each check, and up to EXAMPLES findings of each."""
        shown: dict[str, list[dict[str, str]]] = defaultdict(list)
        for one in self.findings:
            if len(shown[one.check]) < EXAMPLES:
                shown[one.check].append({"origin": one.origin, "key": one.key, "reason": one.reason})
        checks = {
            name: {**told, "rows_per_second": self._speed(name), "examples": shown[name]}
            for name, told in self.figures.items()
        }
        return {"looked": self.looked, "kept": self.left, "blocked": self.blocked, "checks": checks}

    def _speed(self, name: str) -> int:
        return int(self.figures[name]["looked"] / max(self.seconds.get(name, 0.0), 1e-6))


class Blocked(Refused):
    """A blocking check found something; `report` says all of it."""

    def __init__(self, message: str, *, report: CheckReport, where: str = "", remedy: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.report = report


def ordered(policy: Mapping[str, str], known: Mapping[str, Check]) -> list[tuple[Check, str]]:
    """The checks to run with their actions, in the order of `known`; `strict` is another word for `block`.

    Raises Invalid for an unknown check or action.
    """
    for name, action in policy.items():
        if name not in known or action not in ACTIONS:
            wrong = f"no check {name!r}" if name not in known else f"no action {action!r}"
            choice = ACTIONS if name in known else tuple(known)
            raise Invalid(wrong, where=f"data: checks: {name}", remedy=f"choose one of {', '.join(choice)}")
        if action not in (*known[name].actions, "strict", "off"):
            choice = (*known[name].actions, "off")
            raise Invalid(
                f"{name} cannot {action}", where=f"data: checks: {name}", remedy=f"choose one of {', '.join(choice)}"
            )
    return list(_chosen(policy, known))


def refusal(report: CheckReport) -> Blocked:
    """The error of a report that has blocking findings."""
    blocking = [finding for finding in report.findings if finding.action == "block"]
    count = sum(told["found"] for told in report.figures.values() if told["action"] == "block")
    named = "\n  ".join(f"{one.origin}: {one.check}: {one.reason}" for one in blocking[:SHOWN])
    more = f"\n  … and {count - SHOWN} more" if count > SHOWN else ""
    return Blocked(
        f"checks refuse these rows: {count} finding{'s' if count > 1 else ''}\n  {named}{more}",
        report=report,
        where=blocking[0].origin,
        remedy=f"correct the rows, or set `checks: {{{blocking[0].check}: drop}}` to go on without them",
    )


def _chosen(policy: Mapping[str, str], known: Mapping[str, Check]) -> Iterable[tuple[Check, str]]:
    for name, check in known.items():
        if (action := policy.get(name, "off")) != "off":
            yield check, "block" if action == "strict" else action
