"""Recipes at work: a dataset version out of others, and the same version again, to see whether it comes out the same.

    asked(platform, text, file)       the recipe, its versions pinned, its functions there: or what is wrong, before anything runs
    prepare(platform, asked, tell)    the job: rows through the steps, checks, commit
    rebuild(platform, asked, tell)    the job: the same from what the version's transformation holds; nothing is written

The transformation holds all that decides the rows: the recipe's text, the versions it read by digest, the digest of each
function's file, the seed, the checks. Rows of another dataset are read as the person who asks may see them for training, so that
a recipe is no way around a policy; rows of the dataset that they go back into are taken over as they lie. A rebuild by somebody who
sees less, with another function, or against other suites can differ, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda import __version__
from ciranda.data import checks, columns, reading, sets, succession, versions
from ciranda.data.checks import Bounds
from ciranda.data.recipes import file, functions, run
from ciranda.data.recipes.file import Recipe
from ciranda.data.recipes.run import Tally
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion
from ciranda.errors import Refused
from ciranda.govern.policy import Reader
from ciranda.jobs.inside import Progress
from ciranda.loop import committed
from ciranda.loop.chores import counted
from ciranda.loop.platform import Platform

SHOWN = 20
Array = NDArray[Any]


@dataclass(frozen=True)
class Pinned:
    """A recipe that can run: its inputs are versions by number."""

    recipe: Recipe
    text: str
    file: str
    inputs: tuple[DatasetVersion, ...]


def asked(platform: Platform, text: str, name: str, inputs: tuple[str, ...] = ()) -> Pinned:
    """A recipe with everything that it needs found; nothing is run.

    Args:
        inputs: The versions to read in place of the recipe's own names: those of another run.

    Raises:
        Invalid: The file is wrong (file, line, key, remedy). NotFound: A version or a function is not there.
    """
    recipe = file.read(text, file=name)
    for function in recipe.functions:
        functions.place(function, platform.home.functions, where=name)
    return Pinned(recipe, text, name, tuple(versions.get(platform.db, ref) for ref in inputs or recipe.from_))


def prepare(platform: Platform, given: Mapping[str, Any], tell: Progress) -> dict[str, Any]:
    """Run a recipe and commit what it makes; a dry run only counts."""
    pinned, reader = asked(platform, given["text"], given["file"], tuple(given["inputs"])), _reader(given)
    into, tally = pinned.recipe.into, Tally()
    called, digests = run.load(pinned.recipe, platform.home.functions, file=pinned.file)
    rows = counted(_rows(platform, pinned, reader, called, Path(given["scratch"]), tally), tell, phase="preparing")
    if given.get("dry"):
        samples, total = _counted(rows)
        return {"dataset": "", "dry": True, "rows": total, "steps": tally.to_list(), "shown": samples,
                "inputs": [one.ref for one in pinned.inputs]}  # fmt: skip
    before = versions.newest_of(platform.db, into)
    rules = committed.policy(platform, into, otherwise={})
    version = committed.commit(
        platform,
        into,
        rows,
        rules,
        made=lambda: _made(pinned, digests, tally, rules.checks, reader),
        actor=str(given["actor"]),
        sources=[one.ref for one in pinned.inputs if one.name != into],
    )
    return {
        "dataset": version.ref, "rows": version.rows, "digest": version.digest, "inputs": [one.ref for one in pinned.inputs],
        "new": before is None or before.ref != version.ref, "steps": tally.to_list(), "checks": version.report,
    }  # fmt: skip


def _reader(given: Mapping[str, Any]) -> Reader:
    """Who asked, as policies know them; rows become training data."""
    return Reader(str(given["actor"]), str(given["role"]), "training", str(given["key"]), str(given["tenant"]))


def _rows(
    platform: Platform, pinned: Pinned, reader: Reader, called: Mapping[str, Any], scratch: Path, tally: Tally
) -> Iterator[Row]:
    came = chain.from_iterable(_of(platform, one, pinned.recipe.into, reader) for one in pinned.inputs)
    return run.run(pinned.recipe, came, functions=called, scratch=scratch, tally=tally)


def _of(platform: Platform, version: DatasetVersion, into: str, reader: Reader) -> Iterator[Row]:
    if version.name == into:
        return succession.inherited(platform.home, version.ref)
    seen = reading.read(platform.db, platform.home, version.ref, reader)
    return (row.with_() for row in seen)  # named by what is seen of it, not by what the door calls it


def _counted(rows: Iterator[Row]) -> tuple[list[dict[str, Any]], int]:
    """The first rows as they would be, and how many there are."""
    shown, total = [], 0
    for row in rows:
        if total < SHOWN:
            shown.append(
                {
                    "prompt": row.prompt[:200],
                    "completion": row.completion[:200],
                    "split": row.split,
                    "origin": row.origin,
                }
            )
        total += 1
    return shown, total


def _made(
    pinned: Pinned, digests: Mapping[str, str], tally: Tally, policy: Mapping[str, str], reader: Reader
) -> dict[str, Any]:
    return {
        "kind": "recipe", "file": pinned.file, "recipe": pinned.text, "seed": pinned.recipe.seed,
        "sources": [{"source": one.ref, "digest": one.digest, "rows": one.rows} for one in pinned.inputs],
        "functions": dict(digests), "steps": tally.to_list(), "checks": dict(policy), "read_by": f"{reader.actor} ({reader.role})",
        "ciranda": __version__,
    }  # fmt: skip


# --- again ------------------------------------------------------------------------------------------------------------


def repeatable(platform: Platform, ref: str) -> Pinned:
    """The recipe of a version, on the very versions that it read.

    Raises:
        Refused: No recipe made it; says what did. NotFound: A version or a function is gone.
    """
    version = versions.get(platform.db, ref)
    made = version.transformation
    if made.get("kind") != "recipe":
        raise Refused(
            f"{version.ref} was not made by a recipe but by {made.get('kind') or 'hand'}", where=version.ref,
            remedy="only recipes can be done again; what came from outside is in its sources",
        )  # fmt: skip
    return asked(platform, made["recipe"], made["file"], tuple(one["source"] for one in made["sources"]))


def rebuild(platform: Platform, given: Mapping[str, Any], tell: Progress) -> dict[str, Any]:
    """Make a version's rows again and compare them with it, row by row when the digest differs."""
    version = versions.get(platform.db, str(given["ref"]))
    pinned, reader, tally = repeatable(platform, version.ref), _reader(given), Tally()
    called, digests = run.load(pinned.recipe, platform.home.functions, file=pinned.file)
    rows = counted(_rows(platform, pinned, reader, called, Path(given["scratch"]), tally), tell, phase="rebuilding")
    learner = committed.policy(platform, version.name, otherwise={})
    rules = {str(name): str(action) for name, action in version.transformation["checks"].items()}
    bounds = learner.bounds if rules else Bounds()
    with checks.judge(rows, rules, bounds=bounds, folder=platform.home.datasets) as judged:
        tell({"phase": "comparing", "rows": judged.report.left})
        digest = sets.digest_of(_again(judged))
        same = digest == version.digest
        differs = {} if same else _difference(succession.inherited(platform.home, version.ref), _again(judged))
    return {
        "ref": version.ref, "same": same, "digest": digest, "was": version.digest, "rows": judged.report.left,
        "changed_since": _changed(pinned, version, digests), "steps": tally.to_list(), **differs,
    }  # fmt: skip


