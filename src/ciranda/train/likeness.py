"""How near two trained artefacts are: the same files, and where the weights differ, by how much.

Weights are read as safetensors lay them out (eight bytes of length, a JSON header, raw numbers), tensor by tensor, so that a file
of any size takes the memory of its largest tensor. Nothing in such a file can run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda.errors import Invalid
from ciranda.store import files

KINDS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LONGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class Likeness:
    """How near two folders are.

    Args:
        equal: Bit by bit the same.
        before, after: The digest of each folder.
        files: What differs, is missing or is new.
        largest: The largest difference of any weight; None where weights cannot be compared.
        relative: The length of the difference over the length of the weights before.
    """

    equal: bool
    before: str
    after: str
    files: tuple[str, ...] = ()
    largest: float | None = None
    relative: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(before: Path, after: Path) -> Likeness:
    """Compare two folders of weights.

    Raises:
        Invalid: A file of weights cannot be read.
    """
    was, now = _digests(before), _digests(after)
    differs = tuple(sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)))
    old, new = (f"sha256:{files.sha256_of_folder(folder)}" for folder in (before, after))
    weights = [name for name in differs if name.endswith(".safetensors") and name in was and name in now]
    if not weights:
        return Likeness(not differs, old, new, differs, 0.0 if not differs else None, 0.0 if not differs else None)
    largest, off, whole = 0.0, 0.0, 0.0
    for name in weights:
        for one, other in _pairs(before / name, after / name):
            gap = one - other
            largest = max(largest, float(np.abs(gap).max(initial=0.0)))
            off, whole = off + float(np.vdot(gap, gap)), whole + float(np.vdot(one, one))
    if not math.isfinite(largest + off + whole):
        return Likeness(False, old, new, differs)
    return Likeness(False, old, new, differs, largest, math.sqrt(off / whole) if whole else None)


def _digests(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256_of(path) for path in found}


def _pairs(before: Path, after: Path) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The tensors of two files by name, as numbers of double precision."""
    old, new = _header(before), _header(after)
    if {name: one[:2] for name, one in old.items()} != {name: one[:2] for name, one in new.items()}:
        raise Invalid(
            f"{after.name} holds other tensors than before", where=str(after), remedy="look at both recipes: the shapes differ"
        )  # fmt: skip
    for name in old:
        yield _tensor(before, old[name]), _tensor(after, new[name])


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Kind, shape, place and length of each tensor."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError("its header is too long")
            told = json.loads(file.read(length))
        told.pop("__metadata__", None)
        return {
            str(name): (str(one["dtype"]), tuple(one["shape"]), 8 + length + one["data_offsets"][0],
                        one["data_offsets"][1] - one["data_offsets"][0])
            for name, one in told.items()
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            f"{path.name} is no file of weights: {error}",
            where=str(path),
            remedy="train again; its job's log says more",
        ) from None


def _tensor(path: Path, held: tuple[str, tuple[int, ...], int, int]) -> NDArray[np.float64]:
    kind, _, place, length = held
    if kind not in KINDS:
        raise Invalid(
            f"{path.name} holds {kind}, which is not compared", where=str(path), remedy="compare by scores instead"
        )
    raw = np.fromfile(path, dtype=np.uint8, count=length, offset=place).view(KINDS[kind])
    if kind == "BF16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64)
