"""Python files of the owner's own (functions of recipes, checks), compiled from what stands in them now.

Python believes a cached `.pyc` that was made of a source of the same size in the same second. Whoever saves a file twice within a
second, or copies one over another with its time, would have the old function run while the digest of the new one is recorded. So
nothing cached is read here, and nothing is written beside their files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn


class Script(SourceFileLoader):
    """A source read once, and compiled from the bytes that were read."""

    def __init__(self, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self.source = Path(path).read_bytes()

    def get_data(self, path: str) -> bytes:
        return self.source

    def path_stats(self, path: str) -> NoReturn:
        raise OSError("a source without a time has no cached form")


def load(path: Path) -> tuple[ModuleType, str]:
    """The module that a file makes, and `sha256:…` of the very bytes that it was compiled from; raises whatever the file raises."""
    script = Script(f"ciranda_script_{path.stem}", str(path))
    spec = importlib.util.spec_from_file_location(script.name, path, loader=script)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    script.exec_module(module)
    return module, f"sha256:{hashlib.sha256(script.source).hexdigest()}"


def importable(folder: Path) -> None:
    """Let modules of a folder be imported by name in this process, behind those that are installed."""

    def finder(path: str) -> FileFinder:
        if not Path(path).is_relative_to(folder):
            raise ImportError
        return FileFinder(path, (Script, SOURCE_SUFFIXES))

    if str(folder) not in sys.path:
        sys.path_hooks.insert(0, finder)
        sys.path_importer_cache.pop(str(folder), None)
        sys.path.append(str(folder))
