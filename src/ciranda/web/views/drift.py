"""What moved, by stream: an e-process against the reference, and how large the shift is."""

from __future__ import annotations

from dataclasses import dataclass

from ciranda.web.views.alerts import AlertRow, Group


@dataclass(frozen=True)
class Stream:
    """One watched stream. Drift is declared on certainty (`e_value` over `e_limit`) and size (`shift` over `shift_limit`)."""

    name: str  # input | output | quality | feedback
    state: str  # quiet | certain | drift | learning
    seen: int
    e_value: float
    e_limit: float
    shift: float | None
    shift_limit: float
    since: str = ""
    history: tuple[tuple[int, float], ...] = ()  # messages seen, log10 of the e-value


@dataclass(frozen=True)
class DriftPage:
    """The drift page of a model."""

    model: str
    reference: str
    streams: tuple[Stream, ...]
    groups: tuple[Group, ...] = ()
    alerts: tuple[AlertRow, ...] = ()
    policy: str = ""  # what happens on drift: retrain | notify
