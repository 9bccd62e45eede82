"""Where the rows of a dataset lie: a Lance folder in the home, or under the address that the setting `datasets_url` names.

A *pool* is one Lance folder. A dataset has its own pool unless it was branched off another one: then it shares that one's, and a
small file beside the pools says so (`<name>.branch`), because jobs read rows without the control database. Versions of a pool's own
dataset are tagged `v2`, those of a branch `name.v2`.
Names are checked here, so that no name can leave the folder. Locks are files in the home, also for rows that lie elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ciranda.config import Home, settings
from ciranda.errors import Invalid
from ciranda.store import files, objects


@dataclass(frozen=True)
class Place:
    """A pool and how to reach it; `prefix` is that of the tags."""

    dataset: str
    pool: str
    uri: str
    lock: Path
    prefix: str = "v"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> Path | None:
        """The folder, when it is one of this machine."""
        return None if "://" in self.uri else Path(self.uri)

    def tag(self, number: int) -> str:
        """What Lance calls a version of the dataset."""
        return f"{self.prefix}{number}"

    def findings(self, number: int) -> str:
        """Where the findings of a version's checks lie."""
        return f"{self.uri.rpartition('/')[0]}/{self.dataset}.findings/v{number}.lance"


def of(home: Home, name: str) -> Place:
    """The place of a dataset. Raises Invalid for what is no name."""
    checked(name)
    pool = _pointer(home, name) or name
    prefix = "v" if pool == name else f"{name}.v"
    bucket = objects.bucket(settings(home))
    root = bucket.url if bucket else str(home.datasets)
    options = bucket.options() if bucket else {}
    return Place(name, pool, f"{root}/{pool}.lance", home.datasets / f"{pool}.lock", prefix, options)


def share(home: Home, name: str, pool: str) -> None:
    """Let a dataset that has no rows of its own lie in the pool of another one."""
    checked(name), checked(pool)
    if bucket := objects.bucket(settings(home)):
        bucket.put(f"{name}.branch", pool.encode())
    else:
        files.write_atomic(home.datasets / f"{name}.branch", pool)


def parse_ref(ref: str) -> tuple[str, int]:
    """`smart-home@2` as name and number. Raises Invalid."""
    name, which = parse_name(ref)
    if not which.isdecimal():
        raise Invalid(f"{ref!r} names no dataset version", where="dataset", remedy="write it as smart-home@2")
    return name, int(which)


def parse_name(ref: str) -> tuple[str, str]:
    """`smart-home@2` or `smart-home@golden` as the name and what stands behind it. Raises Invalid."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9-]{0,62})@([1-9]\d{0,8}|[a-z][a-z0-9.-]{0,62})", ref)
    if not match:
        raise Invalid(
            f"{ref!r} names no dataset version", where="dataset", remedy="write it as smart-home@2 or smart-home@golden"
        )
    return match[1], match[2]


def checked(name: str) -> str:
    """The name of a dataset. Raises Invalid."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise Invalid(
            f"{name!r} is no name for a dataset", where="dataset", remedy="use small letters, digits and hyphens"
        )
    return name


def _pointer(home: Home, name: str) -> str:
    if bucket := objects.bucket(settings(home)):
        found = (bucket.get(f"{name}.branch") or b"").decode(errors="replace")
    else:
        path = home.datasets / f"{name}.branch"
        found = path.read_text() if path.exists() else ""
    return checked(found) if found else ""
