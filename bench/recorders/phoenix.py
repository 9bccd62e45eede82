"""Phoenix with SQLite: spans by OTLP over HTTP, a hundred in a request. Runs in Phoenix's own environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).parent)
sys.path[:] = [one for one in sys.path if one != HERE]  # this file is called as the package is

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402

sys.path.append(HERE)
from calls import calls  # type: ignore[import-not-found]  # noqa: E402

BATCH = 100
COUNT = json.dumps({"query": "{ projects { edges { node { name recordCount } } } }"}).encode()


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(url: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    request = urllib.request.Request(url, body, {"content-type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def stored(root: str) -> int:
    found = json.loads(asked(f"{root}/graphql", COUNT))["data"]["projects"]["edges"]
    return sum(int(one["node"]["recordCount"]) for one in found)


def batch(made: list[tuple[dict[str, Any], dict[str, Any]]]) -> bytes:
    sent = ExportTraceServiceRequest()
    spans = sent.resource_spans.add().scope_spans.add().spans
    for request, answer in made:
        now = time.time_ns()
        span = spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name="chat", start_time_unix_nano=now - 400_000_000,
                         end_time_unix_nano=now)  # fmt: skip
        for key, value in (("openinference.span.kind", "LLM"), ("input.value", json.dumps(request)),
                           ("input.mime_type", "application/json"), ("output.value", json.dumps(answer)),
                           ("output.mime_type", "application/json"), ("llm.model_name", "smart-home")):  # fmt: skip
            span.attributes.add(key=key).value.string_value = value
    return bytes(sent.SerializeToString())


def main() -> None:
    """Start it, record, ask meanwhile, print figures."""
    count, folder, port = int(sys.argv[1]), sys.argv[2], free()
    environment = {**os.environ, "PHOENIX_WORKING_DIR": folder, "PHOENIX_PORT": str(port), "PHOENIX_HOST": "127.0.0.1",
                   "PHOENIX_GRPC_PORT": str(free()), "PHOENIX_TELEMETRY_ENABLED": "false"}  # fmt: skip
    program = str(Path(sys.executable).parent / "phoenix")
    log = (Path(folder) / "server.log").open("wb")
    child = subprocess.Popen([program, "serve"], env=environment, stdout=log, stderr=log, start_new_session=True)
    root = f"http://127.0.0.1:{port}"
    try:
        measure(root, count, child)
    finally:
        child.terminate()
        child.wait(30)


def measure(root: str, count: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            stored(root)
            break
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server does not come up") from None
            time.sleep(0.5)
    done, times = threading.Event(), []

    def newest() -> None:
        while not done.is_set():
            begun = time.perf_counter()
            asked(f"{root}/v1/projects/default/spans?limit=50")
            times.append((time.perf_counter() - begun) * 1000)
            done.wait(0.2)

    made = calls(count)
    asked(f"{root}/v1/traces", batch(made[:1]), "application/x-protobuf")
    while stored(root) < 1:
        time.sleep(0.1)
    asking = threading.Thread(target=newest)
    begun = time.perf_counter()
    asking.start()
    for place in range(1, count, BATCH):
        asked(f"{root}/v1/traces", batch(made[place : place + BATCH]), "application/x-protobuf")
    while stored(root) < count:
        time.sleep(0.1)
    took = time.perf_counter() - begun
    done.set()
    asking.join()
    p95 = sorted(times)[max(0, int(len(times) * 0.95) - 1)]
    print(json.dumps({"records_per_s": round(count / took, 1), "query_p95_ms": round(p95, 1), "queries": len(times)}))


main()
