"""What versions cost on the disk: how much the files hold that one is made of, and how much of that it was the first to bring.

Files of a pool never change, so a version added those that its parent does not have; a branch and a revert add none. Nothing is
said of a version whose rows were collected, nor of what one added whose parent's were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

from ciranda.config import Home
from ciranda.data import place, shelf
from ciranda.data.ledger import DatasetVersion, get
from ciranda.data.place import Place
from ciranda.errors import NotFound
from ciranda.store.database import Database


@dataclass(frozen=True)
class Disk:
    """Bytes of the files of a version, and of those that its parent lacks (None: not known any more)."""

    held: int
    added: int | None

    def to_dict(self) -> dict[str, int | None]:
        """As the REST API shows it."""
        return asdict(self)


def of(db: Database, home: Home, version: DatasetVersion) -> Disk | None:
    """What a version costs; None when its rows are gone."""
    return along(db, home, [version]).get(version.ref)


def along(db: Database, home: Home, line: Sequence[DatasetVersion]) -> dict[str, Disk]:
    """What each of several versions costs, by its name."""
    known = {one.ref: one for one in line}
    found = {}
    for one in line:
        if (mine := _files(home, one)) is None:
            continue
        parent = (known.get(one.parent) or get(db, one.parent)) if one.parent else None
        before = _before(home, one, parent)
        added = None if before is None else sum(size for name, size in mine.items() if name not in before)
        found[one.ref] = Disk(sum(mine.values()), added)
    return found


def _before(home: Home, one: DatasetVersion, parent: DatasetVersion | None) -> Mapping[str, int] | None:
    if parent is None or place.of(home, parent.name).uri != place.of(home, one.name).uri:
        return {}
    return _files(home, parent)


def _files(home: Home, version: DatasetVersion) -> Mapping[str, int] | None:
    if version.collected_at:
        return None
    try:
        return _held(place.of(home, version.name), version.lance_version)
    except NotFound:
        return None


@lru_cache(4096)
def _held(where: Place, stored: int) -> Mapping[str, int]:
    return shelf.files(where, stored)
