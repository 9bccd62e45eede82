"""The collector's process: `python -m ciranda.interactions.collector --home H`. One per home; it owns the embedded engine.

The main thread tails the spool and inserts; others answer questions at the door. It may be killed and started again at any
moment: the spool holds what came meanwhile, and `ingestion` repeats exactly what was under way. With the setting
`clickhouse_url` it feeds that server instead, and readers go to the server themselves; the door then only tells its status.
It refuses to run twice in one home, and to start over a control database that was not prepared.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda import config
from ciranda.errors import CirandaError, Conflict, StorageFull, Unavailable
from ciranda.interactions import erasure, retention
from ciranda.interactions.embedded import Engine
from ciranda.interactions.ingestion import Done, Ingestion
from ciranda.interactions.seals import segments
from ciranda.interactions.server import Door
from ciranda.interactions.sink import Sink, connection
from ciranda.interactions.upgrade import Layout
from ciranda.store import clock
from ciranda.store.database import Database
from ciranda.store.files import write_atomic

log = logging.getLogger("ciranda.collector")

POLL_SECONDS = 0.05
BREATH_SECONDS = 0.1  # between inserts when little comes, so that parts do not get too many
ADOPT_SECONDS = 1.0
LONGEST_PAUSE = 10.0
EXPIRE_SECONDS = 3600.0
ERASE_SECONDS = 0.5
JOIN_SECONDS = 10.0


class Collector:
    """Tails until it is told to stop.

    Args:
        ingestion: What to do at each step.

    `repeated` is set when what an earlier process may have begun is stored: who removes rows waits for it, since a batch that is
    repeated would bring removed ones back.
    """

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion
        self.repeated = threading.Event()
        self._stop = threading.Event()
        self._adopted_at = 0.0
        self._pause = 0.0
        self._forgotten: list[str] = []
        self._status: dict[str, Any] = {"frames": 0, "batches": 0, "last_at": "", "blocked": ""}

    def run(self) -> None:
        """Step after step; an error is waited out, since the spool keeps what comes."""
        while not self._stop.is_set():
            self._stop.wait(self._next())

    def stop(self) -> None:
        """End after the step under way. Safe in a signal handler and from another thread."""
        self._stop.set()

    def forget(self, name: str) -> None:
        """Before its next step, take a person out of what waits and out of the plan that is stored. Safe from another thread."""
        self._forgotten.append(name)

    def status(self) -> dict[str, Any]:
        """How it goes: frames and batches since the start, when the last one was, and what blocks it, if anything does."""
        return self._status | {"waiting_feedback": len(self._ingestion.progress.waiting)}

    def _next(self) -> float:
        """One step; the seconds to wait after it."""
        try:
            if time.monotonic() - self._adopted_at >= ADOPT_SECONDS:
                self._ingestion.adopt()
                self._adopted_at = time.monotonic()
            done = self._ingestion.step()
            while self._forgotten:
                self._ingestion.forget(self._forgotten[0])
                self._forgotten.pop(0)
            self.repeated.set()
        except (CirandaError, OSError) as error:
            return self._blocked(error)
        return self._went_on(done)

    def _went_on(self, done: Done) -> float:
        if self._status["blocked"]:
            log.warning("ingestion goes on again")
        self._pause = 0.0
        if done.frames:
            counts = {"frames": self._status["frames"] + done.frames, "batches": self._status["batches"] + 1}
            self._status = self._status | counts | {"last_at": clock.iso()}
        self._status = self._status | {"blocked": ""}
        return 0.0 if done.full else BREATH_SECONDS if done.frames else POLL_SECONDS

    def _blocked(self, error: CirandaError | OSError) -> float:
        self._pause = min(LONGEST_PAUSE, max(0.25, self._pause * 2))
        kind = "a full disk" if isinstance(error, StorageFull) or getattr(error, "errno", 0) == 28 else "an error"
        log.error("ALERT ingestion is held up by %s; next try in %.2f s: %s", kind, self._pause, error)
        self._status = self._status | {"blocked": str(error)}
        return self._pause


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Errors before that are printed with their remedy; the exit code is theirs."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    home = config.home(options.home)
    try:
        with _alone(home.interactions):
            _serve(home, options.ready_file, options.port)
    except CirandaError as error:
        print(f"ciranda collector: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ciranda.interactions.collector", description="Bring the spool into the tables."
    )
    parser.add_argument("--home", help="the home; else CIRANDA_HOME, else ./.ciranda")
    parser.add_argument("--ready-file", type=Path, help="written with url and pid when questions are answered")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes a free one")
    return parser.parse_args(arguments)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the home's lock; the system gives it back however this process ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Conflict(f"a collector runs here already, as process {lock.read().strip() or 'unknown'}",
                           where=str(folder), remedy="use that one, or stop it first") from None  # fmt: skip
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _serve(home: config.Home, ready_file: Path | None, port: int) -> None:
    settings = config.settings(home)
    database = Database(config.database_url(home, settings))
    _check(database)
    folder = home.interactions / "chdb"
    sink = _sink(folder, settings)
    try:
        collector = Collector(Ingestion(home.spool, home.interactions, store=sink, database=database))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: collector.stop())
        engine = None if settings.clickhouse_url else Engine(connection(folder))
        with _door(collector, engine, port) as (url, token), _keeper(home, settings, database, collector):
            _announce(home, ready_file, url, token)
            log.info("ready at %s, tailing %s", url, home.spool)
            collector.run()
    finally:
        (home.run / "collector.json").unlink(missing_ok=True)
        sink.close()
        database.close()


def _sink(folder: Path, settings: config.Settings) -> Sink:
    if settings.clickhouse_url:
        return Sink.server(settings.clickhouse_url, Layout(settings.clickhouse_cluster))
    return Sink.embedded(folder)


@contextmanager
def _keeper(home: config.Home, settings: config.Settings, database: Database, collector: Collector) -> Iterator[None]:
    """Removes whom an erasure names and, every hour, what the retention says: beside the tailing, with a handle of its own."""
    done, folder = threading.Event(), home.interactions / "chdb"

    def keep() -> None:
        collector.repeated.wait()
        if done.is_set():
            return
        sink, expired_at = _sink(folder, settings), -EXPIRE_SECONDS
        try:
            while not done.wait(ERASE_SECONDS):
                if time.monotonic() - expired_at >= EXPIRE_SECONDS:
                    _expire(sink, database, settings.retention_days)
                    expired_at = time.monotonic()
                _erase(sink, database, home, collector)
        finally:
            sink.close()

    thread = threading.Thread(target=keep, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        collector.repeated.set()
        thread.join(JOIN_SECONDS)


def _expire(sink: Sink, database: Database, days: int) -> None:
    try:
        for one in retention.expire(sink, database, retention.policy(database, days)):
            log.info("retention: %d rows of %s, model %s, removed", one.rows, one.table, one.model)
    except (CirandaError, sa.exc.SQLAlchemyError) as error:
        log.error("ALERT retention could not be applied; next try within the hour: %s", error)


def _erase(sink: Sink, database: Database, home: config.Home, collector: Collector) -> None:
    try:
        erasure.tick(sink, database, home.spool, home.interactions, collector.forget)
    except (CirandaError, sa.exc.SQLAlchemyError, OSError) as error:
        log.error("ALERT a person could not be erased yet; next try in a second: %s", error)


@contextmanager
def _door(collector: Collector, engine: Engine | None, port: int) -> Iterator[tuple[str, str]]:
    token = secrets.token_urlsafe(32)
    try:
        door = Door(engine, token=token, status=collector.status, port=port)
    except OSError as error:
        raise Conflict(f"port {port} cannot be taken: {error.strerror}", where="127.0.0.1",
                       remedy="give another --port, or 0 for a free one") from error  # fmt: skip
    thread = threading.Thread(target=door.serve_forever, name="door", daemon=True)
    thread.start()
    try:
        yield door.url, token
    finally:
        door.shutdown()
        door.server_close()


def _check(database: Database) -> None:
    try:
        present = sa.inspect(database.engine).has_table(segments.name)
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable(f"the control database cannot be opened: {error}", where=database.engine.url.render_as_string(),
                          remedy="check the setting database_url") from error  # fmt: skip
    if not present:
        raise Unavailable("the control database is not prepared: it has no table `segments`",
                          where=database.engine.url.render_as_string(), remedy="run `ciranda init` first")  # fmt: skip


def _announce(home: config.Home, ready_file: Path | None, url: str, token: str) -> None:
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = {"url": url, "token": token, "pid": os.getpid(), "started_at": clock.iso()}
    write_atomic(home.run / "collector.json", json.dumps(known))
    if ready_file is not None:
        write_atomic(ready_file, json.dumps({"url": url, "pid": os.getpid()}))


if __name__ == "__main__":
    sys.exit(main())
