"""Rows through the checks of a model's file, with everything that these compare with: every suite that is registered, the version
before, and functions of the home's own. Whoever is about to commit rows comes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from ciranda.config.model import DatasetSpec, ModelSpec
from ciranda.data import checks, columns, succession
from ciranda.data import versions as datasets
from ciranda.data.shift import Profile
from ciranda.errors import Invalid, NotFound
from ciranda.loop.overlaps import prompts_of, registered
from ciranda.loop.papers import OWN
from ciranda.loop.platform import Platform


def judged(
    platform: Platform,
    spec: ModelSpec | DatasetSpec,
    rows: columns.Rows,
    *,
    dataset: str = "",
    tell: Callable[[checks.Progress], None] | None = None,
) -> AbstractContextManager[checks.Judged]:
    """Rows that are to become the next version of a dataset (by default the model's), gone through the checks.

    Raises Blocked when a blocking check found something, and what the checks themselves raise.
    """
    compared = bounds(platform, spec, dataset or spec.dataset)
    policy, folder = spec.data.checks.policy(), platform.home.datasets
    return checks.judge(rows, policy, bounds=compared, folder=folder, tell=tell)


def bounds(platform: Platform, spec: ModelSpec | DatasetSpec, dataset: str) -> checks.Bounds:
    """What the checks of a model's file compare with."""
    setting = spec.data.checks
    return checks.Bounds(
        max_characters=spec.data.max_characters,
        suites=_asked(platform, spec) if setting.contamination else {},
        settings=setting,
        parent=_profile(platform, dataset) if setting.drift else None,
        custom=platform.home.checks,
    )


def _asked(platform: Platform, spec: ModelSpec | DatasetSpec) -> Mapping[str, list[str]]:
    """The prompts of every suite that a gate of any model names, by the suite's name. One of another model's may be away."""
    own = {gate.suite for gate in spec.gates} if isinstance(spec, ModelSpec) else set()
    found = {}
    for name in sorted({*registered(platform), *(own - OWN)}):
        try:
            found[name] = prompts_of(platform, name)
        except (NotFound, Invalid):
            if name in own:
                raise
    return found


def _profile(platform: Platform, dataset: str) -> Profile | None:
    """What the newest version's rows are like; None when there is none."""
    newest = datasets.newest_of(platform.db, dataset)
    return succession.profile(platform.home, newest.ref, rows=newest.rows) if newest else None
