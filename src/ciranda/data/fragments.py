"""Fragments of a pool: where its rows lie, what they are called, and which of them are marked deleted, without reading any row.

The ids of a fragment's rows stand in the version's manifest, in the order of their places; the places of deleted rows in a small
file. An id is never used twice in a pool and survives compaction, so equal ids are the same row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data import sets

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def differing(first: Any, second: Any) -> tuple[Array, Array]:
    """The ids of the rows that only the first of two opened versions has, and of those that only the second has.

    Fragments of the same files hold the same rows at the same places, so only their marks of deletion are compared.
    """
    import numpy as np

    these, those = _fragments(first), _fragments(second)
    gone = [alive(first, these[name]) for name in these if name not in those]
    come = [alive(second, those[name]) for name in those if name not in these]
    for name in these.keys() & those.keys():
        if _mark(these[name]) != _mark(those[name]):
            was, now, names = deleted(first, these[name]), deleted(second, those[name]), ids(these[name])
            gone.append(names[np.setdiff1d(now, was, assume_unique=True)])
            come.append(names[np.setdiff1d(was, now, assume_unique=True)])
    left, right = sets.joined(gone, "u8"), sets.joined(come, "u8")
    return sets.apart(left, right), sets.apart(right, left)


def ids(fragment: Any) -> Array:
    """The ids of the rows at every place of a fragment, of deleted rows too."""
    import numpy as np
    from lance.fragment import RowIdSequence

    return np.asarray(RowIdSequence.from_inline_metadata(fragment.metadata.row_id_meta).to_pyarrow().to_numpy())


def alive(opened: Any, fragment: Any) -> Array:
    """The ids of the rows that are not deleted, in the order of their places."""
    import numpy as np

    return np.delete(ids(fragment), deleted(opened, fragment))


def deleted(opened: Any, fragment: Any) -> Array:
    """The places of a fragment whose rows are deleted. Lance keeps a few as a list, which is read; of many it is asked."""
    import numpy as np
    import pyarrow as pa

    mark = fragment.metadata.deletion_file
    if mark is None:
        return np.empty(0, np.uint32)
    if mark.file_type == "array" and "://" not in opened.uri:
        with pa.OSFile(f"{opened.uri}/{fragment.deletion_file()}") as file, pa.ipc.open_file(file) as read:
            return np.sort(read.read_all().column(0).to_numpy())
    scanner = opened.scanner(
        columns=[], with_row_id=True, include_deleted_rows=True, fragments=[fragment], scan_in_order=True
    )
    return np.flatnonzero(scanner.to_table().column("_rowid").is_null())


def without(opened: Any, gone: Array) -> tuple[list[Any], list[int]]:
    """The fragments that rows with these ids lie in, as they are with the rows marked deleted; and which have none left."""
    import numpy as np

    cut, empty, due = list[Any](), list[int](), len(gone)
    for fragment in opened.get_fragments() if due else ():
        names = ids(fragment)
        if not len(places := np.flatnonzero(np.isin(names, gone))):
            continue
        after = fragment.delete_rows(places.tolist())
        if after is None:
            empty.append(int(fragment.fragment_id))
        else:
            cut.append(after)
        due -= len(places)
        if due <= 0:
            break
    return cut, empty


def files(opened: Any, folder: Path | None) -> dict[str, int]:
    """The files of a version with their bytes; of marks of deletion only those on this machine are known."""
    parts = [one.metadata for one in opened.get_fragments()]
    found = {file.path: int(file.file_size_bytes or 0) for one in parts for file in one.files}
    marks = [name for one in opened.get_fragments() if (name := one.deletion_file())]
    return found | {name: (folder / name).stat().st_size for name in marks if folder is not None}


def _fragments(opened: Any) -> dict[tuple[str, ...], Any]:
    """The fragments of a version by number and files, which the rows and their places follow from."""
    parts = opened.get_fragments()
    return {(str(one.metadata.id), *(file.path for file in one.metadata.files)): one for one in parts}


def _mark(fragment: Any) -> str:
    """The file that says which rows of a fragment are deleted."""
    told = fragment.metadata.deletion_file
    return told.json() if told else ""
