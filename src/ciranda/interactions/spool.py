"""The spool: every interaction is on disk before the last byte of its answer leaves.

One writer per process appends framed records to its own segment file, one `writev` each; the collector reads them from the
same file while it grows. A frame is `<IIBxxx` (length and CRC-32 of what follows the header, kind), then `<II` (length of the
metadata, of the request), then metadata (JSON), request and response. A record that `append` returned from survives kill -9 of
this process; it is in the page cache, so a power cut may take the last seconds (`durability: process` in the design).

A segment is `<host>-<second>-<pid>-<number>.open` while its writer lives, `.ready` when it will grow no more. The writer holds
`flock` on it from before the name appears until it is sealed, so an `.open` file that can be locked has lost its writer:
`adopt` cuts the torn tail and seals it. The name carries the second at which the writer began, since a restarted container gets
the same host and pid again, and a name must never be used twice.

It refuses: SQLite (three times the cost, measured), mmap (SIGBUS on a full disk), a frame that is only partly there (a failed
write is cut off again at once, so later records stay readable), and to lose a record quietly: `StorageFull`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import msgspec
from zlib_ng.zlib_ng import crc32  # the same sums as the standard library's, four times as fast

from ciranda.errors import Invalid, StorageFull
from ciranda.store import clock

INTERACTION, STARTED, FEEDBACK, SCORE, EVENT = 1, 2, 3, 4, 5

SEGMENT_BYTES = 8 << 20
IDLE_SECONDS = 5.0
MAX_FRAME_BYTES = 256 << 20
FRAMES_AT_ONCE = 256  # of four buffers each; a system takes 1,024 buffers in one write

_HEADER = struct.Struct("<IIBxxx")
_LENGTHS = struct.Struct("<II")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One record as read back. `end_offset` is where the next one starts: acknowledge by it."""

    kind: int
    meta: bytes
    request: bytes
    response: bytes
    end_offset: int

    def fields(self) -> dict[str, Any]:
        """The metadata as a dict."""
        fields: dict[str, Any] = msgspec.json.decode(self.meta)
        return fields


def pack(kind: int, meta: bytes, request: bytes = b"", response: bytes = b"") -> list[bytes]:
    """The buffers of one frame, in order, without copying the payload."""
    lengths = _LENGTHS.pack(len(meta), len(request))
    size = len(lengths) + len(meta) + len(request) + len(response)
    if size > MAX_FRAME_BYTES:
        raise Invalid(
            f"a record of {size:,} bytes is over the frame bound of {MAX_FRAME_BYTES:,}",
            where="interactions.spool",
            remedy="keep bodies under the gateway's bounds",
        )
    checksum = crc32(response, crc32(request, crc32(meta, crc32(lengths))))
    return [_HEADER.pack(size, checksum, kind) + lengths, meta, request, response]


