"""Worker processes that look at batches, and the inline one that does the same in this process.

Each worker is a fresh process (no fork: control has threads) with one pipe. It gets the plan once, then one batch at a time,
writes what is left of it to the staging folder and sends findings and notes back. The end of the pipe is its end, so workers do
not outlive a parent that was killed. What a worker prints when it dies is kept beside the batches; its last line is in the error.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data.checks import custom, stage
from ciranda.data.checks.check import Bounds
from ciranda.data.checks.look import Looked, Plan, look
from ciranda.data.checks.pulse import Pulse
from ciranda.errors import CirandaError, Failed

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 8
LOOK_S, GRACE_S = 1.0, 2.0


def wanted() -> int:
    """As many workers as there are processors, up to MOST."""
    return min(MOST, len(os.sched_getaffinity(0)))


class Workers:
    """Some processes, each with at most one batch in hand."""

    def __init__(self, links: list[Connection], processes: list[Any], folder: Path, row_s: float) -> None:
        self._row_s = row_s
        self._links, self._processes, self._folder = links, processes, folder
        self._idle, self._given = list(links), 0
        self._pulses = [Pulse(_pulse(folder, number)) for number in range(len(links))]

    def give(self, batch: pa.RecordBatch, *, sealed: bool) -> Iterator[tuple[int, Path, Looked]]:
        """Hand a batch to a worker; yields what came back from those that are done while waiting for a free one."""
        import pyarrow as pa

        while not self._idle:
            yield from self._heard()
        link, sink = self._idle.pop(), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self._send(link, (self._given, sealed), sink.getvalue())
        self._given += 1

    def rest(self) -> Iterator[tuple[int, Path, Looked]]:
        """What is still in the workers' hands."""
        while len(self._idle) < len(self._links):
            yield from self._heard()

    def _send(self, link: Connection, about: tuple[int, bool], data: Any) -> None:
        try:
            link.send(about)
            link.send_bytes(data)
        except OSError as error:
            raise self._dead(link) from error

    def _heard(self) -> Iterator[tuple[int, Path, Looked]]:
        ready = wait([link for link in self._links if link not in self._idle], LOOK_S)
        if not ready:
            self._watch()
        for link in ready:
            assert isinstance(link, Connection)
            try:
                told = link.recv()
            except (EOFError, OSError) as error:
                raise self._dead(link) from error
            if isinstance(told, CirandaError):
                raise told
            self._idle.append(link)
            yield told

    def _watch(self) -> None:
        """End a worker that hangs in a function of somebody's own, where no alarm reaches it."""
        for process, pulse in zip(self._processes, self._pulses, strict=True):
            seconds, what = pulse.read()
            most = self._row_s if "\n" in what else custom.IMPORT_S
            if seconds > most + GRACE_S:
                process.kill()
                raise custom.late(what, most)

    def _dead(self, link: Connection) -> Failed:
        number = self._links.index(link)
        process = self._processes[number]
        process.join(5)
        log = self._folder / f"worker-{number}.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        return Failed(
            f"a process of the checks ended with {process.exitcode}: {''.join(last) or 'it said nothing'}",
            where=f"checks, worker {number}",
            remedy="correct the check; when the worker was killed, give it memory or fewer workers",
        )


@contextmanager
def hired(count: int, plan: Plan, bounds: Bounds, folder: Path) -> Iterator[Workers]:
    """So many workers, gone afterwards."""
    spawn, links, processes = multiprocessing.get_context("spawn"), [], []
    try:
        for number in range(count):
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(theirs, plan, bounds, folder, number), daemon=True)
            process.start()
            theirs.close()
            links.append(mine)
            processes.append(process)
        yield Workers(links, processes, folder, bounds.row_s)
    finally:
        for link in links:
            link.close()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()


def _pulse(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.pulse"


def _work(link: Connection, plan: Plan, bounds: Bounds, folder: Path, number: int) -> None:
    """A worker's life: batches in, findings out, until the pipe ends."""
    import pyarrow as pa

    sys.stderr = (folder / f"worker-{number}.log").open("w", buffering=1)
    custom.watched(Pulse(_pulse(folder, number)))
    while True:
        try:
            index, sealed = link.recv()
            with pa.ipc.open_stream(link.recv_bytes()) as stream:
                batch = stream.read_next_batch()
        except EOFError:
            return
        try:
            looked, left = look(batch, plan, bounds, sealed=sealed)
            path = folder / f"{index:08}.arrow"
            stage.put(path, left)
        except CirandaError as error:
            link.send(error)
            return
        link.send((index, path, looked))
