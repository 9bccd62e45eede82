"""Who did what: the audit log; and who may: the keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditRow:
    """One event of the chain."""

    number: int
    at: str
    actor: str
    action: str
    subject: str
    detail: str
    hash: str


@dataclass(frozen=True)
class Chain:
    """What the last verification found, and when."""

    ok: bool
    events: int
    head: str
    at: str
    problem: str = ""


@dataclass(frozen=True)
class AuditPage:
    """One page of the log, newest first; `older` is the number to continue before."""

    rows: tuple[AuditRow, ...]
    chain: Chain
    older: int = 0
    subject: str = ""
    actor: str = ""
    action: str = ""
    first: bool = True


@dataclass(frozen=True)
class Bound:
    """One limit with what is used of it, in whole units (money in money)."""

    name: str
    limit: float
    used: float = 0.0

    @property
    def share(self) -> float:
        """How much of it is used; a limit of zero always is."""
        return self.used / self.limit if self.limit else 1.0


@dataclass(frozen=True)
class Scope:
    """A tenant or a model that may have limits."""

    name: str
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True)
class KeyRow:
    """One key, without its secret."""

    id: str
    name: str
    role: str
    models: tuple[str, ...]
    created_at: str
    created_by: str
    revoked_at: str = ""
    tenant: str = "default"
    bounds: tuple[Bound, ...] = ()
