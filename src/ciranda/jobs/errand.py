"""A job away from home: `python -m ciranda.jobs.errand …` on another machine brings what the job reads, runs it, and sends back
what it made. Control and this process share nothing but a depot:

    shared/<digest>/…            what many jobs read (a base), with its `manifest.json` written last       by control, once
    <mark>/<key>/order-1.json    what to run, and which input goes where                                    by control
                 in/…            the job's folder and its own inputs                                        by control
                 progress/<n>    whole lines of progress.jsonl; n is where the piece begins                 from here, as it goes
                 state/…         checkpoints (`output/checkpoint*`): what a killed job goes on from         from here, as it goes
                 out-1/…         the output, and `end-1.json`, written last, with the digest of each file   from here

The job runs in a folder of the same path on every machine, named by its key, so that what it makes is the same, byte for byte,
wherever it was made. One that was killed leaves no `end`, and the next attempt begins with what `state` holds. Another version of
Ciranda here than at home is refused, since its artefact would be another.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ciranda import __version__, config
from ciranda.errors import CirandaError, NotFound, Refused, Unavailable
from ciranda.jobs import orders
from ciranda.jobs.orders import FOLDER, PYTHON, STATE, Address, Brought, Order
from ciranda.store import clock, files
from ciranda.store.depot import Depot, Shared, safe

EVERY_S = 1.0
PIECE_BYTES = 1 << 20


Work = Callable[[Path, Order], int]


def order(store: Depot, place: str, attempt: int) -> Order:
    """What there is to do. Raises NotFound; Refused when another version of Ciranda ordered it."""
    text = store.get(f"{place}/order-{attempt}.json")
    if text is None:
        raise NotFound(
            f"no order for {place}, attempt {attempt}", where=store.url, remedy="start the work again from control"
        )
    found = Order.read(text)
    if found.version != __version__:
        raise Refused(
            f"control is Ciranda {found.version}, this machine has {__version__}: the artefact would be another",
            where=socket.gethostname(), remedy=f"use an image or environment with ciranda[train]=={found.version}",
        )  # fmt: skip
    return found


def do(store: Depot, given: Order, *, work: Work) -> int:
    """Run one order to its end and send back what came of it; returns the exit code. An order that has ended is not run again."""
    if store.get(f"{given.place}/end-{given.attempt}.json") is not None:
        return ended(store, given)
    with _scratch(given.place) as folder:
        _bring(store, given, folder)
        courier = Courier(store, given, folder)
        with courier.going():
            try:
                code = work(folder, given)
            except Exception:
                courier.end(1)  # a mistake in the work is the same everywhere: nobody shall try it again
                raise
        courier.round()
        if 0 <= code < 128:  # a signal from outside is no result: the next attempt goes on from `state`
            courier.end(code)
        return code


def ended(store: Depot, given: Order) -> int:
    """The exit code that an order ended with. Raises Unavailable when it has not: killed, it will be tried again."""
    told = store.get(f"{given.place}/end-{given.attempt}.json")
    if told is None:
        raise Unavailable(
            f"{given.key} was ended from outside", where=socket.gethostname(), remedy="it goes on from its checkpoint"
        )
    return int(json.loads(told)["code"])


@contextmanager
def _scratch(place: str) -> Iterator[Path]:
    """The job's folder on this machine, closed to others, gone afterwards; a second attempt here waits for the first."""
    folder = _own() / safe(place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _own() -> Path:
    """A folder of this user alone below the machine's place for passing things. Raises Refused when somebody else made it."""
    folder = Path(tempfile.gettempdir()) / f"ciranda-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise Refused("somebody else made the folder for jobs", where=str(folder), remedy="remove it, or set TMPDIR")
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- what the job reads -----------------------------------------------------------------------------------------------


def _bring(store: Depot, given: Order, folder: Path) -> None:
    """The job's folder as it was at home, with its inputs, and with what an earlier attempt had saved."""
    _folder(store, f"{given.place}/in/folder/", folder)
    places = {one.path: str(_input(store, one, folder)) for one in given.inputs}
    spec = folder / "spec.json"
    if spec.exists():
        files.write_atomic(spec, json.dumps(_placed(json.loads(spec.read_text()), places), indent=1))
    _folder(store, f"{given.place}/state/", folder)
    at = 0
    while (piece := store.get(f"{given.place}/progress/{at:012d}")) is not None:
        with (folder / "progress.jsonl").open("ab") as file:
            file.write(piece)
        at += len(piece)


def _folder(store: Depot, prefix: str, folder: Path) -> None:
    for name in store.names(prefix):
        to = folder / safe(name.removeprefix(prefix))
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.fetch(name, to)


def _input(store: Depot, one: Brought, folder: Path) -> Path:
    if one.at.startswith("shared/"):
        return _shared(store, one.at)
    to = folder / "inputs" / one.at.rpartition("/in/")[2]
    if one.folder:
        _folder(store, f"{one.at}/", to)
    else:
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.fetch(one.at, to)
    return to


def _shared(store: Depot, at: str) -> Path:
    """What many jobs read: in place when it can be, else brought to this machine once, each file against its digest."""
    manifest = json.loads(store.get(f"{at}/manifest.json") or b"{}")
    if isinstance(store, Shared):
        return store.path(at)
    to = _own() / safe(at)
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(to.with_name(f".{to.name}.lock")):
        if not to.exists():
            beside = to.with_name(f".{to.name}.coming")
            shutil.rmtree(beside, ignore_errors=True)
            orders.fetched(store, at, manifest, beside)
            beside.replace(to)
    return to


def _placed(value: Any, places: Mapping[str, str]) -> Any:
    """A spec whose paths are those of this machine."""
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, dict):
        return {name: _placed(one, places) for name, one in value.items()}
    return [_placed(one, places) for one in value] if isinstance(value, list) else value


