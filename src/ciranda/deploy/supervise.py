"""The process tree of one machine, kept as the database wants it.

    up (this)   control   collector   gateway-0 …      given once, as `ChildSpec`s
                engine replicas                        as many as the deployments say: observe, diff, act, write status

Level-triggered: each look compares what runs with the desired state, so a missed signal, a crash in the middle or a
deployment changed five times in a second all end in the same place. New processes come first; old ones leave the
routing, get time to finish what they answer, then SIGTERM. On SIGTERM children stop in order: gateways drain first,
engines end last. There is no orphan: the kernel sends SIGTERM to every child when the supervisor dies, and the next
supervisor ends whatever hung through that.

One supervisor per home, held by a lock that dies with it. No thread is started here, since children are forked from
this process.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Protocol

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.deploy import apply, child, routing
from ciranda.deploy.apply import Deployment
from ciranda.deploy.child import ChildSpec
from ciranda.deploy.keeper import Keeper, Seen
from ciranda.errors import Conflict, Invalid
from ciranda.store import clock, files
from ciranda.store.database import Database

log = logging.getLogger(__name__)

LOOK_S = 0.3
ROTATE_S = 5.0
STARTS_AT_ONCE = 4
DRAIN_S = 120.0
ENGINES_STOP = 100
LEFTOVER_GRACE_S = 2.0


class Runtime(Protocol):
    """What can serve a deployment on this machine; an engine satisfies it."""

    def command(self, deployment: Deployment, *, ready_file: Path) -> Sequence[str]:
        """The command of one replica. It listens where it likes and writes `{"url", "pid"}` into `ready_file` when it
        answers.

        Raises CirandaError when the deployment cannot be served; the replica then shows the reason and is tried again.
        """
        ...


@dataclass(frozen=True)
class Running:
    """A replica as the supervisor has it, for `diff`."""

    replica: str
    deployment: str
    generation: int
    ready: bool
    young: bool


@dataclass(frozen=True)
class Actions:
    """What is to be done: replicas to start, one per entry, and those to take away."""

    start: tuple[Deployment, ...]
    drain: tuple[str, ...]


def diff(wanted: Iterable[Deployment], running: Sequence[Running]) -> Actions:
    """Compare. Pure. Old generations leave only when the new one is ready; surplus leaves unready first."""
    start: list[Deployment] = []
    drain: list[str] = []
    room = STARTS_AT_ONCE - sum(one.young for one in running)
    for deployment in wanted:
        mine = [one for one in running if one.deployment == deployment.id]
        current = [one for one in mine if one.generation == deployment.generation]
        current.sort(key=lambda one: (not one.ready, one.replica))
        missing = deployment.replicas - len(current)
        start += [deployment] * min(max(missing, 0), max(room - len(start), 0))
        drain += [one.replica for one in current[deployment.replicas :]]
        if sum(one.ready for one in current) >= deployment.replicas:
            drain += [one.replica for one in mine if one.generation != deployment.generation]
    known = {deployment.id for deployment in wanted}
    return Actions(tuple(start), tuple(drain) + tuple(one.replica for one in running if one.deployment not in known))


def run(
    home: Home,
    static: Sequence[ChildSpec],
    runtime: Runtime,
    db: Database,
    *,
    drain_s: float = DRAIN_S,
    tell: Callable[[Seen], None] | None = None,
) -> None:
    """Keep everything running until SIGTERM or SIGINT; a second one does not wait any longer.

    Args:
        static: Processes besides the engines.
        drain_s: How long a replica that left the routing may finish what it answers.
        tell: Called with each change of a child, for the terminal.

    Raises:
        Conflict: Another supervisor has this home, or a port is in use; nothing was started.
    """
    with _only_one(home):
        for spec in static:
            _demand_port(spec)
        asyncio.run(Supervisor(home, static, runtime, db, drain_s=drain_s, tell=tell).run())


class _only_one:  # noqa: N801  (reads as a sentence)
    """The lock of a home's supervisor."""

    def __init__(self, home: Home) -> None:
        self._path = home.run / "supervisor.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            file.close()
            raise Conflict(f"this home is up already, by process {pid}", where=str(self._path.parent.parent),
                           remedy="`ciranda status` shows it, `ciranda down` ends it") from None  # fmt: skip
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _demand_port(spec: ChildSpec) -> None:
    """Refuse early, and in words, what the child could only die of."""
    if spec.listens is None or spec.listens[1] == 0:
        return
    host, port = spec.listens
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{host}:{port} for {spec.name}"
        if error.errno != errno.EADDRINUSE:
            raise Invalid(f"cannot listen there: {error.strerror or error}", where=where,
                          remedy="set another host or port in config.toml of the home") from None  # fmt: skip
        raise Conflict(f"port {port} is in use", where=where, remedy=f"end what listens there (`ss -ltnp 'sport = :{port}'`), "
                       "or set another port in config.toml of the home") from None  # fmt: skip


