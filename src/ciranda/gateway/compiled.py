"""Whether a worker runs the compiled form of the hot path, and which.

The modules that every request passes are ordinary Python; the build turns them into one C extension with mypyc where a C compiler
is there (`hatch_build.py`), which takes a quarter off what a request costs. What was built lies in `built/<ABI>/`, never beside
the sources, with the SHA-256 of each source in its STAMP. So it can never run in place of a source that is newer: a worker that
finds another digest says so and runs plain Python. Only `python -m ciranda.gateway` loads it; whoever imports these modules in
another process (control, the commands, tests that replace a function) has plain Python, where a name can be replaced.

What it asks of those modules: they inherit from no class of another library (so a connection is a protocol of asyncio by its
methods), a class body assigns one name at a time, and what is replaced at run time is an attribute, not a function.

It refuses: to mix. All of them are compiled or none is; a module that is imported already keeps the rest plain.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from ciranda.errors import Unavailable

log = logging.getLogger("ciranda.gateway")

PACKAGE = Path(__file__).parents[1]
GROUP = "ciranda_gateway__mypyc"  # the extension that holds them all; each module's own file only points into it
REMEDY = "run `python hatch_build.py` in the source folder, or let CIRANDA_COMPILED be auto"


class Finder:
    """Finds the compiled modules, before everybody else looks for their sources."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module's compiled form is. Part of the `MetaPathFinder` protocol."""
        file = self._files.get(name)
        return spec_from_file_location(name, file) if file is not None else None


def load(wanted: str, package: Path = PACKAGE) -> bool:
    """Let what is imported from now on be compiled; whether it is.

    Args:
        wanted: The setting `compiled`: auto, yes or no.
        package: Where the package is.

    Raises:
        Unavailable: It must be compiled (`yes`), and cannot be.
    """
    if wanted == "no":
        return False
    folder = place(package)
    why = trouble(folder, package) if folder.is_dir() else "nothing was compiled for this Python"
    if not why:
        why = _install(folder)
    if why and wanted == "yes":
        raise Unavailable(f"the gateway cannot run compiled: {why}", where=str(folder), remedy=REMEDY)
    if why and folder.is_dir():
        log.warning("the gateway runs plain Python: %s; %s", why, REMEDY)
    return not why


def place(package: Path = PACKAGE) -> Path:
    """Where the compiled form for this Python lies, if there is one."""
    return package / "gateway" / "built" / str(sysconfig.get_config_var("SOABI"))


def loaded() -> bool:
    """Whether this process runs compiled."""
    return GROUP in sys.modules


def trouble(folder: Path, package: Path) -> str:
    """Why what was compiled is not what the sources say now; empty when it is."""
    try:
        sources: dict[str, str] = json.loads((folder / "STAMP").read_text())["sources"]
        changed = [name for name, digest in sources.items() if digest_of(package / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        return f"it was not compiled to the end ({error})"
    return f"{', '.join(changed)} changed since it was compiled" if changed else ""


def digest_of(source: Path) -> str:
    """SHA-256 of a source file."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _install(folder: Path) -> str:
    names = list(json.loads((folder / "STAMP").read_text())["sources"])
    modules = {"ciranda." + name.removesuffix(".py").replace("/", "."): name for name in names}
    if early := sorted(name for name in modules if name in sys.modules):
        return f"{early[0]} is imported already"
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    files = {module: folder / (name.removesuffix(".py") + suffix) for module, name in modules.items()}
    finder = Finder({**files, GROUP: folder / (GROUP + suffix)})
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(GROUP)
    except ImportError as error:  # another C library, half a file
        sys.meta_path.remove(finder)
        return f"it cannot be loaded ({error})"
    return ""
