"""Heavy work on machines of others: one executor for every kind of cluster, over a depot that both sides reach.

A cluster is told apart by four calls (`Cluster`: start, look, log, stop); what it shares with all the others is here. A job's
folder at home looks as if the job ran here: `spec.json`, `log.txt`, `progress.jsonl`, `error.json` and `output/` are there for
whoever reads them, brought from the depot as they come. `away.json` beside them says where it is:

- Its name there follows from this installation, the key and the attempt, and is written down before the cluster hears of it: a
  submission that was cut off is made again under the same name, and a cluster that has it already says so. So it runs once.
- A job that its cluster ended, or does not know any more, without an `end` in the depot is `lost`; submitted again it is another
  attempt that goes on from what was saved. The third loss is a failure.
- A cluster that does not answer is no news: the job counts as running for SILENCE_S, then `Unavailable` is raised.
- What an ended job had in the depot is removed once its output, checked against its digests, is here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from ciranda.errors import CirandaError, Failed, StorageFull, Unavailable
from ciranda.jobs import orders
from ciranda.jobs.local import ATTEMPTS, TAIL_BYTES, JobSpec, JobState, entries, folder_of, piece_of
from ciranda.jobs.orders import Order
from ciranda.store import clock, files
from ciranda.store.depot import Depot, safe

LOOK_S = 1.0  # between two questions to a cluster about one job
SILENCE_S = 600.0
CANCELLED = "it was cancelled"
TICKET = "away.json"


@dataclass(frozen=True)
class Seen:
    """What a cluster says of a job: `absent` when it never had it, or has forgotten."""

    state: Literal["running", "ended", "absent"]
    reason: str = ""


class Cluster(Protocol):
    """Where jobs can be sent. Each call is idempotent by name; each raises Unavailable when the cluster does not answer."""

    @property
    def kind(self) -> str: ...

    def start(self, order: Order) -> None: ...

    def look(self, name: str) -> Seen: ...

    def log(self, name: str) -> bytes: ...

    def stop(self, name: str, *, grace_s: float) -> None: ...

    def check(self) -> str: ...


@dataclass(frozen=True)
class Away:
    """The content of away.json: where the newest attempt is, and how it ended."""

    executor: str
    name: str
    place: str
    attempt: int
    started_at: str
    folder: str
    timeout_s: float | None
    begun: bool = False
    stopping: str = ""
    silent_since: str = ""
    state: Literal["", "succeeded", "failed", "lost"] = ""
    code: int | None = None
    reason: str = ""
    here: bool = False
    cleared: bool = False

    @property
    def told(self) -> JobState:
        return JobState(self.state or "running", self.code, self.started_at, self.attempt, self.reason)


class Remote:
    """An executor over a cluster.

    Args:
        root: `home/jobs`; each job has its folder there, as if it ran here.
        cluster: Who runs it.
        depot: Where both sides meet.
        mark: Names this installation, so that two of them share a depot and a cluster.
    """

    def __init__(self, root: Path, cluster: Cluster, depot: Depot, mark: str) -> None:
        self.root, self.cluster, self.depot, self.mark = root, cluster, depot, mark
        self._asked: dict[tuple[str, str], float] = {}

    # --- the protocol -------------------------------------------------------------------------------------------------

    def submit(self, key: str, spec: JobSpec) -> None:
        """Send the job there, unless it is there or has ended; send it again when it was lost.

        Raises:
            Unavailable: Depot or cluster do not answer; what was begun is gone on with at the next call.
        """
        here = folder_of(self.root, key)
        _made(here, spec.folder)
        with _locked(here / "lock"):
            ticket = self._ticket(key)
            if ticket is not None and ticket.begun and self._status(key, fresh=True).state != "lost":
                return
            ticket = self._ticket(key)
            attempt = (ticket.attempt + ticket.begun) if ticket else 1
            ticket = self._write(key, self._new(key, spec, attempt))
            order = orders.sent(self.depot, spec, name=ticket.name, key=key, place=ticket.place, attempt=attempt)
            self.cluster.start(order)
            self._write(key, replace(ticket, begun=True))

    def status(self, key: str) -> JobState:
        """What is known of the job now; asks its cluster at most once in LOOK_S."""
        if self._ticket(key) is None:
            return JobState("unknown")
        with _locked(folder_of(self.root, key) / "lock"):
            return self._status(key)

    def logs(self, key: str, offset: int = 0) -> tuple[bytes, int]:
        """A piece of the job's output from `offset`, and the offset to go on with."""
        ticket = self._ticket(key)
        if ticket is not None and ticket.begun and not ticket.state and self._due(key, "log"):
            self._log(key, ticket)
        return piece_of(folder_of(self.root, key) / "log.txt", offset)

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of progress.jsonl from `offset`, and the offset to go on with."""
        ticket = self._ticket(key)
        if ticket is None:
            return [], offset
        if not ticket.state and self._due(key, "progress"):
            self._quietly(lambda: self._progress(ticket))
        return entries(Path(ticket.folder) / "progress.jsonl", offset)

    def cancel(self, key: str, *, grace_s: float = 10.0) -> None:
        """End the job where it is; its checkpoint comes home. Nothing happens to one that ended or never was."""
        with _locked(folder_of(self.root, key) / "lock"):
            ticket = self._ticket(key)
            if ticket is not None and not ticket.state:
                self._stop(key, ticket, CANCELLED, grace_s=grace_s)

    def collect(self, key: str) -> Path:
        """The folder of a job that succeeded, with its output, checked.

        Raises:
            Failed: It did not succeed; the message ends with the last lines of its log.
        """
        state, here = self.status(key), folder_of(self.root, key)
        with _locked(here / "lock"):
            ticket = self._ticket(key)
            if ticket is not None and state.state == "succeeded":
                self._bring(key, ticket)
                return Path(ticket.folder)
        log = here / "log.txt"
        tail, _ = piece_of(log, max(0, log.stat().st_size - TAIL_BYTES) if log.exists() else 0)
        raise Failed(
            f"job {key} is {state.state}: {state.reason or 'no result yet'}\n{tail.decode(errors='replace')}".rstrip(),
            where=str(log),
            remedy="read the log; a new turn submits it under a new key",
        )

    def forget(self, key: str) -> None:
        """Remove what the job has in the depot, such as the rows that it read; end it first when it runs. Raises Unavailable."""
        self.cancel(key)
        if (ticket := self._ticket(key)) is not None and not ticket.cleared:
            self._clear(ticket)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _new(self, key: str, spec: JobSpec, attempt: int) -> Away:
        mark = hashlib.sha256(f"{self.mark}/{key}".encode()).hexdigest()[:24]
        return Away(
            self.cluster.kind, f"ciranda-{mark}-{attempt}", f"{self.mark}/{key}", attempt, clock.iso(), str(spec.folder),
            spec.timeout_s,
        )  # fmt: skip

    # --- looking ------------------------------------------------------------------------------------------------------

    def _status(self, key: str, *, fresh: bool = False) -> JobState:
        ticket = self._ticket(key)
        if ticket is None:
            return JobState("unknown")
        if ticket.state:
            return ticket.told
        if not ticket.begun:
            return replace(ticket.told, state="lost", reason="its submission was cut off")
        if ticket.stopping:
            self._stop(key, ticket, ticket.stopping, grace_s=0)
        elif _overdue(ticket):
            self._stop(key, ticket, f"it ran longer than {ticket.timeout_s:g} s", grace_s=5.0)
        elif fresh or self._due(key, "look"):
            self._look(key, ticket)
        return (self._ticket(key) or ticket).told

    def _look(self, key: str, ticket: Away) -> None:
        try:
            seen = self.cluster.look(ticket.name)
            self._progress(ticket)
            ended = self.depot.get(f"{ticket.place}/end-{ticket.attempt}.json") if seen.state != "running" else None
        except Unavailable as error:
            self._silent(key, ticket, error)
            return
        if seen.state == "running":
            if ticket.silent_since or ticket.reason != seen.reason:
                self._write(key, replace(ticket, silent_since="", reason=seen.reason))
            return
        self._log(key, ticket)
        if ended is not None:
            self._over(key, ticket, json.loads(ended))
        elif ticket.attempt < ATTEMPTS:
            self._write(key, replace(ticket, state="lost", reason=_vanished(seen)))
        else:
            reason = f"{_vanished(seen)}, {ticket.attempt} times; perhaps memory ran out, or it cannot start there"
            self._close(key, replace(ticket, state="failed", reason=f"{reason}{self._last(key)}"))

    def _over(self, key: str, ticket: Away, told: dict[str, Any]) -> None:
        """A job that said how it ended."""
        code = int(told["code"])
        if told.get("error"):
            files.write_atomic(Path(ticket.folder) / "error.json", json.dumps(told["error"], indent=1))
        if code == 0:
            self._write(key, replace(ticket, state="succeeded", code=0, reason=""))
        else:
            reason = f"it ended with exit code {code} on {told.get('host', 'its machine')}"
            self._close(key, replace(ticket, state="failed", code=code, reason=reason))

    def _silent(self, key: str, ticket: Away, error: Unavailable) -> None:
        """The cluster or the depot does not answer; the job may be well."""
        since = ticket.silent_since or clock.iso()
        if (clock.now() - clock.parse(since)).total_seconds() > SILENCE_S:
            raise error
        self._write(key, replace(ticket, silent_since=since, reason=f"no answer since {since}: {error.message}"))

    def _progress(self, ticket: Away) -> None:
        """Bring the lines that are new. What is here is a beginning of what is there, also after a kill in the middle."""
        path = Path(ticket.folder) / "progress.jsonl"
        at = path.stat().st_size if path.exists() else 0
        if at and path.read_bytes()[-1:] != b"\n":
            at = _trimmed(path)
        while (piece := self.depot.get(f"{ticket.place}/progress/{at:012d}")) is not None:
            with path.open("ab") as file:
                file.write(piece)
            at += len(piece)

    def _log(self, key: str, ticket: Away) -> None:
        """What the cluster has of its output, whole, in place of what was here."""

        def bring() -> None:
            text, path = self.cluster.log(ticket.name), folder_of(self.root, key) / "log.txt"
            if text and (not path.exists() or path.stat().st_size != len(text)):
                files.write_atomic(path, text)

        self._quietly(bring)

    def _last(self, key: str) -> str:
        path = folder_of(self.root, key) / "log.txt"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return f"; its log ends: {lines[-1][:300]}" if lines else ""

    # --- ending -------------------------------------------------------------------------------------------------------

    def _stop(self, key: str, ticket: Away, reason: str, *, grace_s: float) -> None:
        """Say first that it shall end, then end it, bring home what it saved, and clear the depot."""
        ticket = self._write(key, replace(ticket, stopping=reason))
        self.cluster.stop(ticket.name, grace_s=grace_s)
        deadline = time.monotonic() + grace_s + 5
        while self.cluster.look(ticket.name).state == "running" and time.monotonic() < deadline:
            time.sleep(0.2)
        self._log(key, ticket)
        self._progress(ticket)
        self._saved(ticket)
        self._close(key, replace(ticket, state="failed", reason=reason))

    def _saved(self, ticket: Away) -> None:
        """Checkpoints, for a run that goes on after this one."""
        prefix = f"{ticket.place}/state/"
        for name in self.depot.names(prefix):
            to = Path(ticket.folder) / safe(name.removeprefix(prefix))
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.depot.fetch(name, to)

    def _bring(self, key: str, ticket: Away) -> None:
        """The output, each file against its digest, in one step; then the depot is cleared."""
        if ticket.here:
            return
        told = json.loads(self.depot.get(f"{ticket.place}/end-{ticket.attempt}.json") or b"{}")
        folder = Path(ticket.folder)
        beside, output = folder / f".output.{ticket.attempt}", folder / "output"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        orders.fetched(self.depot, f"{ticket.place}/out-{ticket.attempt}", told.get("files", {}), beside)
        shutil.rmtree(output, ignore_errors=True)
        beside.replace(output)
        files.sync_folder(folder)
        self._progress(ticket)
        self._close(key, replace(ticket, here=True))

    def _close(self, key: str, ticket: Away) -> None:
        """Write how it ended, and clear the depot; what cannot be cleared now is when the key is forgotten."""
        self._write(key, ticket)

        def clear() -> None:
            self._clear(ticket)
            self._write(key, replace(ticket, cleared=True))

        self._quietly(clear)

    def _clear(self, ticket: Away) -> None:
        """Remove what the job has in the depot, and what its cluster noted there of each attempt."""
        self.depot.remove(f"{ticket.place}/")
        for attempt in range(1, ticket.attempt + 1):
            self.depot.remove(f"{self.cluster.kind}/{ticket.name.rpartition('-')[0]}-{attempt}/")

    # --- its own files ------------------------------------------------------------------------------------------------

    def _ticket(self, key: str) -> Away | None:
        return read(folder_of(self.root, key))

    def _write(self, key: str, ticket: Away) -> Away:
        files.write_atomic(folder_of(self.root, key) / TICKET, json.dumps(asdict(ticket), indent=1))
        return ticket

    def _due(self, key: str, what: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get((key, what), -LOOK_S) < LOOK_S:
            return False
        self._asked[key, what] = now
        return True

    @staticmethod
    def _quietly(action: Callable[[], None]) -> None:
        """What is nice to have now and comes again later."""
        try:
            action()
        except CirandaError:
            return


def read(here: Path) -> Away | None:
    """Where a job is, when it is not here."""
    try:
        return Away(**json.loads((here / TICKET).read_text()))
    except FileNotFoundError:
        return None


def _made(*folders: Path) -> None:
    try:
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else Failed
        raise kind(
            f"the job's folder could not be made: {error}", where=str(folders[0]), remedy="see to disk and rights"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An exclusive lock that a dead holder gives back by itself."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _trimmed(path: Path) -> int:
    """Cut a torn last line, which a kill left; returns the size."""
    whole = path.read_bytes().rfind(b"\n") + 1
    with path.open("r+b") as file:
        file.truncate(whole)
    return whole


def _overdue(ticket: Away) -> bool:
    age = (clock.now() - clock.parse(ticket.started_at)).total_seconds()
    return ticket.timeout_s is not None and age > ticket.timeout_s


def _vanished(seen: Seen) -> str:
    said = f": {seen.reason}" if seen.reason else ""
    return f"its cluster {'does not know it' if seen.state == 'absent' else 'ended it without a result'}{said}"
