"""Inside a job's process: its spec comes from a file, its progress and its error go into files, and its end is an exit code.

    spec.json        what to do, `kind` first of all            read here
    progress.jsonl   a line for each step, with its time         written here
    error.json       why it failed, as the REST API shows it     written here

A job may be killed at any line and run again in the same folder, so whoever uses this goes on from what it finds there.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ciranda.errors import CirandaError, Invalid, StorageFull
from ciranda.store import clock, files


class Progress:
    """Lines of `progress.jsonl`: each with its time, each written whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "progress.jsonl"

    def __call__(self, values: Mapping[str, Any]) -> None:
        line = json.dumps({"at": clock.iso(), **values}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


Kind = Callable[[Path, Mapping[str, Any], Progress], None]


def main(
    kinds: Mapping[str, Kind], argv: Sequence[str] | None = None, *, progress: Callable[[Path], Progress] = Progress
) -> int:
    """Do what the folder named on the command line asks for; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m <job> <folder with spec.json>", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        run(kinds, folder, progress=progress)
    except CirandaError as error:
        print(error, file=sys.stderr)
        if folder.is_dir():
            files.write_atomic(folder / "error.json", json.dumps(error.to_dict(), indent=1))
        return error.exit_code
    return 0


def run(kinds: Mapping[str, Kind], folder: Path, *, progress: Callable[[Path], Progress] = Progress) -> None:
    """Do what `spec.json` says.

    Raises:
        CirandaError: It could not be done; says why and what to do.
    """
    try:
        values = json.loads((folder / "spec.json").read_text())
        work = kinds[values["kind"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"no spec of a job: {error}", where=str(folder / "spec.json"), remedy="submit the job again"
        ) from None
    try:
        work(folder, values, progress(folder))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            f"the disk is full: {error}",
            where=str(folder),
            remedy="free some disk (a base takes 0.7 GB), then start it again",
        ) from error
