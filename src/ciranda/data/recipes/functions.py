"""Python functions that a recipe may name, `fn: clean:fix`: those of the files in the folder `functions` of the home.

Nothing else can be named: a recipe comes over the network, and whoever may send one must not thereby run any code of this machine.
Who may write into that folder decides what there is. The digest of a function's file is recorded with the version that it made;
it is of the bytes that were compiled (`data.scripts`).

    def keep(row: Row) -> bool          for `filter`
    def fix(row: Row) -> Row | None     for `map`; None leaves the row out; a list of rows puts several in its place
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ciranda.data import scripts
from ciranda.errors import Invalid, NotFound

NAME = re.compile(r"^([A-Za-z_]\w{0,62}):([A-Za-z_]\w{0,62})$")


def load(name: str, folder: Path, *, where: str) -> tuple[Callable[..., Any], str]:
    """A function by its name, and `sha256:…` of its file.

    Raises:
        Invalid: No such name, or the file cannot be imported.
        NotFound: No such file or function.
    """
    path, wanted = place(name, folder, where=where)
    try:
        module, digest = scripts.load(path)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise Invalid(f"{path.name} cannot be imported: {error}", where=where, remedy="mend the file") from error
    found = getattr(module, wanted, None)
    if not callable(found):
        raise NotFound(f"no function {wanted!r} in {path.name}", where=where, remedy=f"define it in {path}")
    return found, digest


def place(name: str, folder: Path, *, where: str) -> tuple[Path, str]:
    """The file of a function, and its name there; nothing is run. Raises Invalid, NotFound."""
    match = NAME.match(name)
    if not match:
        raise Invalid(f"{name!r} names no function", where=where, remedy="write it as file:function, such as clean:fix")
    path = folder / f"{match[1]}.py"
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise NotFound(
            f"no file {match[1]}.py in {folder}", where=where,
            remedy="put the function there; only files of that folder can be named",
        )  # fmt: skip
    return path, match[2]
