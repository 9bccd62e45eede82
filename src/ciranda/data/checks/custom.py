"""Functions of your own as checks: `custom: {"mypackage.checks:no_prices": block}` in the model's file.

    def no_prices(row: Row) -> str | Row | None:
        return "a price is in the answer" if "R$" in row.completion else None

A function takes a row and says None (fine), a text (the reason), or the row without the flaw. It is imported and run in worker
processes alone, so neither a crash nor a stale module is control's. It stands in the folder `checks` of the home, which only who
owns the machine can write into, or in an installed package that declares it as an entry point of the group `ciranda.checks`. Any
other name is refused, since a model's file may come over the network and must not pick what code runs. A function that raises
stops the checks with an error that names it, the row and what it raised.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ciranda.data.checks.check import MASKING, Bounds, Check, Flaw, Part, RowCheck
from ciranda.data.rows import Row
from ciranda.errors import CirandaError, Failed, Invalid, NotFound

PREFIX = "custom: "
GROUP = "ciranda.checks"

Function = Callable[[Row], object]


@dataclass(frozen=True)
class Custom:
    """The flaws of one function, as a check's function that workers can be sent."""

    spec: str

    def __call__(self, part: Part, bounds: Bounds) -> Iterator[Flaw]:
        function = load(self.spec, bounds.custom)
        for place, row in enumerate(part.rows):
            said = self._said(function, row)
            if isinstance(said, Row):
                yield Flaw(place, f"{self.spec} would change the row", said)
            elif said:
                yield Flaw(place, str(said))

    def _said(self, function: Function, row: Row) -> str | Row | None:
        try:
            said = function(row)
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
        found = _imported(spec, folder)
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
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
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