class SpoolWriter:
    """The append side: one per process and folder, not shared between threads.

    Args:
        folder: Where segments live; made when absent.
        segment_bytes: A segment is sealed when it has grown to this.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.records = 0
        self._prefix = f"{socket.gethostname()}-{clock.now_ms() // 1000:08x}-{os.getpid()}"
        self._descriptor = -1
        self._path = folder
        self._size = 0
        self._used_at = 0.0
        self._trouble: StorageFull | None = None  # why the last write failed
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def append(self, kind: int, meta: dict[str, Any] | bytes, request: bytes = b"", response: bytes = b"") -> None:
        """Write one record. When this returns, kill -9 cannot lose it.

        Raises StorageFull when the disk (or a quota, or a file-size limit) is full; the segment holds no part of the record then.
        """
        if not self.append_all(
            [pack(kind, meta if isinstance(meta, bytes) else msgspec.json.encode(meta), request, response)]
        ):
            assert self._trouble is not None
            raise self._trouble

    def append_all(self, frames: list[list[bytes]]) -> int:
        """Write records that `pack` made, in one go; how many of them are written, the first ones. The rest is not there at all."""
        if self._descriptor < 0:
            try:
                self._open()
            except StorageFull as full:
                self._trouble = full
                return 0
        begun, written = self._size, len(frames)
        try:
            for at in range(0, len(frames), FRAMES_AT_ONCE):
                self._write([part for frame in frames[at : at + FRAMES_AT_ONCE] for part in frame])
        except OSError as error:
            self._trouble = _full(error, self._path)
            written = self._cut(begun, frames)
        self.records += written
        self._used_at = monotonic()
        if self._size >= self.segment_bytes:
            self.seal()
        return written

    def seal(self) -> None:
        """Close the present segment as `.ready`; an empty one goes away. The next `append` opens another."""
        if self._descriptor < 0:
            return
        with suppress(OSError):  # the records are on disk either way; what keeps its name is left to `adopt`
            if self._size:
                self._path.rename(self._path.with_suffix(".ready"))
            else:
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def seal_if_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Seal when nothing came for `seconds`, so that the collector may finish with the segment."""
        if self._descriptor >= 0 and self._size and monotonic() - self._used_at >= seconds:
            self.seal()

    def _write(self, buffers: list[bytes]) -> None:
        expected = sum(map(len, buffers))
        written = os.writev(self._descriptor, buffers)
        if written < expected:  # a full disk shows itself as a short write first; the rest then raises
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._size += expected

    def _cut(self, begun: int, frames: list[list[bytes]]) -> int:
        """Take the half frame at the end away, and say how many whole ones stay: somebody may have read those already.

        Where even that fails, the segment is left to `adopt`, which cuts it in the same way.
        """
        end, whole, there = begun, 0, os.fstat(self._descriptor).st_size
        for size in (sum(map(len, frame)) for frame in frames):
            if end + size > there:
                break
            end, whole = end + size, whole + 1
        try:
            os.ftruncate(self._descriptor, end)
            self._size = end
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1
        return whole

    def _open(self) -> None:
        while self._descriptor < 0:
            new = self.folder / f"{self._prefix}-{next(_numbers):08d}.new"
            try:
                self._descriptor = _create_locked(new)
            except OSError as error:
                raise _full(error, new) from error
        self._path = new.with_suffix(".open")
        self._size = 0


def _create_locked(new: Path) -> int:
    """A descriptor of a fresh segment that is locked and then visible as `.open`; -1 when the name was not ours to take."""
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.link(new, new.with_suffix(".open"))  # unlike rename, link never replaces a file that is there
    except (BlockingIOError, FileExistsError, FileNotFoundError):
        os.close(descriptor)
        new.unlink(missing_ok=True)
        return -1
    except OSError:
        os.close(descriptor)
        new.unlink(missing_ok=True)
        raise
    new.unlink(missing_ok=True)
    return descriptor


def _full(error: OSError, path: Path) -> StorageFull:
    return StorageFull(
        f"the interaction cannot be recorded: {error.strerror or error}",
        where=str(path),
        remedy="free space on this disk (or raise its quota); requests are taken again as soon as a write succeeds",
    )


def read_frames(path: Path, offset: int = 0) -> Iterator[Frame]:
    """The whole records of a segment from `offset` on; ends quietly where a record is torn, damaged or still being written.

    Safe beside a living writer: call again later with the last `end_offset`.
    """
    with path.open("rb") as file:
        file.seek(offset)
        size = os.fstat(file.fileno()).st_size
        while (frame := _read_frame(file, offset, size)) is not None:
            yield frame
            offset = frame.end_offset


def _read_frame(file: BinaryIO, offset: int, size: int) -> Frame | None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, checksum, kind = _HEADER.unpack(header)
    end = offset + _HEADER.size + length
    if length < _LENGTHS.size or length > MAX_FRAME_BYTES or end > size:
        return None
    rest = file.read(length)
    if len(rest) < length or crc32(rest) != checksum:
        return None
    meta_length, request_length = _LENGTHS.unpack_from(rest)
    request_at = _LENGTHS.size + meta_length
    response_at = request_at + request_length
    if response_at > length:
        return None
    return Frame(kind, rest[_LENGTHS.size : request_at], rest[request_at:response_at], rest[response_at:], end)


def sound_length(path: Path) -> int:
    """Up to which byte a segment holds whole records."""
    end = 0
    for frame in read_frames(path):
        end = frame.end_offset
    return end


def adopt(path: Path) -> Path | None:
    """Seal a segment whose writer died: cut its torn tail, rename it to `.ready`. None when a living writer holds it.

    An empty one (also a `.new` that never became visible) is removed and None returned. Safe to call from several processes.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _seal_orphan(descriptor, path)
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)


def _seal_orphan(descriptor: int, path: Path) -> Path | None:
    if not path.exists():  # sealed by another process between our open and our lock
        return None
    length = sound_length(path) if path.suffix == ".open" else 0
    if length == 0:
        path.unlink(missing_ok=True)
        return None
    os.ftruncate(descriptor, length)
    return path.rename(path.with_suffix(".ready"))