def _same(spec: ChildSpec) -> ChildSpec:
    return spec


class Supervisor:
    """The loop behind `run`."""

    def __init__(
        self,
        home: Home,
        static: Sequence[ChildSpec],
        runtime: Runtime,
        db: Database,
        *,
        drain_s: float,
        tell: Callable[[Seen], None] | None,
    ) -> None:
        self._home, self._runtime, self._db, self._drain_s, self._tell = home, runtime, db, drain_s, tell
        self._static = {spec.name: spec for spec in static}
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._replicas: dict[str, apply.Replica] = {}
        self._draining: dict[str, asyncio.TimerHandle] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self._gone: set[str] = set()
        self._statuses: dict[str, str] = {}
        self._started_at = clock.iso()
        self._changed = asyncio.Event()
        self._leave = asyncio.Event()

    async def run(self) -> None:
        """Start, look again and again, and stop in order."""
        self._catch_signals()
        self._pids.mkdir(exist_ok=True)
        for name in child.end_leftovers(self._pids, grace_s=LEFTOVER_GRACE_S):
            log.warning("ended %s, left over by the supervisor before", name)
        with self._db.writing() as conn:
            apply.forget_replicas(conn)
        for spec in self._static.values():
            self._keep(spec.name, partial(_same, spec))
        rotating = asyncio.get_running_loop().create_task(self._rotate())
        try:
            while not self._leave.is_set():
                self._look()
                await self._until_changed()
            await self._stop_all()
        finally:
            rotating.cancel()

    @property
    def _pids(self) -> Path:
        return self._home.run / "pids"

    def _catch_signals(self) -> None:
        def leave() -> None:
            if self._leave.is_set():
                for keeper in self._keepers.values():
                    keeper.kill()
            self._leave.set()
            self._changed.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, leave)

    async def _until_changed(self) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), LOOK_S)
        except TimeoutError:
            return
        self._changed.clear()

    async def _rotate(self) -> None:
        while True:
            for keeper in self._keepers.values():
                child.rotate(keeper.log)
            await asyncio.sleep(ROTATE_S)

    # --- children ----------------------------------------------------------------------------------------------------

    def _keep(self, name: str, spec: Callable[[], ChildSpec]) -> None:
        keeper = Keeper(name, spec, logs=self._home.logs, pids=self._pids, tell=self._heard)
        self._keepers[name] = keeper
        self._tasks[name] = asyncio.get_running_loop().create_task(keeper.keep())

    def _heard(self, seen: Seen) -> None:
        """A child changed: remember it for the database, and look at once."""
        level = logging.WARNING if seen.state == "failing" else logging.INFO
        log.log(level, "%s is %s%s", seen.name, seen.state, f": {seen.reason}" if seen.reason else "")
        if seen.name in self._replicas:
            self._report(seen)
        if self._tell is not None:
            self._tell(seen)
        self._changed.set()

    def _report(self, seen: Seen) -> None:
        if seen.state == "stopped":
            self._gone.add(seen.name)
            return
        states = {
            "starting": "starting",
            "ready": "ready",
            "failing": "failing",
            "stopping": "draining",
        }
        report = {
            "state": states[seen.state],
            "url": seen.url,
            "reason": seen.reason,
            "restarts": seen.restarts,
            "pid": seen.pid,
        }
        if seen.state == "ready":
            report["ready_at"] = clock.iso()
        if seen.name in self._draining:
            report["state"] = "draining"
        self._reports[seen.name] = report

    # --- observe, diff, act, write status ----------------------------------------------------------------------------

    def _look(self) -> None:
        """One look. A database that is away or a full disk changes nothing that runs; the next look goes on."""
        try:
            self._write_reports()
            with self._db.reading() as conn:
                wanted = apply.deployments(conn)
            actions = diff(wanted, self._running())
            for deployment in actions.start:
                self._start_replica(deployment)
            for replica in actions.drain:
                self._drain(replica)
            self._report_statuses(wanted)
            self._write_status()
        except (sa.exc.OperationalError, OSError) as error:
            log.warning("could not read or write what is desired and seen, looking again: %s", error)

    def _running(self) -> list[Running]:
        kept = [(one, self._keepers[one.id].seen) for one in self._replicas.values() if one.id not in self._draining]
        return [
            Running(
                one.id,
                one.deployment,
                one.generation,
                seen.state == "ready",
                seen.state == "starting" and not seen.restarts,
            )
            for one, seen in kept
        ]

    def _write_reports(self) -> None:
        if not self._reports and not self._gone:
            return
        with self._db.writing() as conn:
            for replica, seen in self._reports.items():
                apply.report(conn, replica, **seen)
            for replica in self._gone:
                apply.remove_replica(conn, replica)
        for replica in self._gone:
            self._forget(replica)
        self._reports, self._gone = {}, set()
        routing.refresh(self._db, self._home)

    def _forget(self, replica: str) -> None:
        self._replicas.pop(replica, None)
        self._keepers.pop(replica, None)
        self._tasks.pop(replica, None)
        self._draining.pop(replica, None)

    def _start_replica(self, deployment: Deployment) -> None:
        with self._db.writing() as conn:
            replica = apply.add_replica(conn, deployment)
        self._replicas[replica.id] = replica
        ready_file = self._home.run / f"{replica.id}.json"

        def spec() -> ChildSpec:
            argv = tuple(self._runtime.command(deployment, ready_file=ready_file))
            return ChildSpec(replica.id, argv, ready_file=ready_file, health="/health", stop=ENGINES_STOP, start_s=120.0,
                             timeout_s=5.0)  # fmt: skip

        self._keep(replica.id, spec)

    def _drain(self, replica: str) -> None:
        """Out of the routing now, SIGTERM when its answers are finished. One that never got ready has none."""
        keeper = self._keepers[replica]
        wait_s = self._drain_s if keeper.seen.state == "ready" else 0.0
        self._draining[replica] = asyncio.get_running_loop().call_later(wait_s, keeper.stop)
        self._reports[replica] = {"state": "draining"}
        self._changed.set()

    def _report_statuses(self, wanted: Sequence[Deployment]) -> None:
        running = self._running()
        new = {}
        for deployment in wanted:
            ready = sum(one.ready for one in running if one.deployment == deployment.id)
            new[deployment.id] = f"{ready} of {deployment.replicas} ready" if deployment.replicas else "not wanted"
        changed = {key: status for key, status in new.items() if self._statuses.get(key) != status}
        if changed:
            with self._db.writing() as conn:
                for key, status in changed.items():
                    apply.report_status(conn, key, status)
        self._statuses = new

    def _write_status(self) -> None:
        """run/supervisor.json, for `ciranda status`: who runs, how well."""
        children = [asdict(keeper.seen) for keeper in self._keepers.values()]
        content = json.dumps({"pid": os.getpid(), "started_at": self._started_at, "children": children}, indent=1)
        file = self._home.run / "supervisor.json"
        if not file.exists() or file.read_text() != content:
            files.write_atomic(file, content)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """In order of `stop`; each group has gone before the next is asked."""
        for timer in self._draining.values():
            timer.cancel()
        order = sorted(self._keepers, key=self._place)
        for _, names in groupby(order, key=self._place):
            group = list(names)
            for name in group:
                self._keepers[name].stop()
            await asyncio.gather(*(self._tasks[name] for name in group))
        try:
            self._write_status()
            with self._db.writing() as conn:
                apply.forget_replicas(conn)
        except (sa.exc.OperationalError, OSError) as error:
            log.warning("could not note the end: %s", error)

    def _place(self, name: str) -> int:
        return self._static[name].stop if name in self._static else ENGINES_STOP
