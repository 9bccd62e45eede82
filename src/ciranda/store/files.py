"""Files that are whole or absent: written beside, synced, then renamed. Nobody ever reads half of one."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk says that has no room


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o600) -> None:
    """Replace `path` in one step; after a power cut it holds the old or the new content, never a mixture.

    Raises OSError (ENOSPC on a full disk) with the old content untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def once(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file that is made at first need, readable by its owner alone. Two that make it at once agree on one."""
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        write_atomic(fresh, make())
        try:
            os.link(fresh, path)  # fails when the other one was first
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        sync_folder(path.parent)
    return path.read_bytes()


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """One digest for a folder: SHA-256 over the sorted lines `<sha256>  <relative path>` (as `sha256sum` prints them)."""
    lines = [
        f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
