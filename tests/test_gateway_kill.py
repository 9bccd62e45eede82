"""An answer that a client has read is on disk: through kill -9 of the worker under load, and when the disk is full."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciranda.interactions.spool import adopt, read_frames
from gatewayrig import Process, Rig, arm, model, wait_for

ROUNDS = 6


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    engine = rig.engine()
    rig.route({"smart-home": model(arm("live", "smart-home@1", engine.url))})
    yield rig
    rig.stop()


class Crowd:
    """Clients that ask without a pause, and note which interactions they have a whole answer of."""

    def __init__(self, worker: Process, *, threads: int = 4, text: str = "turn on the light") -> None:
        self.address = worker.url.removeprefix("http://")
        self.text = text
        self.answered: list[str] = []
        self.statuses: list[int] = []
        self.stop = threading.Event()
        self.crew = [threading.Thread(target=self._ask, args=(number % 2 == 1,)) for number in range(threads)]
        for one in self.crew:
            one.start()

    def _ask(self, stream: bool) -> None:
        messages = [{"role": "user", "content": self.text}]
        body = json.dumps({"model": "smart-home", "messages": messages, "stream": stream})
        line = http.client.HTTPConnection(self.address, timeout=5)
        while not self.stop.is_set():
            try:
                line.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer sk-app"})
                answer = line.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                line.close()
                continue
            self.statuses.append(answer.status)
            if answer.status == 200 and (not stream or b"data: [DONE]" in text):
                self.answered.append(answer.headers["x-ciranda-interaction"])

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop.set()
        for one in self.crew:
            one.join()


def test_kill_9_under_load_loses_no_answered_interaction(rig: Rig) -> None:
    answered: list[str] = []
    for number in range(ROUNDS):
        worker = rig.gateway(number)
        with Crowd(worker) as crowd:
            wait_for(lambda crowd=crowd: len(crowd.answered) > 50)
            time.sleep(random.random() / 20)  # so that the blow falls anywhere in a request's life
            worker.kill()
        answered += crowd.answered
    for orphan in (rig.home / "spool").glob("*/*.open"):
        assert adopt(orphan) is not None
    recorded = {one["id"] for one in rig.records() if one["status"] == 200}
    assert len(answered) > ROUNDS * 50
    assert set(answered) - recorded == set()
    assert len(answered) == len(set(answered))


def test_with_a_full_disk_nothing_is_answered_that_is_not_recorded(rig: Rig) -> None:
    """A limit on file size is a full disk to the writer: what fits is answered, the rest is refused in so many words."""
    worker = rig.gateway(limit_files=64)
    with Crowd(worker, text="x" * 500) as crowd:
        wait_for(lambda: crowd.statuses.count(507) > 5, what="507")
    recorded = {one["id"] for one in rig.records() if one["status"] == 200}
    assert set(crowd.answered) == recorded
    assert set(crowd.statuses) <= {200, 507}


@pytest.fixture
def small_disk(rig: Rig) -> Iterator[Path]:
    """A disk of one megabyte under the spool; only where we may mount one."""
    spool = rig.home / "spool"
    spool.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(spool)], check=False).returncode != 0:
        pytest.skip("this machine does not allow mounts")
    yield spool
    rig.stop()
    subprocess.run(["umount", str(spool)], check=True)


def test_a_disk_that_is_full_and_freed_is_used_again(rig: Rig, small_disk: Path) -> None:
    worker = rig.gateway()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 900_000)
    with Crowd(worker, text="x" * 500) as crowd:
        wait_for(lambda: crowd.statuses.count(507) > 5, what="507")
        ballast.unlink()
        before = len(crowd.answered)
        wait_for(lambda: len(crowd.answered) > before + 10, what="answers after space was freed")
    recorded = {one["id"] for one in rig.records() if one["status"] == 200}
    assert set(crowd.answered) == recorded
    for path in small_disk.glob("*/*"):
        assert [frame.end_offset for frame in read_frames(path)][-1] == path.stat().st_size