# --- what it makes ----------------------------------------------------------------------------------------------------


class Courier:
    """Sends progress and checkpoints while the job runs, and the output when it has ended."""

    def __init__(self, store: Depot, given: Order, folder: Path) -> None:
        self.store, self.order, self.folder = store, given, folder
        progress = folder / "progress.jsonl"
        self.sent = progress.stat().st_size if progress.exists() else 0
        self.saved: dict[str, tuple[int, int]] = {}

    @contextmanager
    def going(self) -> Iterator[None]:
        """Rounds in a thread of its own until the block is left."""
        over = threading.Event()
        thread = threading.Thread(target=self._rounds, args=(over,), daemon=True, name="courier")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _rounds(self, over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            try:
                self.round()
            except CirandaError as error:  # the depot is away: the next round sends it too
                print(error, file=sys.stderr, flush=True)

    def round(self) -> None:
        """Send what is new. Raises Unavailable, StorageFull."""
        while piece := self._piece():
            self.store.put(f"{self.order.place}/progress/{self.sent:012d}", piece)
            self.sent += len(piece)
        for path in self._files():
            mark = (path.stat().st_mtime_ns, path.stat().st_size)
            name = path.relative_to(self.folder).as_posix()
            if path.name.startswith(STATE) and self.saved.get(name) != mark:
                self.store.send(f"{self.order.place}/state/{name}", path)
                self.saved[name] = mark

    def _piece(self) -> bytes:
        """The whole lines that were not sent yet."""
        try:
            with (self.folder / "progress.jsonl").open("rb") as file:
                file.seek(self.sent)
                piece = file.read(PIECE_BYTES)
        except FileNotFoundError:
            return b""
        return piece[: piece.rfind(b"\n") + 1]

    def _files(self) -> list[Path]:
        """The files of `output` that are whole: one that is written beside begins with a dot."""
        output = self.folder / "output"
        whole = (path for path in sorted(output.rglob("*")) if path.is_file())
        return [path for path in whole if not any(part.startswith(".") for part in path.relative_to(output).parts)]

    def end(self, code: int) -> None:
        """Send the output of a job that succeeded, or the error of one that did not, and write `end` last."""
        made = [path for path in self._files() if not path.name.startswith(STATE)] if code == 0 else []
        about = orders.manifest(self.folder / "output", made)
        for name in about:
            self.store.send(f"{self.order.place}/out-{self.order.attempt}/{name}", self.folder / "output" / name)
        error = self.folder / "error.json"
        told = {
            "code": code, "files": about, "at": clock.iso(), "host": socket.gethostname(),
            "error": json.loads(error.read_text()) if code and error.exists() else None,
        }  # fmt: skip
        self.store.put(f"{self.order.place}/end-{self.order.attempt}.json", json.dumps(told, indent=1).encode())


def process(folder: Path, given: Order) -> int:
    """The job as a process of its own; a signal to end goes to it, so that what it saved is still sent."""
    told = {PYTHON: sys.executable, FOLDER: str(folder)}
    argv = [told.get(part, part) for part in given.argv]
    child = subprocess.Popen(argv, cwd=folder, env=config.environment() | dict(given.env))
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    code = child.wait()
    return 128 - code if code < 0 else code


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point where a job runs; returns its exit code."""
    where = orders.address(sys.argv[1:] if argv is None else argv)
    return attempted(where, lambda store: do(store, order(store, where.place, where.attempt), work=process))


def attempted(where: Address, work: Callable[[Depot], int]) -> int:
    """The exit code of some work on an order; an error that trying again would not mend is the end of it."""
    try:
        store = where.open()
        try:
            return work(store)
        except CirandaError as error:
            if not error.retry:
                told = {"code": error.exit_code, "files": {}, "at": clock.iso(), "host": socket.gethostname(),
                        "error": error.to_dict()}  # fmt: skip
                store.put(f"{where.place}/end-{where.attempt}.json", json.dumps(told, indent=1).encode())
            raise
    except CirandaError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
