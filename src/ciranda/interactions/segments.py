"""The collector's side of the spool: which segments there are, what is new in them, and what becomes of damaged ones.

A segment keeps its name from `.open` to `.ready`, so reading goes on across the change. In a segment that still grows, a
record that cannot be read yet is waited for; in a sealed one it is damaged: its bytes are copied to `quarantine/`, a line in
the log says so, and reading goes on behind it. It refuses to let one bad record hold up the others, and to throw it away.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ciranda.interactions.spool import MAX_FRAME_BYTES, Frame, adopt, read_frames, sound_length
from ciranda.store.files import write_atomic

log = logging.getLogger(__name__)

HEADER = struct.Struct("<IIBxxx")


@dataclass(frozen=True, order=True)
class Segment:
    """One file of the spool, by the name that it keeps."""

    name: str
    path: Path

    @property
    def sealed(self) -> bool:
        return self.path.suffix == ".ready"


def found(spool: Path) -> list[Segment]:
    """All segments, each writer's in the order of writing."""
    paths = (Path(file.path) for folder in _folders(spool) for file in _entries(folder))
    return sorted(Segment(path.stem, path) for path in paths if path.suffix in (".open", ".ready"))


def take(segment: Segment, offset: int, *, frames: int, size: int) -> list[Frame]:
    """The next whole frames, no more than `frames` and, but for the first, no more than `size` bytes."""
    taken: list[Frame] = []
    for frame in _frames(segment, offset):
        taken.append(frame)
        if len(taken) >= frames or frame.end_offset - offset >= size:
            break
    return taken


def again(segment: Segment, start: int, end: int) -> list[Frame]:
    """The frames of a cut that was made before."""
    taken: list[Frame] = []
    for frame in _frames(segment, start):
        if frame.end_offset > end:
            break
        taken.append(frame)
    return taken


def length(segment: Segment) -> int:
    """Its bytes now; 0 when it is gone."""
    try:
        return _present(segment).stat().st_size
    except FileNotFoundError:
        return 0


def put_aside(segment: Segment, offset: int, quarantine: Path) -> int:
    """Copy the damaged bytes at `offset` of a sealed segment away, and say where reading goes on."""
    end = _end_of_damage(segment.path, offset)
    with segment.path.open("rb") as file:
        file.seek(offset)
        keep(quarantine, f"{segment.name}-{offset}", file.read(end - offset), "a record fails its checksum")
    return end


def keep(quarantine: Path, name: str, content: bytes, reason: str) -> None:
    """Put bytes aside under a name of their own; to do it twice is to do it once."""
    quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(quarantine / f"{name}.frame", content)
    log.error("ALERT quarantined %s.frame (%d bytes): %s", name, len(content), reason)


def adopt_orphans(spool: Path) -> None:
    """Seal what dead writers left open: their torn tails are cut, living writers are left alone."""
    for folder in _folders(spool):
        for file in _entries(folder):
            if file.name.endswith((".open", ".new")):
                _adopt(Path(file.path))


def _adopt(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sound, size = sound_length(path), os.fstat(descriptor).st_size
        if path.suffix == ".open" and sound < size and _claimed_end(path, sound) <= size:
            path.rename(path.with_suffix(".ready"))  # damaged in the middle: nothing is cut, `put_aside` sees to it
            return
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(descriptor)
    if sealed := adopt(path):
        log.warning("adopted %s of a writer that died; %d bytes of a torn record cut", sealed.name, size - sound)


def _end_of_damage(path: Path, offset: int) -> int:
    """Behind the damaged frame when what follows can be read, else the end of the file."""
    size, end = path.stat().st_size, _claimed_end(path, offset)
    if end == size or (end < size and next(read_frames(path, end), None) is not None):
        return end
    return size


def _claimed_end(path: Path, offset: int) -> int:
    """Where the frame at `offset` says that it ends; beyond everything when it makes no sense."""
    with path.open("rb") as file:
        file.seek(offset)
        header = file.read(HEADER.size)
    claimed = HEADER.unpack(header)[0] if len(header) == HEADER.size else MAX_FRAME_BYTES + 1
    return offset + HEADER.size + claimed if claimed <= MAX_FRAME_BYTES else 1 << 62


def _frames(segment: Segment, offset: int) -> Iterator[Frame]:
    try:
        yield from read_frames(_present(segment), offset)
    except FileNotFoundError:
        return


def _present(segment: Segment) -> Path:
    """The path now: it may have been sealed since it was listed."""
    return segment.path if segment.path.exists() else segment.path.with_suffix(".ready")


def _folders(spool: Path) -> list[Path]:
    return [Path(one.path) for one in _entries(spool) if one.is_dir(follow_symlinks=False)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
