"""Who may see which rows for what, and people who are forgotten."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PolicyRow:
    """One policy in force; `on`, `who` and `purposes` are its words, joined."""

    name: str
    effect: str
    why: str
    on: str
    who: str
    purposes: str
    revision: int
    since: str
    by: str


@dataclass(frozen=True)
class Seen:
    """What somebody would see of a dataset version. `effects`: field and its effect; `closed`: the policy that closes it."""

    dataset: str
    role: str
    purpose: str
    closed: str = ""
    rows: int = 0
    seen: int = 0
    effects: tuple[tuple[str, str], ...] = ()
    samples: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class PoliciesPage:
    """The policies, and a dry run when one was asked for."""

    rows: tuple[PolicyRow, ...]
    seen: Seen | None = None


@dataclass(frozen=True)
class ErasureRow:
    """One erasure: the person as a keyed hash, the step, and who it waits for."""

    id: str
    mark: str
    step: str
    waits: str
    asked_at: str
    asked_by: str
    ended_at: str = ""
    digest: str = ""


@dataclass(frozen=True)
class FlagRow:
    """A version that learnt from somebody erased since."""

    version: str
    dataset: str
    erasure: str
    at: str


@dataclass(frozen=True)
class Receipt:
    """What went where. `counts`: step, store, how many; `datasets`: version, both digests, rows; `exports`: what, who, when."""

    row: ErasureRow
    counts: tuple[tuple[str, str, int], ...] = ()
    datasets: tuple[tuple[str, str, str, int], ...] = ()
    models: tuple[str, ...] = ()
    exports: tuple[tuple[str, str, str], ...] = ()
    elsewhere: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Theirs:
    """What is kept of a person, before they are forgotten: where, what, how many."""

    found: tuple[tuple[str, str, int], ...]
    models: tuple[str, ...]
