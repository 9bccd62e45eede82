"""Two versions of one pool, fragment by fragment: which rows only one of them has, without reading any row.

Fragments of the same files hold the same rows in the same places, so only their marks of deletion are compared; of all others the
ids are. An id is never used twice in a pool, and survives compaction, so equal ids are the same row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciranda.data import abreast, sets

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def differing(first: Any, second: Any) -> tuple[Array, Array]:
    """The ids of the rows that only the first of two opened versions has, and of those that only the second has."""
    these, those = _fragments(first), _fragments(second)
    cut = [name for name in these if name in those and _deleted(these[name]) != _deleted(those[name])]
    mine, yours = abreast.at_once(
        lambda: _physical(first, [these[name] for name in cut]),
        lambda: _physical(second, [those[name] for name in cut]),
    )
    gone, come = mine[0][mine[1] & ~yours[1]], yours[0][yours[1] & ~mine[1]]
    left = sets.joined([gone, _ids(first, [these[name] for name in these if name not in those])], "u8")
    right = sets.joined([come, _ids(second, [those[name] for name in those if name not in these])], "u8")
    return sets.apart(left, right), sets.apart(right, left)


def _fragments(opened: Any) -> dict[tuple[str, ...], Any]:
    """The fragments of a version by number and files, which the rows and their places follow from."""
    parts = opened.get_fragments()
    return {(str(one.metadata.id), *(file.path for file in one.metadata.files)): one for one in parts}


def _deleted(fragment: Any) -> str:
    """The file that says which rows of a fragment are deleted."""
    told = fragment.metadata.deletion_file
    return told.json() if told else ""


def _physical(opened: Any, fragments: list[Any]) -> tuple[Array, Array]:
    """The ids at every place of some fragments, and at which of these places there is a row still."""
    import numpy as np

    if not fragments:
        return sets.joined([], "u8"), sets.joined([], bool)
    scanner = opened.scanner(
        columns=[], with_row_id=True, include_deleted_rows=True, fragments=fragments, scan_in_order=True
    )
    found = scanner.to_table().column("_rowid")
    return found.fill_null(0).to_numpy(), np.asarray(found.is_valid())


def _ids(opened: Any, fragments: list[Any]) -> Array:
    """The ids of the rows in some fragments."""
    import numpy as np

    if not fragments:
        return sets.joined([], "u8")
    found = opened.scanner(columns=[], with_row_id=True, fragments=fragments).to_table().column("_rowid")
    return np.asarray(found.to_numpy())
