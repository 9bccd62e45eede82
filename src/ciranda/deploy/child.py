"""One child process: what it is, how it begins, whether it is well, how it ends.

A child leads its own process group, gets SIGTERM from the kernel when the supervisor dies (PR_SET_PDEATHSIG),
inherits no sockets, and writes to its own log file, which is copied away and cut when it grows. It is ready when it
says so itself, by a ready file `{"url", "pid"}` with its own pid, and its health address answers; it is hung when
that stops answering several times in a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ciranda import config
from ciranda.jobs import process
from ciranda.jobs.process import Identity
from ciranda.store import files

PR_SET_PDEATHSIG = 1
LOG_BYTES = 10_000_000
HEAD_BYTES = 4096
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ChildSpec:
    """A process that shall run for as long as the supervisor does.

    Args:
        name: Names its log, its pid file and its place in `status`; unique.
        argv: The command.
        env: Added to the environment.
        ready_file: Where it writes `{"url", "pid"}` when it is ready; None: ready as soon as it runs.
        health: Path below that URL which answers 2xx while it is well; empty: not asked.
        listens: `(host, port)` that it will listen on, to refuse a port in use before anything starts; port 0 is not
        asked.
        stop: Place in the order of stopping, lowest first; all of one number stop together.
        start_s: How long it may take to become ready.
        grace_s: How long it may take to leave after SIGTERM.
        interval_s: Time between two looks at its health, `timeout_s` for one, `failures` in a row make it hung.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_file: Path | None = None
    health: str = ""
    listens: tuple[str, int] | None = None
    stop: int = 50
    start_s: float = 60.0
    grace_s: float = 20.0
    interval_s: float = 1.0
    timeout_s: float = 3.0
    failures: int = 3


@dataclass(frozen=True)
class Ready:
    """What a child says of itself in its ready file."""

    url: str
    pid: int


def spawn(spec: ChildSpec, *, log: Path, pid_file: Path) -> subprocess.Popen[bytes]:
    """Start the child. To be called from the main thread: the kernel watches the thread that forked.

    Raises:
        OSError: The command does not exist, or the system has no room for a process.
    """
    if spec.ready_file is not None:
        spec.ready_file.unlink(missing_ok=True)
    environment = {**config.environment(), **spec.env}
    with log.open("ab") as output:
        child = subprocess.Popen(
            spec.argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )  # fmt: skip
    with contextlib.suppress(process.Unidentified, OSError):  # a full disk must not lose us the child
        identity = process.identify(child.pid)
        files.write_atomic(pid_file, json.dumps({"name": spec.name, **identity.__dict__}))
    return child


def _die_with(parent: int) -> Callable[[], None]:
    """To run in the child before it becomes the command: ask for SIGTERM at the parent's death; leave if that was just now."""

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def ready(spec: ChildSpec, pid: int) -> Ready | None:
    """What the child of this pid says of itself; None before it has said anything, or when the file is another's."""
    if spec.ready_file is None:
        return Ready("", pid)
    try:
        said = json.loads(spec.ready_file.read_text())
        found = Ready(str(said["url"]), int(said["pid"]))
        if urlsplit(found.url).port is None:
            return None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if found.pid == pid or _leads(pid, found.pid) else None


def _leads(leader: int, pid: int) -> bool:
    try:
        return os.getpgid(pid) == leader
    except ProcessLookupError:
        return False


async def healthy(url: str, path: str, *, timeout_s: float) -> bool:
    """Whether `GET url/path` answers 2xx in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _status(url, path) // 100 == 2
    except (OSError, TimeoutError, ValueError):
        return False


async def _status(url: str, path: str) -> int:
    """The status of one GET, spoken plainly: no client library is worth its start-up time here."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        line = await reader.readline()
        return int(line.split()[1]) if line.startswith(b"HTTP/1") else 0
    except IndexError as error:
        raise ValueError(f"{url}{path} answers no HTTP") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal everything that the child started; nothing when it was waited for already."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def end_leftovers(folder: Path, *, grace_s: float) -> Sequence[str]:
    """End what a supervisor before us left running (one that hung through its SIGTERM); their names."""
    ended = []
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(ValueError, KeyError, FileNotFoundError):
            said = json.loads(file.read_text())
            identity = Identity(said["pid"], said["ticks"], said["boot"])
            if process.alive(identity):
                process.end(identity, grace_s=grace_s)
                ended.append(str(said["name"]))
        file.unlink(missing_ok=True)
    return ended


def rotate(log: Path, *, limit: int = LOG_BYTES) -> None:
    """Copy a log that grew too large to `<name>.1` and cut it. The child goes on appending to the same file."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            beside = log.with_name(f".{log.name}.1")
            shutil.copyfile(log, beside)
            os.replace(beside, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
