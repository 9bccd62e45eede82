"""A home with a real collector process behind a real spool, for tests about recorded interactions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ciranda.interactions.seals  # noqa: F401 - declares its table
from ciranda import config
from ciranda.interactions.query import Interactions
from ciranda.interactions.spool import FEEDBACK, INTERACTION, SpoolWriter
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

Found = TypeVar("Found")


def until(condition: Callable[[], Found], *, seconds: float = 30.0) -> Found:
    """The first true answer; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def asked(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "system", "content": "be brief"},
                                                  {"role": "user", "content": text}]}).encode()  # fmt: skip


def answered(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


class Recorded:
    """A prepared home; the collector runs while `start` was called last. `server` keeps the tables elsewhere."""

    def __init__(self, folder: Path, *, server: str = "") -> None:
        self.home = config.Home(folder)
        self.home.make()
        self.server = server
        if server:
            (self.home.path / "config.toml").write_text(f'clickhouse_url = "{server}"\n')
        self.database = Database(f"sqlite:///{self.home.database}")
        metadata.create_all(self.database.engine)
        self.process: subprocess.Popen[bytes] | None = None
        self.interactions = Interactions.at(self.home)

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "ciranda.interactions.collector", "--home", str(self.home.path), *more]

    def launch(self) -> None:
        """Start the collector without waiting for it."""
        with (self.home.logs / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=os.environ)

    def start(self) -> None:
        self.launch()
        assert self.process is not None
        pid = self.process.pid
        try:
            until(lambda: self.announced().get("pid") == pid)
        except AssertionError:  # a fixture that fails here never comes to its end
            self.kill()
            raise

    def announced(self) -> dict[str, Any]:
        file = self.home.run / "collector.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def log(self) -> str:
        return (self.home.logs / "collector.log").read_text()

    def writer(self, name: str = "gateway-0") -> SpoolWriter:
        return SpoolWriter(self.home.spool / name)

    def segments(self) -> list[Path]:
        return [path for path in self.home.spool.glob("*/*") if path.suffix in (".open", ".ready")]

    def close(self) -> None:
        self.interactions.close()
        self.kill(signal.SIGTERM)
        self.database.close()


def record(writer: SpoolWriter, text: str = "hello", answer: str = "hi", **meta: Any) -> str:
    """Append one interaction and give its id."""
    row = {"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "tenant": "default", "key": "key_1", "model": "m",
           "version": "m@1", "arm": "live", "status": 200, "latency_ms": 20.0, "first_byte_ms": 8.0,
           "overhead_ms": 0.5, "prompt_tokens": 7, "completion_tokens": 3} | meta  # fmt: skip
    writer.append(INTERACTION, row, asked(text), answered(answer))
    return str(row["id"])


def opinion(writer: SpoolWriter, interaction: str, **meta: Any) -> str:
    """Append feedback on an interaction and give its id."""
    row = {"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "interaction": interaction, "tenant": "default",
           "key": "key_1", "thumb": 1} | meta  # fmt: skip
    writer.append(FEEDBACK, row)
    return str(row["id"])
