"""What decides a run's result, as digests: the code that trains, the rows, the base, the adapter it goes on from, the recipe.

A run tells this at its beginning, so that one that failed has it too, and keeps it in its result. Two runs whose digests, threads
and packages are the same end bit by bit the same on a processor; `differences` says in words what was not the same.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ciranda import __version__
from ciranda.errors import Invalid
from ciranda.store import files
from ciranda.train.recipe import Spec

DECIDES = ("train/*.py", "engines/peft*.py", "engines/gguf.py")  # the code that a result follows from
DIGESTS = ("code", "rows", "validation", "base", "init", "recipe")


def of(spec: Spec, environment: Mapping[str, str]) -> dict[str, Any]:
    """What this run is made of.

    Args:
        environment: The versions of what trains, from whoever trains.

    Raises:
        Invalid: The base, the rows or the adapter to go on from are not there.
    """
    try:
        about = json.loads((spec.base / "base.json").read_text())
        sums = {
            "rows": files.sha256_of(spec.rows),
            "validation": files.sha256_of(spec.validation),
            "init": files.sha256_of_folder(start) if (start := spec.init_adapter or spec.init_weights) else "",
        }
    except (OSError, ValueError, KeyError) as error:
        raise Invalid(
            f"what the run is made of cannot be read: {error}", where=str(spec.output), remedy="start another search"
        ) from None
    recipe = spec.recipe.model_dump()
    return {
        "ciranda": __version__,
        "code": code(),
        "base": str(about["digest"]),
        "recipe": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        "seed": recipe["seed"],
        **sums,
        "environment": {**machine(), **environment},
    }


@cache
def code() -> str:
    """SHA-256 over the source that trains."""
    found = hashlib.sha256()
    root = Path(str(resources.files("ciranda")))
    for path in sorted(path for pattern in DECIDES for path in root.glob(pattern)):
        found.update(f"{path.relative_to(root)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def machine() -> dict[str, str]:
    """What computes: interpreter, system, processor."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "interpreter": sys.implementation.name,
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What was not the same in two runs, a name each: digests by their names, packages as `torch: 2.12 then, 2.13 now`.

    What the run before did not note is not compared.
    """
    told = [name for name in DIGESTS if name in before and before[name] != after.get(name)]
    was, now = before.get("environment") or {}, after.get("environment") or {}
    return told + [
        f"{name}: {was[name]} then, {now.get(name) or 'nothing'} now" for name in was if was[name] != now.get(name)
    ]
