"""Who a process is: its number, its start time and the boot it belongs to.

A pid alone proves nothing, since numbers are used again; the three together name one process for ever, so a control
process that comes back may adopt, wait for or end what its predecessor started, and never a stranger. Linux only: it
reads /proc.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ciranda.errors import CirandaError

PROC = Path("/proc")
POLL_S = 0.02


class Unidentified(CirandaError):
    """A process that is gone before it could be named."""


@dataclass(frozen=True)
class Identity:
    """One process, for ever.

    Args:
        pid: Its number.
        ticks: Its start, in clock ticks after boot (field 22 of /proc/<pid>/stat).
        boot: The kernel's id of this boot.
    """

    pid: int
    ticks: int
    boot: str


@cache
def boot() -> str:
    """The kernel's id of this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name, or nothing; the name may itself hold spaces and
    brackets.
    """
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def identify(pid: int) -> Identity:
    """Name a running process (or one that ended and was not yet waited for).

    Raises:
        Unidentified: No process has this number.
    """
    fields = _stat(pid)
    if not fields:
        raise Unidentified(f"no process has the number {pid}", where="/proc", remedy="start it again")
    return Identity(pid, int(fields[19]), boot())


def alive(identity: Identity) -> bool:
    """Whether exactly this process runs; one that ended and waits to be reaped does not."""
    fields = _stat(identity.pid)
    return bool(fields) and fields[0] not in "ZX" and int(fields[19]) == identity.ticks and identity.boot == boot()


def marked(entry: str) -> list[Identity]:
    """Every running process of ours whose environment holds `entry` (`NAME=value`): how strays of a dead wrapper are
    found.
    """
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdigit() and _carries(folder, entry.encode()):
            try:
                found.append(identify(int(folder.name)))
            except Unidentified:
                continue
    return [identity for identity in found if alive(identity)]


def _carries(folder: Path, entry: bytes) -> bool:
    try:
        return entry in (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def members(group: int) -> list[int]:
    """The running processes of a process group."""
    numbers = [int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit()]
    return [pid for pid in numbers if (fields := _stat(pid)) and int(fields[2]) == group and fields[0] not in "ZX"]


def end(identity: Identity, *, grace_s: float) -> None:
    """SIGTERM to the group it leads, `grace_s` seconds to leave, then SIGKILL. Returns when all of the group is gone.

    A number stays taken for as long as a group carries it, so the group cannot turn into a stranger's while it is
    watched.
    """
    if not alive(identity):
        return
    _signal_group(identity.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while members(identity.pid):
        if time.monotonic() >= deadline:
            _signal_group(identity.pid, signal.SIGKILL)
        time.sleep(POLL_S)


def kill(identity: Identity) -> None:
    """SIGKILL to this one process, unless it is gone."""
    if alive(identity):
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
