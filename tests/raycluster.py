"""A real Ray head on loopback with its token, started for some tests and ended after them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

TOKEN = "a-token-of-forty-characters-for-ray-tests"


@dataclass(frozen=True)
class Head:
    """A running head: its address, and the group of its processes."""

    url: str
    group: int


class Dead(Exception):
    """A head whose raylet ended while it began: on a busy machine it gives its agents too little time."""


@contextmanager
def running(*, cpus: int = 2) -> Iterator[Head]:
    """A head that takes jobs; every process of it is gone afterwards."""
    pytest.importorskip("ray", reason="pip install 'ciranda[ray]'")
    folder = Path(tempfile.mkdtemp(prefix="cray-", dir="/tmp"))  # short: sockets below it have long names
    try:
        yield _head(folder, cpus)
    finally:
        _end(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _head(folder: Path, cpus: int) -> Head:
    """A head that took a job, at the third try at last."""
    for left in (2, 1, 0):
        here = folder / str(left)
        here.mkdir()
        try:
            return _started(here, cpus)
        except Dead:
            _end(here)
            if not left:
                raise
    raise AssertionError


def _started(folder: Path, cpus: int) -> Head:
    ports = _free_ports(6)
    argv = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--port=0", f"--num-cpus={cpus}",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[0]}",
        f"--ray-client-server-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}",
        f"--dashboard-agent-grpc-port={ports[3]}", f"--runtime-env-agent-port={ports[4]}",
        f"--metrics-export-port={ports[5]}", "--min-worker-port=0", "--max-worker-port=0",
        "--object-store-memory=80000000", "--disable-usage-stats", f"--temp-dir={folder}",
    ]  # fmt: skip
    env = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
        # A busy machine is no dead node; a raylet that chooses ports waits only 15 s for its agents to tell theirs.
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300", "RAY_raylet_start_wait_time_s": "300",
        "RAY_gcs_server_request_timeout_seconds": "300", "RAY_agent_register_timeout_ms": "300000",
        "RAY_health_check_timeout_ms": "60000", "RAY_health_check_failure_threshold": "10",
    }  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=env, start_new_session=True)
    threading.Thread(target=process.wait, daemon=True, name=f"reap-{process.pid}").start()
    url = f"http://127.0.0.1:{ports[0]}"
    _await(url, process, folder)
    return Head(url, process.pid)


def _end(folder: Path) -> None:
    """Nothing of it has anything to save; a graceful end takes a quarter of a minute."""
    while found := _marked(str(folder)):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _marked(folder: str) -> list[int]:
    """The processes that name the head's folder: its daemons and workers, whatever group they made for themselves."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if folder.encode() in said:
                found.append(int(entry.name))
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _await(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Return once it took a job: it answers before it has an agent that takes any."""
    deadline = time.monotonic() + 300
    headers, nothing = {"authorization": f"Bearer {TOKEN}"}, {"entrypoint": "true", "submission_id": "is-it-there"}
    while True:
        with suppress(httpx.HTTPError):
            if httpx.post(f"{url}/api/jobs/", json=nothing, headers=headers, timeout=30).status_code == 200:
                return
        said = [path.read_text(errors="replace") for path in folder.glob("session_latest/logs/raylet.[eo]*")]
        if process.poll() is not None or any("Check failed" in text for text in said):
            raise Dead((folder / "head.log").read_text(errors="replace")[-3000:], *(text[-2000:] for text in said))
        assert time.monotonic() < deadline, (folder / "head.log").read_text(errors="replace")[-3000:]
        time.sleep(0.1)
