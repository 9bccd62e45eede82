"""Packages of others for benchmarks that compare: each at a pinned version in a folder of its own, never in our environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_S = 900
DONE = "installed"


def install(folder: Path, packages: Sequence[str], *, manager: str = "pip", alone: bool = False) -> str:
    """Why the packages cannot be installed into the folder; empty when they are. Half an installation is begun anew.

    Args:
        alone: Without what they depend on, for packages of which only the files are wanted.
        manager: `pip` makes a virtual environment `venv` in the folder, `npm` a `node_modules`.
    """
    if (folder / DONE).exists():
        return ""
    if shutil.which("npm") is None and manager == "npm":
        return "npm is not here"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = str(folder / "venv/bin/python")
    commands = {
        "npm": [["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]],
        "pip": [
            [sys.executable, "-m", "venv", str(folder / "venv")],
            [
                python,
                "-m",
                "pip",
                "install",
                "-qq",
                "--disable-pip-version-check",
                *(["--no-deps"] if alone else []),
                *packages,
            ],
        ],
    }
    for command in commands[manager]:
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            return f"not installed within {INSTALL_S} s"
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines() or [f"code {ended.returncode}"]
            return f"does not install: {said[-1][:200]}"
    (folder / DONE).touch()
    return ""
