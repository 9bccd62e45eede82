"""One serving process: llama.cpp's own HTTP server over one base and at most one adapter. The one file that names `xllamacpp`.

    python -m ciranda.engines.llamacpp --base base.q8_0.gguf --adapter adapter.gguf --name smart-home@1 \\
        --port 0 --ready-file run/rep.json --slots 4 --context 4096 --threads 1 --key-file run/engine.key

A process serves one version for all its life: weights are shared by mmap, so it costs some 60 MB of its own, and replacing it is
blue and green for nothing. Several adapters in one process would wait for each other.

It says that it is ready in a file, once `/health` is well. SIGTERM lets running answers end (llama.cpp itself cuts them), a second
one does not; when its parent dies it goes too. It listens on loopback with a key. What llama.cpp does not do is the gateway's:
it takes any model name, queues without bound, and a connection that is used again after a stream may fail, so do not.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ciranda.errors import CirandaError, Conflict, Failed, Invalid, Refused, Unavailable
from ciranda.store import files
from ciranda.train.recipe import Recipe

HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1
START_S = 120.0
POLL_S = 0.05
PROMPT_CACHE_MIB = (
    32  # llama.cpp's own default lets every process keep 8 GB of old prompts; slots reuse theirs without it
)
STOP = {signal.SIGTERM, signal.SIGINT}
BUSY = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Serve:
    """What one process serves, and how."""

    base: Path
    name: str
    adapter: Path | None = None
    port: int = 0
    ready_file: Path | None = None
    key_file: Path | None = None
    slots: int = 4
    context: int = 4096
    threads: int = 0
    drain_s: float = 10.0

    @property
    def key(self) -> str:
        return self.key_file.read_text().strip() if self.key_file else ""


def servable(recipe: Recipe, config: dict[str, Any]) -> None:
    """Whether an adapter of this shape on this base could be served; asked before anything is trained.

    Args:
        config: The base's `config.json`.

    Raises:
        Refused: it could not; says what to change.
    """
    if config.get("model_type") != "llama":
        raise Refused(
            f"llama.cpp gets adapters from us for Llama models only; this base is a {config.get('model_type')!r} model",
            where="base",
            remedy="choose a base of the Llama family, or another engine under `serve`",
        )
    if recipe.dora and not recipe.merge:
        raise Refused(
            "llama.cpp cannot serve a DoRA adapter: its magnitudes have no place in a LoRA file",
            where="train.recipe.dora",
            remedy="write `merge: true` to serve whole weights with it merged in, or leave dora out",
        )
    if recipe.layers > config["num_hidden_layers"]:
        raise Refused(
            f"the recipe trains {recipe.layers} layers; the base has {config['num_hidden_layers']}",
            where="train.recipe.layers",
            remedy=f"set layers to {config['num_hidden_layers']} or fewer",
        )


def check(serve: Serve) -> None:
    """Refuse what cannot start, with the remedy, before the weights are read.

    Raises:
        Invalid: a file is missing or is no GGUF file.
        Conflict: the port is taken.
    """
    for file in filter(None, (serve.base, serve.adapter)):
        if not file.is_file() or file.open("rb").read(4) != b"GGUF":
            raise Invalid(
                f"{file.name} is missing or no GGUF file", where=str(file), remedy="prepare the base or version again"
            )
    if serve.key_file and not serve.key_file.is_file():
        raise Invalid(
            "the key file is missing", where=str(serve.key_file), remedy="start the platform with `ciranda up`"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, serve.port))
        except OSError:
            raise Conflict(
                f"port {serve.port} is taken", where=HOST, remedy="choose another, or 0 for a free one"
            ) from None


def start(serve: Serve) -> Any:
    """Load the weights and listen; the server runs in threads of its own until it is deleted.

    Raises:
        Failed: llama.cpp would not load the weights.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(serve.base)
    params.model_alias = {serve.name}
    params.hostnames = [HOST]
    params.port = serve.port
    params.n_parallel = serve.slots
    params.n_ctx = serve.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = serve.threads or max(
        1, len(os.sched_getaffinity(0)) - 1
    )
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.warmup = True
    params.embedding = True  # costs answers nothing; a decoder's vectors are the mean over its tokens
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.api_keys = [serve.key] if serve.key else []
    if serve.adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(serve.adapter), 1.0)]
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise Failed(
            f"llama.cpp cannot serve {serve.name}: {error}",
            where=str(serve.base),
            remedy="read the log above; prepare it again",
        ) from error


def get(url: str, path: str, key: str) -> tuple[int, str]:
    """One GET on a connection of its own; status 0 when nobody answers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}", "connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def await_health(url: str, key: str, *, within_s: float = START_S) -> None:
    """Return when the server is well.

    Raises:
        Unavailable: it was not, in time.
    """
    deadline = time.monotonic() + within_s
    while get(url, "/health", key)[0] != 200:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"llama.cpp was not ready within {within_s:g} s", where=url, remedy="read its log; start it again"
            )
        time.sleep(POLL_S)


def drain(url: str, key: str, within_s: float) -> bool:
    """Wait until no request runs or waits; False when time is up or a second signal came."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(int(count) for count in BUSY.findall(get(url, "/metrics", key)[1])):
            return True
        if signal.sigtimedwait(STOP, POLL_S):
            return False
    return False


def run(serve: Serve) -> None:
    """Serve until a signal comes, then let running answers end."""
    check(serve)
    _die_with_parent()
    # Blocked before any thread is made, so that llama.cpp's threads inherit it and only our wait sees the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    server = start(serve)
    url = str(server.listening_address)
    await_health(url, serve.key)
    if serve.ready_file:
        files.write_atomic(serve.ready_file, json.dumps({"url": url, "pid": os.getpid()}))
    signal.sigwait(STOP)
    if serve.ready_file:
        serve.ready_file.unlink(missing_ok=True)
    print(f"{serve.name} drains: running answers may end", file=sys.stderr, flush=True)
    if not drain(url, serve.key, serve.drain_s):
        print(f"{serve.name} cuts the answers that still run", file=sys.stderr, flush=True)
        os._exit(0)  # deleting a server waits for its open streams; the process holds nothing that must be saved
    del server


def _die_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies; a parent that died before the asking is noticed too."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _arguments(argv: Sequence[str]) -> Serve:
    parser = argparse.ArgumentParser(prog="python -m ciranda.engines.llamacpp", description="Serve one version.")
    parser.add_argument("--base", type=Path, required=True, help="the base's GGUF file")
    parser.add_argument("--adapter", type=Path, help="the version's LoRA GGUF file")
    parser.add_argument("--name", required=True, help="the version's name, e.g. smart-home@1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help='written when ready: {"url", "pid"}')
    parser.add_argument("--key-file", type=Path, help="holds the bearer key that callers must send")
    parser.add_argument("--slots", type=int, default=4, help="answers written at the same time")
    parser.add_argument("--context", type=int, default=4096, help="tokens of all slots together")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores but one")
    parser.add_argument("--drain-s", type=float, default=10.0, help="how long running answers may go on after SIGTERM")
    return Serve(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns its exit code."""
    try:
        run(_arguments(sys.argv[1:] if argv is None else argv))
    except CirandaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
