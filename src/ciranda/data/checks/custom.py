"""Functions of your own as checks: `custom: {"mypackage.checks:no_prices": block}` in the model's file.

    def no_prices(row: Row) -> str | Row | None:
        return "a price is in the answer" if "R$" in row.completion else None

A function takes a row and says None (fine), a text (the reason), or the row without the flaw. It is imported and run in worker
processes alone, so neither a crash nor a stale module is control's. It stands in the folder `checks` of the home, which only who
owns the machine can write into, or in an installed package that declares it as an entry point of the group `ciranda.checks`. Any
other name is refused, since a model's file may come over the network and must not pick what code runs. A function that raises
stops the checks with an error that names it, the row and what it raised. So does one that takes longer than ten seconds for a row
(or IMPORT_S to be imported): an alarm ends it, and where that is of no use, as in foreign code that does not come back, its process
is ended from outside (`pulse`, `workers`).
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ciranda.data import scripts
from ciranda.data.checks.check import MASKING, Bounds, Check, Flaw, Part, RowCheck
from ciranda.data.checks.pulse import Pulse
from ciranda.data.rows import Row
from ciranda.errors import CirandaError, Failed, Invalid, NotFound

PREFIX = "custom: "
GROUP = "ciranda.checks"

IMPORT_S = 60.0
AGAIN_S = 0.5  # between alarms that the function swallows

Function = Callable[[Row], object]


class Late(BaseException):
    """The alarm; no function's `except Exception` stops it."""


_pulses: list[Pulse] = []  # of this process, when it is a worker


def watched(pulse: Pulse) -> None:
    """From here on, say there what this process is at."""
    _pulses[:] = [pulse]


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """Raise Late here after so long, in the main thread, where alarms arrive."""
    mine = threading.current_thread() is threading.main_thread()
    for pulse in _pulses:
        pulse.begin(what)
    before = signal.signal(signal.SIGALRM, _ring) if mine else None
    try:
        if mine:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
        yield
    finally:
        if mine:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        for pulse in _pulses:
            pulse.end()


def _ring(_signal: int, _frame: object) -> None:
    raise Late


def late(what: str, seconds: float) -> Failed:
    """The error of a function that took too long; `what` as its pulse says it."""
    spec, _, where = what.partition("\n")
    doing = f"the check {spec} on one row" if where else f"importing the check {spec}"
    return Failed(
        f"{doing} took more than {seconds:g} s",
        where=where or f"checks: custom: {spec}",
        remedy="make the function faster, or leave it out: `custom: {…: off}`",
    )


@dataclass(frozen=True)
class Custom:
    """The flaws of one function, as a check's function that workers can be sent."""

    spec: str

    def __call__(self, part: Part, bounds: Bounds) -> Iterator[Flaw]:
        function = load(self.spec, bounds.custom)
        for place, row in enumerate(part.rows):
            said = self._said(function, row, bounds.row_s)
            if isinstance(said, Row):
                yield Flaw(place, f"{self.spec} would change the row", said)
            elif said:
                yield Flaw(place, str(said))

    def _said(self, function: Function, row: Row, seconds: float) -> str | Row | None:
        what = f"{self.spec}\n{row.origin or row.key[:12]}"
        try:
            with _within(seconds, what):
                said = function(row)
        except Late as error:
            raise late(what, seconds) from error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | CirandaError):
                raise
            raise Failed(
                f"the check {self.spec} raised {type(error).__name__}: {str(error)[:300]}",
                where=row.origin or row.key[:12],
                remedy="correct the function, or leave it out: `custom: {…: off}`",
            ) from error
        if said is not None and not isinstance(said, str | Row):
            raise Failed(
                f"the check {self.spec} gave {type(said).__name__}",
                where=row.origin or row.key[:12],
                remedy="give None, a reason as text, or the row without the flaw",
            )
        return said


def checks(policy: Mapping[str, str], folder: Path | None) -> dict[str, Check]:
    """The checks of a policy that are functions, by name. Raises NotFound for one that is nowhere, before any row is looked at."""
    specs = [
        name.removeprefix(PREFIX) for name, action in policy.items() if name.startswith(PREFIX) and action != "off"
    ]
    for spec in specs:
        if _place(spec, folder) is None and _declared(spec) is None:
            raise _missing(spec, folder)
    return {f"{PREFIX}{spec}": RowCheck(f"{PREFIX}{spec}", Custom(spec), MASKING) for spec in specs}


@lru_cache(maxsize=64)
def load(spec: str, folder: Path | None) -> Function:
    """The function behind `module:function`; imports its module.

    Raises:
        NotFound: It stands neither in the folder nor in an installed package that declares it.
        Failed: Importing it failed.
    """
    try:
        with _within(IMPORT_S, spec):
            found = _imported(spec, folder)
    except Late as error:
        raise late(spec, IMPORT_S) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | CirandaError):
            raise
        raise Failed(
            f"importing the check {spec} failed: {type(error).__name__}: {str(error)[:300]}",
            where=f"checks: custom: {spec}",
            remedy="correct the module",
        ) from error
    if not callable(found):
        raise _missing(spec, folder)
    return found  # type: ignore[no-any-return]


def _imported(spec: str, folder: Path | None) -> Any:
    module, _, name = spec.partition(":")
    place = _place(spec, folder)
    if place is None or folder is None:
        declared = _declared(spec)
        return declared.load() if declared else None
    scripts.importable(folder)
    found = importlib.import_module(module)
    if folder not in Path(found.__file__ or "").parents:
        raise Invalid(
            f"another {module} is installed: {found.__file__}", where=str(place), remedy="give the module another name"
        )
    return getattr(found, name, None)


def _place(spec: str, folder: Path | None) -> Path | None:
    """The file of a function's module in the home's folder, when it is there."""
    parts = spec.partition(":")[0].split(".")
    if folder is None or not all(part.isidentifier() for part in parts):
        return None
    place = folder.joinpath(*parts)
    return next((one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file()), None)


def _declared(spec: str) -> EntryPoint | None:
    return next((one for one in entry_points(group=GROUP) if one.value == spec), None)


def _missing(spec: str, folder: Path | None) -> NotFound:
    module, _, name = spec.partition(":")
    return NotFound(
        f"no check {spec}",
        where=str(folder or GROUP),
        remedy=f"write {module.replace('.', '/')}.py with `def {name}(row)` there, or install a package that declares it in the "
        f"entry points of {GROUP}",
    )
