"""Keeps one child alive: starts it, waits until it is ready, watches its health, starts it again when it ended, and stops it.

The pause before a start grows from a tenth of a second to half a minute while the child keeps dying young, and begins anew after it
was well for ten seconds; so one kill costs next to nothing, and a crash loop does not eat the machine. A child that hangs gets no
second word: SIGKILL to its group, and a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ciranda.deploy import child
from ciranda.deploy.child import ChildSpec
from ciranda.errors import CirandaError

PAUSES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
WELL_S = 10.0
LOOK_S = 0.05

State = Literal["starting", "ready", "failing", "stopping", "stopped"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Seen:
    """What is known of a child: `reason` says why it is not well, `restarts` how often it was started again."""

    name: str
    state: State
    pid: int = 0
    url: str = ""
    reason: str = ""
    restarts: int = 0


class Keeper:
    """Keeps one child.

    Args:
        name: Names its log and pid file.
        spec: Asked for the child's description before each start; may raise CirandaError, which counts as a failed start.
        logs: Folder of log files, and `pids` of pid files.
        tell: Called with every change.
    """

    def __init__(
        self, name: str, spec: Callable[[], ChildSpec], *, logs: Path, pids: Path, tell: Callable[[Seen], None]
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.seen = Seen(name, "starting")
        self._spec, self._tell = spec, tell
        self._pid_file = pids / f"{name}.json"
        self._leave = asyncio.Event()
        self._young_deaths = 0
        self._grace_s = 20.0
        self._child: subprocess.Popen[bytes] | None = None

    async def keep(self) -> None:
        """Run until `stop`; then the process is gone."""
        while not self._leave.is_set():
            reason = await self._one_life()
            if not self._leave.is_set():
                self._note("failing", reason=reason, restarts=self.seen.restarts + 1)
                await self._pause(PAUSES_S[min(self._young_deaths, len(PAUSES_S)) - 1])
        self._pid_file.unlink(missing_ok=True)
        self._note("stopped")

    def stop(self) -> None:
        """Ask it to leave: SIGTERM now, SIGKILL when its grace is over. `keep` returns when it has gone."""
        if not self._leave.is_set():
            self._leave.set()
            self._note("stopping", pid=self.seen.pid, url=self.seen.url)

    def kill(self) -> None:
        """No more grace."""
        self.stop()
        if self._child is not None:
            child.signal_group(self._child, signal.SIGKILL)

    async def _one_life(self) -> str:
        """From spawn to end; why it ended."""
        began = time.monotonic()
        try:
            spec = self._spec()
            self._grace_s = spec.grace_s
            process = child.spawn(spec, log=self.log, pid_file=self._pid_file)
        except (OSError, CirandaError) as error:
            self._young_deaths += 1
            return f"it could not be started: {error}"
        self._child = process
        self._note("starting", pid=process.pid)
        reason = await self._accompany(spec, process)
        self._child = None
        self._young_deaths = 1 if time.monotonic() - began > WELL_S else self._young_deaths + 1
        return reason

    async def _accompany(self, spec: ChildSpec, process: subprocess.Popen[bytes]) -> str:
        gone, ill, leave = _task(_exited(process)), _task(self._ill(spec, process)), _task(self._leave.wait())
        try:
            await asyncio.wait((gone, ill, leave), return_when=asyncio.FIRST_COMPLETED)
            if leave.done():
                child.signal_group(process, signal.SIGTERM)
                await asyncio.wait((gone,), timeout=self._grace_s)
            if not gone.done():
                child.signal_group(process, signal.SIGKILL)
            code = await gone
            return ill.result() if ill.done() and not ill.cancelled() else _ended(code)
        finally:
            for task in (gone, ill, leave):
                task.cancel()

    async def _ill(self, spec: ChildSpec, process: subprocess.Popen[bytes]) -> str:
        """Watch until something is wrong; what."""
        deadline = time.monotonic() + spec.start_s
        while (said := child.ready(spec, process.pid)) is None:
            if time.monotonic() > deadline:
                return f"it was not ready within {spec.start_s:g} s"
            await asyncio.sleep(LOOK_S)
        failures = 0
        while failures < spec.failures:
            well = not spec.health or await child.healthy(said.url, spec.health, timeout_s=spec.timeout_s)
            failures = 0 if well else failures + 1
            if well:
                self._note("ready", pid=process.pid, url=said.url)
            elif self.seen.state == "starting" and time.monotonic() < deadline:
                failures = 0
            await asyncio.sleep(spec.interval_s if self.seen.state == "ready" else LOOK_S)
        return f"it gave no sign of health {failures} times in a row"

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leave.wait(), seconds)

    def _note(
        self, state: State, *, pid: int = 0, url: str = "", reason: str = "", restarts: int | None = None
    ) -> None:
        """Tell what changed; once it was asked to leave, only that it has gone."""
        if self._leave.is_set() and state not in ("stopping", "stopped"):
            return
        seen = Seen(self.name, state, pid, url, reason, self.seen.restarts if restarts is None else restarts)
        if seen != self.seen:
            self.seen = seen
            self._tell(seen)


async def _exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a child without a thread; then end what is left of its group, while its number is still taken."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    child.signal_group(process, signal.SIGKILL)
    return process.wait()


def _ended(code: int) -> str:
    return f"it ended with exit code {code}" if code >= 0 else f"it was ended by {signal.Signals(-code).name}"


def _task(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    return asyncio.get_running_loop().create_task(work)
