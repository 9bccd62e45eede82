"""A PostgreSQL server of our own for tests: in a fresh folder, as a user without rights, on a free port, ended afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


@cache
def program(name: str) -> str:
    """Where a program of PostgreSQL is; empty when it is nowhere."""
    found = [shutil.which(name), *(shutil.which(name, path=str(one)) for place in PLACES for one in _folders(place))]
    return next((one for one in found if one), "")


def _folders(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def _user() -> str | None:
    """Whom to run as: the server refuses root."""
    if os.getuid() != 0:
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "")


def demand() -> None:
    """Skip the test, with the reason, where no server can be had."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'ciranda[postgres]'")
    for name in ("initdb", "postgres"):
        if not program(name):
            pytest.skip(f"no {name} on this machine: apt-get install postgresql")
    if _user() == "":
        pytest.skip("PostgreSQL refuses root, and there is no user postgres or nobody to run it as")


@contextmanager
def server() -> Iterator[str]:
    """A running server; the URL of its `postgres` database."""
    demand()
    folder, user = Path(tempfile.mkdtemp(prefix="ciranda-pg-")), _user()
    if user:
        shutil.chown(folder, user)
    data, port = folder / "data", _free_port()
    init = [program("initdb"), "-D", str(data), "-U", "ciranda", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C"]
    subprocess.run(init, user=user, cwd=folder, check=True, capture_output=True)
    flags = ["-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program("postgres"), *flags], user=user, cwd=folder, stdout=log, stderr=log)
    try:
        url = f"postgresql+psycopg://ciranda@127.0.0.1:{port}/postgres"
        _await(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine, deadline = sa.create_engine(url), time.monotonic() + 60
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        finally:
            engine.dispose()


def fresh(url: str, name: str) -> str:
    """The URL of a new, empty database on the server."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.rpartition("/")[0] + f"/{name}"
