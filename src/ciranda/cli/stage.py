"""Where the demo plays: a home of its own with a platform in it, started as a user starts it, and ended when the curtain falls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ciranda import config, loop
from ciranda.cli.client import Client
from ciranda.config import Home
from ciranda.errors import Failed
from ciranda.loop import Platform, places

Value = TypeVar("Value")
STOP_S = 60
POLL_S = 0.2
DOORS = ("control.json", "collector.json", "gateway-1.json")  # what each process writes when it answers


class Stage:
    """One platform under `ciranda up`, and the ways in: control, gateway, and a look at its tables.

    Args:
        folder: Where the project and its `.ciranda` home are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / ".ciranda")
        self.log = folder / "up.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._platform: Platform | None = None

    def start(self, *, limit_s: float = 120) -> None:
        """Start the platform on free ports and wait until every door is open."""
        self.home.make()
        environment = config.environment() | {"CIRANDA_CONTROL_PORT": "0", "CIRANDA_GATEWAY_PORT": "0"}
        for name in DOORS:  # of an earlier start
            (self.home.run / name).unlink(missing_ok=True)
        argv = [sys.executable, "-m", "ciranda.cli", "up", "--home", str(self.home.path)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment, cwd=self.folder)
        self.until("the platform is up", self._open, limit_s=limit_s)

    def _open(self) -> bool:
        return self.home.admin_key.exists() and all((self.home.run / name).exists() for name in DOORS)

    @property
    def platform(self) -> Platform:
        """The same tables that the platform's own processes read."""
        if self._platform is None:
            self._platform = loop.open(self.home)
        return self._platform

    @property
    def key(self) -> str:
        return self.home.admin_key.read_text().strip()

    @property
    def control(self) -> Client:
        return Client(self._address("control.json"), self.key)

    @property
    def gateway(self) -> str:
        """Base URL of the gateway."""
        return self._address("gateway-1.json")

    def _address(self, name: str) -> str:
        return str(json.loads((self.home.run / name).read_text())["url"])

    def until(
        self, what: str, look: Callable[[], Value | None], *, limit_s: float, tell: Callable[[], None] | None = None
    ) -> Value:
        """The first true value of `look`.

        Raises:
            Failed: It did not come in time, or the platform ended.
        """
        deadline = time.monotonic() + limit_s
        while not (value := look()):
            if self._process is not None and (code := self._process.poll()) is not None:
                end = self.log.read_text(errors="replace")[-800:]
                raise Failed(f"the platform ended with code {code} before {what}: {end}", where=str(self.log))
            if time.monotonic() > deadline:
                raise Failed(
                    f"it did not happen within {limit_s:.0f} s that {what}",
                    where=str(self.home.logs),
                    remedy="look at the logs there; `ciranda demo --stay` leaves the platform up",
                )
            if tell:
                tell()
            time.sleep(POLL_S)
        return value

    def stop(self) -> None:
        """End the platform as its user would, and wait for its end; its jobs, which would outlive it, end too."""
        if self._platform is not None:
            self._platform.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        jobs = places.jobs(self.home, config.settings(self.home))
        for key in jobs.keys():  # noqa: SIM118 - no mapping
            jobs.cancel(key, grace_s=1)

    def wait(self) -> None:
        """Stay up until somebody ends it."""
        if self._process is not None:
            self._process.wait()

    def client_key(self, name: str) -> str:
        """A key for an app that may chat and give feedback, once the gateway knows it."""
        made: dict[str, Any] = self.control.post("/keys", {"name": name, "role": "client", "models": ["*"]})
        carrying = {"authorization": f"Bearer {made['secret']}"}

        def known() -> bool:
            return httpx.get(f"{self.gateway}/v1/models", headers=carrying).status_code == 200

        self.until("the gateway knows the new key", known, limit_s=30)
        return str(made["secret"])