def _again(judged: checks.Judged) -> Iterator[Row]:
    """What the checks left, as values."""
    return (row for batch in judged.batches().batches for row in columns.rows_of(batch))


def _changed(pinned: Pinned, version: DatasetVersion, digests: Mapping[str, str]) -> list[str]:
    """What is not as it was when the version was made."""
    made = version.transformation
    other = [] if made.get("ciranda") == __version__ else [f"Ciranda: {made.get('ciranda')} then, {__version__} now"]
    told = [f"the file of {name}" for name, digest in digests.items() if made["functions"].get(name) != digest]
    before = {one["source"]: one["digest"] for one in made["sources"]}
    return other + told + [f"the rows of {one.ref}" for one in pinned.inputs if before.get(one.ref) != one.digest]


def _difference(old: Iterator[Row], new: Iterator[Row]) -> dict[str, Any]:
    """How many rows came, went and changed, and the names of some; 16 bytes a row."""
    was, now = _names(old), _names(new)
    gone, come = np.setdiff1d(was[:, 0], now[:, 0]), np.setdiff1d(now[:, 0], was[:, 0])
    both = np.intersect1d(was[:, 0], now[:, 0])
    facts = {
        side: found[np.isin(found[:, 0], both)][np.argsort(found[np.isin(found[:, 0], both)][:, 0])]
        for side, found in (("was", was), ("now", now))
    }
    other = both[facts["was"][:, 1] != facts["now"][:, 1]]
    return {name: {"rows": len(found), "some": [f"{int(one):016x}" for one in found[:SHOWN]]}
            for name, found in (("missing", gone), ("unexpected", come), ("other_facts", other))}  # fmt: skip


def _names(rows: Iterator[Row]) -> Array:
    """The beginnings of names and fingerprints."""
    pairs = ((int(row.key[:16], 16), int(row.fingerprint[:16], 16)) for row in rows)
    return np.fromiter(pairs, dtype=np.dtype((np.uint64, 2)))
