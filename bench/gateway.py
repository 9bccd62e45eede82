"""The gateway beside nginx as a plain proxy, and the upstream alone: `python bench/gateway.py [--seconds 3] [--rounds 3]`.

One core answers (an nginx that returns a fixed completion) and asks (wrk), the other one runs the door under test. Ours checks
the key, picks a canary by weight, rewrites the model's name and writes every interaction to its spool; nginx does none of it.
Rounds are interleaved and the median counts; CPU per request is the figure that a busy machine disturbs least. Where the
upstream alone swings by more than a quarter between rounds no verdict is given. Writes bench/results/gateway.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "src")]
os.environ["PYTHONPATH"] = str(HERE.parent / "src")

from gatewayrig import Rig, arm, model, wait_for  # noqa: E402

TARGET = 0.45
CONNECTIONS = 64
MOCK, PROXY = 41901, 41902
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "smart-home@1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 110}}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 110, "total_tokens": 230},
}  # fmt: skip
QUESTION = {"model": "smart-home", "messages": [{"role": "user", "content": "please " * 90}], "temperature": 0}
LUA = """wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer sk-app"
"""
NGINX = """daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ {inside} }} }} }}
"""
PASS_ON = 'proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";'


@dataclass(frozen=True)
class Figure:
    """One run of one door."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float


def pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 and shutil.which("taskset") else []


@contextmanager
def nginx(folder: Path, name: str, port: int, inside: str, core: int) -> Iterator[int]:
    """An nginx of one worker; gives its process id."""
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, port=port, mock=MOCK, inside=inside))
    child = subprocess.Popen([*pinned(core), "nginx", "-c", str(config)])
    try:
        wait_for(lambda: (folder / f"{name}.pid").exists())
        yield child.pid
    finally:
        child.terminate()
        child.wait()


def cpu_of(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(times.user + times.system for times in (one.cpu_times() for one in family))


def run(url: str, pid: int, script: Path, seconds: float) -> Figure:
    """Load one door with wrk."""
    before = cpu_of(pid)
    command = [*pinned(0), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu_of(pid) - before
    requests = int(found(r"(\d+) requests in", text))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Figure(
        rps=float(found(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=milliseconds(found(r"\n\s+50%\s+(\S+)", text)),
        p99_ms=milliseconds(found(r"\n\s+99%\s+(\S+)", text)),
        errors=int(errors.group(1)) if errors else 0,
        cpu_us=spent / requests * 1e6,
    )


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said nothing like {pattern}:\n{text}")
    return match.group(1)


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def measure(seconds: float, rounds: int) -> dict[str, list[Figure]]:
    """All doors in turn, round by round."""
    folder = Path(tempfile.mkdtemp(prefix="ciranda-bench-"))
    script = folder / "ask.lua"
    script.write_text(LUA.replace("{body}", json.dumps(QUESTION)))
    answer = f"default_type application/json; return 200 '{json.dumps(ANSWER)}';"
    rig = Rig(folder / "home")
    mock = f"http://127.0.0.1:{MOCK}"
    arms = [arm("live", "smart-home@1", mock, weight=95), arm("canary", "smart-home@2", mock, weight=5)]
    rig.route({"smart-home": model(*arms, limits={"max_in_flight": 1000, "timeout_s": 60})})
    results: dict[str, list[Figure]] = {"direct": [], "nginx": [], "ciranda": []}
    with nginx(folder, "mock", MOCK, answer, 0) as upstream, nginx(folder, "proxy", PROXY, PASS_ON, 1) as proxy:
        worker = rig.gateway()
        doors = {
            "direct": (mock, upstream),
            "nginx": (f"http://127.0.0.1:{PROXY}", proxy),
            "ciranda": (worker.url, worker.child.pid),
        }
        if command := pinned(1):
            subprocess.run([*command[:1], "-pc", "1", str(worker.child.pid)], check=True, capture_output=True)
        try:
            for _ in range(rounds):
                for name, (url, pid) in doors.items():
                    results[name].append(run(f"{url}/v1/chat/completions", pid, script, seconds))
            check_records(rig, sum(f.rps * seconds for f in results["ciranda"]))
        finally:
            rig.stop()
            shutil.rmtree(folder)
    return results


def check_records(rig: Rig, answered: float) -> None:
    recorded = sum(path.stat().st_size for path in (rig.home / "spool").glob("*/*"))
    print(f"spool: {recorded / 1e6:.0f} MB for about {answered:,.0f} answers")


def median(figures: list[Figure], of: Callable[[Figure], float]) -> float:
    return statistics.median(of(one) for one in figures)


def report(results: dict[str, list[Figure]]) -> dict[str, Any]:
    """The table, as data."""
    base = median(results["nginx"], lambda f: f.rps)
    rows = {
        name: {
            "rps": round(median(figures, lambda f: f.rps)),
            "ratio_to_nginx": round(median(figures, lambda f: f.rps) / base, 3),
            "p50_ms": round(median(figures, lambda f: f.p50_ms), 2),
            "p99_ms": round(median(figures, lambda f: f.p99_ms), 2),
            "cpu_us_per_request": round(median(figures, lambda f: f.cpu_us), 1),
            "errors": sum(one.errors for one in figures),
        }
        for name, figures in results.items()
    }
    direct = [one.rps for one in results["direct"]]
    steady = (max(direct) - min(direct)) / statistics.median(direct) <= 0.25
    met = rows["ciranda"]["ratio_to_nginx"] >= TARGET
    verdict = ("met" if met else "missed") if steady else "no verdict: the machine was not steady"
    return {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "connections": CONNECTIONS,
            "doors": rows, "target_ratio": TARGET, "verdict": verdict, "load": os.getloadavg()[0]}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}\n  do: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    found_here = report(measure(given.seconds, given.rounds))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "gateway.json").write_text(json.dumps(found_here, indent=1) + "\n")
    print(f"{'door':<10}{'rps':>9}{'of nginx':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'errors':>8}")
    for name, row in found_here["doors"].items():
        print(f"{name:<10}{row['rps']:>9}{row['ratio_to_nginx']:>10}{row['p50_ms']:>9}{row['p99_ms']:>9}"
              f"{row['cpu_us_per_request']:>9}{row['errors']:>8}")  # fmt: skip
    print(f"target {TARGET} of nginx: {found_here['verdict']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
