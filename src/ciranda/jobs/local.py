"""Heavy work on this machine: one detached process group per job, which outlives the control process that started it.

    home/jobs/<key>/   job.json  lock  log.txt  exit  cancelled      by us
                       progress.jsonl  output/                        by the job itself

Everything is a file, so that any process can ask at any time and kill -9 at any line leaves a state that reads as one
of five: `unknown` (never submitted), `running`, `succeeded`, `failed`, `lost`. How that is kept:

- One job per key. `submit` holds a lock for the moment of starting; the child waits on a pipe until `job.json` names
  it, and leaves when its starter dies first. So no job ever runs that nobody can find.
- A small shell waits for the work and writes its exit code with a rename. A job that is gone without one is `lost`;
  so is one that a signal ended which we did not send (the machine's out-of-memory killer, an operator). Submitting a
  lost job again first ends its strays, then runs it in the same folder, where it continues from its checkpoint. The
  third loss is a failure.
- A finished job stays finished: submitting it again does nothing. Work that shall be done anew has a new key.

Jobs run at nice 10 with passive OpenMP waiting, since a trainer that spins costs the door that users come through its
processor.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from ciranda.errors import Failed, Invalid, StorageFull
from ciranda.jobs import process
from ciranda.jobs.process import Identity
from ciranda.store import clock, files

State = Literal["running", "succeeded", "failed", "lost", "unknown"]

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=-]{0,199}")
ATTEMPTS = 3
LOG_CHUNK = 1 << 20
TAIL_BYTES = 2000
NICE = 10
SETTLE_S = 5.0
OUTSIDE = {128 + number for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)}
# Waits for the word to go (end of file: the starter died, so leave), says that it had it, runs the work, and writes its exit code
# whole or not at all.
WRAPPER = """
read -r go || exit 0
here=$1; shift
: >"$here/.gone"
"$@" </dev/null
code=$?
printf '%s' "$code" >"$here/.exit" && mv -f "$here/.exit" "$here/exit"
"""


@dataclass(frozen=True)
class Input:
    """A file or folder that a job reads.

    Args:
        digest: Names content that many jobs share (a base); what has none goes with the job, and is removed with it.
    """

    path: Path
    digest: str = ""


@dataclass(frozen=True)
class Resources:
    """What a job takes where it has to be reserved."""

    cpus: float = 1.0
    memory_gb: float = 0.0
    gpus: int = 0


@dataclass(frozen=True)
class JobSpec:
    """What to run.

    Args:
        argv: The command; no shell reads it.
        folder: The working folder. The job writes `progress.jsonl`, checkpoints and output there.
        env: Added to the environment. No secrets: other processes of the same user can read it.
        timeout_s: A running job older than this is ended by whoever asks for its status; None lets it run.
        inputs: What it reads outside of its folder, by the path that `spec.json` names; elsewhere it is brought there.
        resources: What it takes; on this machine it takes what there is.
        executor: Where it runs, by name; what has begun stays where it is.
    """

    argv: tuple[str, ...]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    inputs: tuple[Input, ...] = ()
    resources: Resources = field(default_factory=lambda: Resources())
    executor: str = "local"


@dataclass(frozen=True)
class JobState:
    """What is known of a job now.

    Args:
        state: `running`, `succeeded`, `failed`, `lost` (gone without a result; submit it again) or `unknown` (never
            submitted).
        exit_code: The command's, where there is one.
        started_at: When the newest attempt began; empty when unknown.
        attempt: 1 for the first.
        reason: A sentence for people when the state is `failed` or `lost`.
    """

    state: State
    exit_code: int | None = None
    started_at: str = ""
    attempt: int = 0
    reason: str = ""


class Executor(Protocol):
    """Where heavy work runs. Every call is idempotent by key."""

    def submit(self, key: str, spec: JobSpec) -> None: ...

    def status(self, key: str) -> JobState: ...

    def logs(self, key: str, offset: int = 0) -> tuple[bytes, int]: ...

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]: ...

    def cancel(self, key: str, *, grace_s: float = 10.0) -> None: ...

    def collect(self, key: str) -> Path: ...


@dataclass(frozen=True)
class _Ticket:
    """The content of job.json: which process does the newest attempt."""

    process: Identity
    started_at: str
    attempt: int
    folder: str
    timeout_s: float | None
    argv: list[str]


class Local:
    """The executor of one machine.

    Args:
        root: `home/jobs`; each job has a folder named by its key there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def submit(self, key: str, spec: JobSpec) -> None:
        """Start the job unless it runs or ended already; run it again when it was lost. Safe from many processes at
        once.

        Raises:
            Invalid: The key cannot be a folder's name.
            StorageFull: The disk has no room for the job's own files.
            Failed: The system refused otherwise, for instance for want of a right to the folder.
        """
        here = self._folder(key)
        try:
            here.mkdir(parents=True, exist_ok=True)
            spec.folder.mkdir(parents=True, exist_ok=True)
            with _locked(here / "lock"):
                state = self._settled(key, here)
                if state.state in ("unknown", "lost"):
                    _end_strays(here)
                    (here / "exit").unlink(missing_ok=True)
                    _start(here, spec, attempt=state.attempt + 1)
        except OSError as error:
            raise _refusal(key, here, error) from error

    def _settled(self, key: str, here: Path) -> JobState:
        """The state under the lock, when a wrapper has begun or left: one whose starter died in between seems to live."""
        deadline = time.monotonic() + SETTLE_S
        while (state := self.status(key)).state == "running" and not (here / ".gone").exists():
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        return state

    def status(self, key: str) -> JobState:
        """What is known of the job now. Ends it when it is past its time."""
        here = self._folder(key)
        ticket = _ticket(here)
        if ticket is None:
            return JobState("unknown")
        running = process.alive(ticket.process)
        code = _exit_code(here)  # read after the look at the process: it may have ended in between
        if code is None and running:
            if _overdue(ticket):
                self._stop(here, ticket, f"it ran longer than {ticket.timeout_s:g} s", grace_s=5.0)
                return self.status(key)
            return JobState("running", None, ticket.started_at, ticket.attempt)
        return _ended(here, ticket, code)

    def logs(self, key: str, offset: int = 0) -> tuple[bytes, int]:
        """A piece of the job's output from `offset`, and the offset to go on with."""
        return piece_of(self._folder(key) / "log.txt", offset)

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of progress.jsonl from `offset`, and the offset to go on with; a torn or broken line is
        passed over.
        """
        ticket = _ticket(self._folder(key))
        if ticket is None:
            return [], offset
        return entries(Path(ticket.folder) / "progress.jsonl", offset)

    def cancel(self, key: str, *, grace_s: float = 10.0) -> None:
        """End the job: SIGTERM to its group, `grace_s` seconds, SIGKILL. Nothing happens to one that ended or never
        was.
        """
        here = self._folder(key)
        ticket = _ticket(here)
        if ticket is not None and _exit_code(here) is None:
            self._stop(here, ticket, "it was cancelled", grace_s=grace_s)

    def collect(self, key: str) -> Path:
        """The folder of a job that succeeded.

        Raises:
            Failed: It did not; the message ends with the last lines of its log.
        """
        here = self._folder(key)
        ticket, state = _ticket(here), self.status(key)
        if ticket is not None and state.state == "succeeded":
            return Path(ticket.folder)
        size = (here / "log.txt").stat().st_size if (here / "log.txt").exists() else 0
        tail, _ = piece_of(here / "log.txt", max(0, size - TAIL_BYTES))
        raise Failed(
            f"job {key} is {state.state}: {state.reason or 'no result yet'}\n{tail.decode(errors='replace')}".rstrip(),
            where=str(here / "log.txt"),
            remedy="read the log; a new turn submits it under a new key",
        )

    def keys(self) -> list[str]:
        """The keys of all jobs that were ever started here."""
        return sorted(path.parent.name for path in self.root.glob("*/job.json"))

    def _folder(self, key: str) -> Path:
        return folder_of(self.root, key)

    def _stop(self, here: Path, ticket: _Ticket, reason: str, *, grace_s: float) -> None:
        files.write_atomic(here / "cancelled", json.dumps({"at": clock.iso(), "reason": reason}))
        process.end(ticket.process, grace_s=grace_s)
        _end_strays(here)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An exclusive lock that a dead holder gives back by itself."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refusal(key: str, here: Path, error: OSError) -> StorageFull | Failed:
    message, where = f"job {key} could not be started: {error.strerror or error}", str(here)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(message, where=where, remedy="free some disk, then start it again")
    return Failed(message, where=where, remedy="see to the folder's owner and rights, then start it again")


def _start(here: Path, spec: JobSpec, *, attempt: int) -> None:
    """Spawn the wrapper, name it in job.json, then let it go."""
    settings = {"OMP_WAIT_POLICY": "passive", **spec.env, "CIRANDA_JOB": str(here)}
    command = ["nice", "-n", str(NICE), "env", *(f"{name}={value}" for name, value in settings.items()), *spec.argv]
    (here / ".gone").unlink(missing_ok=True)
    with (here / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", WRAPPER, "ciranda-job", str(here), *command],
            cwd=spec.folder, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        ticket = _Ticket(
            process.identify(child.pid), clock.iso(), attempt, str(spec.folder), spec.timeout_s, list(spec.argv)
        )
        files.write_atomic(here / "job.json", json.dumps(asdict(ticket), indent=1))
        _say_go(child.stdin)
    finally:
        # A thread that waits for it, or an ended job would stay a zombie for as long as we live.
        threading.Thread(target=child.wait, daemon=True, name=f"reap-{child.pid}").start()


def _say_go(pipe: IO[bytes] | None) -> None:
    assert pipe is not None
    try:
        pipe.write(b"go\n")
        pipe.close()
    except BrokenPipeError:
        pass  # killed before it could begin: its state will read as lost


def _end_strays(here: Path) -> None:
    """Kill what an earlier attempt left behind when its wrapper was killed alone; the environment tells whose it is."""
    for identity in process.marked(f"CIRANDA_JOB={here}"):
        process.kill(identity)


def _ticket(here: Path) -> _Ticket | None:
    try:
        content = json.loads((here / "job.json").read_text())
    except FileNotFoundError:
        return None
    return _Ticket(**(content | {"process": Identity(**content["process"])}))


def _exit_code(here: Path) -> int | None:
    try:
        return int((here / "exit").read_text())
    except FileNotFoundError:
        return None


def _overdue(ticket: _Ticket) -> bool:
    age = (clock.now() - clock.parse(ticket.started_at)).total_seconds()
    return ticket.timeout_s is not None and age > ticket.timeout_s


def _ended(here: Path, ticket: _Ticket, code: int | None) -> JobState:
    """Read the state of a job whose process is gone."""
    if code == 0:
        return JobState("succeeded", 0, ticket.started_at, ticket.attempt)
    if (here / "cancelled").exists():
        reason = json.loads((here / "cancelled").read_text())["reason"]
        return JobState("failed", code, ticket.started_at, ticket.attempt, reason)
    if code is None or code in OUTSIDE:
        return _lost(ticket, code)
    reason = f"no such command: {ticket.argv[0]}" if code in (126, 127) else f"it ended with exit code {code}"
    return JobState("failed", code, ticket.started_at, ticket.attempt, reason)


def _lost(ticket: _Ticket, code: int | None) -> JobState:
    how = "vanished without a result" if code is None else f"was killed from outside (signal {code - 128})"
    if ticket.attempt < ATTEMPTS:
        return JobState("lost", code, ticket.started_at, ticket.attempt, f"it {how}")
    reason = f"it {how} {ticket.attempt} times; perhaps memory or disk ran out"
    return JobState("failed", code, ticket.started_at, ticket.attempt, reason)


def folder_of(root: Path, key: str) -> Path:
    """A job's folder. Raises Invalid when the key cannot be one's name."""
    if not KEY.fullmatch(key):
        raise Invalid(f"{key!r} is no key of a job", where=str(root), remedy="use up to 200 of A-Z a-z 0-9 . _ : @ = -")
    return root / key


def piece_of(path: Path, offset: int) -> tuple[bytes, int]:
    """At most LOG_CHUNK bytes of a file from `offset`, and the offset after them; nothing when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            piece = file.read(LOG_CHUNK)
    except FileNotFoundError:
        return b"", offset
    return piece, offset + len(piece)


def entries(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file of JSON from `offset`; a torn or broken one is passed over."""
    piece, _ = piece_of(path, offset)
    whole = piece[: piece.rfind(b"\n") + 1]
    return [entry for line in whole.splitlines() if (entry := _entry(line))], offset + len(whole)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
