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
class KeyRow:
    """One key, without its secret."""

    id: str
    name: str
    role: str
    models: tuple[str, ...]
    created_at: str
    created_by: str
    revoked_at: str = ""
