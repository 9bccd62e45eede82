"""Files: a glob that is read whole each time, and a folder that is watched and read file by file.

A watched file is read once it is quiet: unchanged for a while by both of its times, not named like a file under way, and, where
lines are rows, ended by a line that is whole. A file that changed while it was read is left for the next look. What was read is
remembered by size, times and inode; a file that changed gives its rows anew, one that went leaves them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ciranda.config.source import Source
from ciranda.data import files
from ciranda.data.sources.found import BEGINNING, Desk, Item
from ciranda.store import clock

UNDER_WAY = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")
PATIENCE_S = 60.0  # a last line without its end is waited for so long, then read as it is
LINES = (".jsonl", ".ndjson", ".csv")


def whole(source: Source, desk: Desk) -> Iterator[Item]:
    """Every record of every file that the glob matches, in the order of names."""
    root = desk.inputs.root
    for path in files.matching(source.files or "", root):
        yield from _read(path, root, desk)


def watched(source: Source, desk: Desk) -> Iterator[Item]:
    """The records of files that are new, changed, or asked for again."""
    root, found = desk.inputs.root, {}
    for path in present(source, root):
        found[files.shown(path, root)] = path
    for name, path in found.items():
        mark = mark_of(path)
        if mark is None or not _wanted(name, path, mark, desk):
            continue
        if not _quiet(path, source.quiet):
            desk.place.waiting += 1
            continue
        items = list(_read(path, root, desk))
        if mark_of(path) != mark:
            desk.place.waiting += 1
            continue
        desk.place.marks[name] = mark
        yield from items


def news(source: Source, root: Path, known: Mapping[str, str]) -> bool:
    """Whether a quiet file is there that was not read as it is now; a look at names and times."""
    start = f"{root}{os.sep}"
    for text in files.texts_of(source.folder or "", root):
        name = text[len(start) :] if text.startswith(start) else text
        try:
            told = os.stat(text)
        except OSError:
            continue
        other = known.get(name) != _mark(told) and stat.S_ISREG(told.st_mode)
        if other and _finished(os.path.basename(text)) and _quiet(Path(text), source.quiet):
            return True
    return False


def present(source: Source, root: Path) -> list[Path]:
    """The files of a watched folder that somebody may have finished; none at all is fine."""
    found = files.glob_of(source.folder or "", root)
    return [path for path in found if _finished(path.name)]


def _finished(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(UNDER_WAY)


def mark_of(path: Path) -> str | None:
    """What tells that a file is the one that was read; None when it went meanwhile."""
    try:
        told = path.stat()
    except OSError:
        return None
    return _mark(told)


def _mark(told: os.stat_result) -> str:
    return f"{told.st_size}:{told.st_mtime_ns}:{told.st_ino}"


def _wanted(name: str, path: Path, mark: str, desk: Desk) -> bool:
    if desk.again or desk.marks.get(name) != mark:
        return True
    since = desk.window.since
    return bool(since) and since != BEGINNING and path.stat().st_mtime >= clock.parse(since).timestamp()


def _quiet(path: Path, quiet_s: float) -> bool:
    try:
        told = path.stat()
        now = clock.now().timestamp()
        idle = now - max(told.st_mtime, told.st_ctime)
        if 0 <= idle < quiet_s:
            return False
        return idle >= PATIENCE_S or path.suffix.lower() not in LINES or _ended(path, told.st_size)
    except OSError:
        return False


def _ended(path: Path, size: int) -> bool:
    """Whether the last line is whole: it has its end, or reads as a row without one."""
    if not size:
        return False
    with path.open("rb") as file:
        file.seek(max(0, size - files.LONGEST_ROW))
        tail = file.read()
    if tail.endswith(b"\n"):
        return True
    if path.suffix.lower() == ".csv":
        return False
    try:
        json.loads(tail.rpartition(b"\n")[2])
    except ValueError:
        return False
    return True


def _read(path: Path, root: Path, desk: Desk) -> Iterator[Item]:
    name = files.shown(path, root)
    mark = mark_of(path) or "0"
    desk.tally.add(size=int(mark.partition(":")[0]))
    for origin, record in files.records(path, name):
        yield Item(origin, record)
