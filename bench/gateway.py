"""The gateway beside nginx as a plain proxy, the upstream alone, and its peers: `make bench-gateway`.

One core answers and asks, the other one runs the door under test. Ours checks the key, picks a canary by weight, rewrites the
model's name and writes every interaction to its spool before its answer ends; nginx does none of it, and no peer keeps a durable
record. Three parts, each in one run with what it is compared with:

    throughput  `wrk` against an nginx that returns a fixed completion: requests/s, CPU per request, memory over 100,000 requests
    time        an upstream that takes 20 ms, or streams 200 chunks a second: what a door adds, at a steady pace (`paced.py`)
    peers       LiteLLM, MLflow, Portkey, TensorZero, vllm-router, as far as they install here (`peers.py`); a missing one is named

Rounds are interleaved and the median counts; CPU per request is the figure that a busy machine disturbs least. Where the
upstream alone swings by more than a quarter between rounds no verdict is given. Writes bench/results/gateway.json.

    python bench/gateway.py [--seconds 3] [--rounds 3] [--peers litellm,portkey | none]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "src")]
os.environ["PYTHONPATH"] = str(HERE.parent / "src")

from peers import Peer, peers, stop  # noqa: E402

from gatewayrig import Rig, arm, model, wait_for  # noqa: E402

CONNECTIONS = 64
MOCK, PROXY, SLOW, OTHER = 41901, 41902, 41903, 41904
TIMES = {"litellm": 80, "portkey": 20, "mlflow": 10, "tensorzero": 3, "vllm-router": 1.3}
PEERS = HERE.parent / "build" / "peers"
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
    """One run of one door under `wrk`."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float


@dataclass(frozen=True)
class Door:
    """Where to ask, as which process, and how."""

    name: str
    url: str
    pid: int
    model: str = "smart-home"
    headers: tuple[str, ...] = ()


def pinned(core: int) -> list[str]:
    """What puts a command on one core, before all others where we may: on a shared machine nothing else gives steady figures."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return []
    return ["taskset", "-c", str(core), *(["chrt", "-r", "5"] if first() else [])]


@cache
def first() -> bool:
    """Whether we may run before all others (real-time priority)."""
    if shutil.which("chrt") is None:
        return False
    return subprocess.run(["chrt", "-r", "5", "true"], capture_output=True, check=False).returncode == 0


def pin(pid: int, core: int) -> None:
    """The same for a process that runs already."""
    if pinned(core):
        subprocess.run(["taskset", "-pc", str(core), str(pid)], check=True, capture_output=True)
    if first():
        subprocess.run(["chrt", "-a", "-r", "-p", "5", str(pid)], check=True, capture_output=True)


@contextmanager
def nginx(folder: Path, name: str, port: int, inside: str, core: int, upstream: int = MOCK) -> Iterator[int]:
    """An nginx of one worker; gives its process id."""
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, port=port, mock=upstream, inside=inside))
    child = subprocess.Popen([*pinned(core), "nginx", "-c", str(config)])
    try:
        wait_for(lambda: (folder / f"{name}.pid").exists())
        yield child.pid
    finally:
        child.terminate()
        child.wait()


@contextmanager
def slow(port: int, *arguments: str) -> Iterator[int]:
    """The upstream that takes its time."""
    command = [*pinned(0), sys.executable, str(HERE / "paced.py"), "mock", "--port", str(port), *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
    finally:
        child.terminate()
        child.wait()


@contextmanager
def ciranda(folder: Path, upstream: int) -> Iterator[tuple[Door, Rig]]:
    """Our gateway with a canary, one worker on the second core."""
    rig = Rig(folder)
    mock = f"http://127.0.0.1:{upstream}"
    arms = [arm("live", "smart-home@1", mock, weight=95), arm("canary", "smart-home@2", mock, weight=5)]
    rig.route({"smart-home": model(*arms, limits={"max_in_flight": 1000, "timeout_s": 60})})
    worker = rig.gateway()
    try:
        door = Door("ciranda", f"{worker.url}/v1/chat/completions", worker.child.pid)
        pin(door.pid, 1)
        yield door, rig
    finally:
        rig.stop()


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_of(pid: int) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in family(pid)))


def run(door: Door, folder: Path, seconds: float, connections: int = CONNECTIONS) -> Figure:
    """Load one door with wrk."""
    script = folder / f"{door.name}.lua"
    more = "".join(
        f'wrk.headers["{name}"] = [==[{value}]==]\n' for name, _, value in (one.partition(": ") for one in door.headers)
    )
    script.write_text(LUA.replace("{body}", json.dumps(QUESTION | {"model": door.model})) + more)
    before = cpu_of(door.pid)
    command = [
        *pinned(0),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--latency",
        "-s",
        str(script),
        door.url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu_of(door.pid) - before
    requests = int(found(r"(\d+) requests in", text))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Figure(
        rps=float(found(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=milliseconds(found(r"\n\s+50%\s+(\S+)", text)),
        p99_ms=milliseconds(found(r"\n\s+99%\s+(\S+)", text)),
        errors=int(errors.group(1)) if errors else 0,
        cpu_us=spent / max(1, requests) * 1e6,
    )


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said nothing like {pattern}:\n{text}")
    return match.group(1)


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def median(figures: Sequence[Any], of: Callable[[Any], float]) -> float:
    return statistics.median(of(one) for one in figures)


def row(figures: list[Figure]) -> dict[str, float]:
    return {
        "rps": round(median(figures, lambda f: f.rps)),
        "p50_ms": round(median(figures, lambda f: f.p50_ms), 2),
        "p99_ms": round(median(figures, lambda f: f.p99_ms), 2),
        "cpu_us_per_request": round(median(figures, lambda f: f.cpu_us), 1),
        "errors": sum(one.errors for one in figures),
    }


# --- throughput


def throughput(folder: Path, seconds: float, rounds: int, wanted: list[Peer]) -> dict[str, Any]:
    """Direct, nginx and ours in turn; then each peer with ours beside it."""
    answer = f"default_type application/json; return 200 '{json.dumps(ANSWER)}';"
    with (
        nginx(folder, "mock", MOCK, answer, 0) as upstream,
        nginx(folder, "proxy", PROXY, PASS_ON, 1) as proxy,
        ciranda(folder / "home", MOCK) as (ours, rig),
    ):
        doors = [
            Door("direct", f"http://127.0.0.1:{MOCK}/v1/chat/completions", upstream),
            Door("nginx", f"http://127.0.0.1:{PROXY}/v1/chat/completions", proxy),
            ours,
        ]
        figures: dict[str, list[Figure]] = {one.name: [] for one in doors}
        for _ in range(rounds):
            for door in doors:
                figures[door.name].append(run(door, folder, seconds))
        rows = {name: row(of) for name, of in figures.items()}
        for name in rows:
            rows[name]["ratio_to_nginx"] = round(rows[name]["rps"] / rows["nginx"]["rps"], 3)
        direct = [one.rps for one in figures["direct"]]
        steady = (max(direct) - min(direct)) / statistics.median(direct) <= 0.25
        memory = grown(ours, folder, rows["ciranda"]["rps"])
        beside = {one.name: against(one, ours, folder, seconds, rounds) for one in wanted}
        for path in (rig.home / "spool").glob("*/*.ready"):
            path.unlink()
        told = {"python": interpreter(), "compiled": form(ours)}
    return {**told, "doors": rows, "steady": steady, "memory": memory, "peers": beside}


def interpreter() -> str:
    """Which Python serves: the system's is built with its optimisations, one of pyenv is not and costs a sixth more."""
    return f"{platform.python_version()} ({'the system' if sys.base_prefix == '/usr' else 'not the system'}'s)"


def form(ours: Door) -> bool:
    """Whether our worker runs its compiled hot path."""
    with urllib.request.urlopen(ours.url.removesuffix("/v1/chat/completions") + "/readyz", timeout=5) as answer:
        return bool(json.load(answer)["compiled"])


def grown(ours: Door, folder: Path, rps: float) -> dict[str, float]:
    """Resident memory before and after 100,000 requests, once warm."""
    before = psutil.Process(ours.pid).memory_info().rss
    run(ours, folder, math.ceil(100_000 / rps))
    return {
        "rss_mb": round(before / 1e6, 1),
        "growth_mb": round((psutil.Process(ours.pid).memory_info().rss - before) / 1e6, 2),
    }


def against(peer: Peer, ours: Door, folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """A peer and ours in turn, 16 connections; or why not."""
    told: dict[str, Any] = {"version": peer.version}
    if why := peer.install(PEERS):
        return {**told, "missing": why}
    try:
        child, port = peer.run(PEERS, OTHER, MOCK, pinned(1))
    except (RuntimeError, OSError) as error:
        return {**told, "missing": str(error)}
    try:
        door = Door(peer.name, f"http://127.0.0.1:{port}{peer.path}", child.pid, peer.model, peer.headers)
        theirs, mine = [], []
        for _ in range(rounds):
            theirs.append(run(door, folder, seconds, 16))
            mine.append(run(ours, folder, seconds, 16))
        rss = sum(one.memory_info().rss for one in family(child.pid))
    finally:
        stop(child)
    told |= row(theirs) | {"rss_mb": round(rss / 1e6)}
    return told | {
        "ciranda_rps": row(mine)["rps"],
        "ciranda_is_times": round(row(mine)["rps"] / max(1, told["rps"]), 1),
    }


# --- time


def paced(door: Door, *arguments: str) -> dict[str, float]:
    command = [*pinned(0), sys.executable, str(HERE / "paced.py"), "load", door.url, *arguments]
    before = cpu_of(door.pid)
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {**told, "cpu_us_per_event": (cpu_of(door.pid) - before) / max(1, told["events"]) * 1e6}


def times(folder: Path, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """What nginx and ours add to an upstream of 20 ms, and to 64 streams of 200 chunks a second."""
    quiet = PASS_ON + " proxy_buffering off;"
    with (
        slow(SLOW, "--first-ms", "20", "--chunks", "100", "--gap-ms", "5") as upstream,
        nginx(folder, "quiet", PROXY, quiet, 1, SLOW) as proxy,
        ciranda(folder / "slow", SLOW) as (ours, _rig),
    ):
        doors = [
            Door("direct", f"http://127.0.0.1:{SLOW}/v1/chat/completions", upstream),
            Door("nginx", f"http://127.0.0.1:{PROXY}/v1/chat/completions", proxy),
            ours,
        ]
        runs: dict[str, list[dict[str, float]]] = {one.name: [] for one in doors}
        for _ in range(rounds):
            for door in doors:
                alone = paced(door, "--seconds", str(seconds))
                steady = paced(door, "--seconds", str(seconds), "--rps", "750")
                stream = paced(door, "--seconds", str(seconds), "--streams", "64")
                runs[door.name].append({
                    "p50_ms": alone["p50_ms"], "p99_ms_at_750_rps": steady["p99_ms"], "first_event_p50_ms": stream["first_p50_ms"],
                    "events_per_s": stream["events_per_s"], "cpu_us_per_event": stream["cpu_us_per_event"],
                    "errors": alone["errors"] + steady["errors"] + stream["errors"],
                })  # fmt: skip
    return {
        name: {key: round(median(all_, lambda one, key=key: one[key]), 3) for key in all_[0]}
        for name, all_ in runs.items()
    }


# --- the report


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    """Each figure to hold, and whether it does."""
    doors, time_, peers_ = result["doors"], result["times"], result["peers"]
    measured = {
        "ratio to nginx": (doors["ciranda"]["ratio_to_nginx"], ">=", 0.45),
        "added p50 ms, one at a time": (time_["ciranda"]["p50_ms"] - time_["direct"]["p50_ms"], "<=", 1.0),
        "added p99 ms at 750 rps": (
            time_["ciranda"]["p99_ms_at_750_rps"] - time_["direct"]["p99_ms_at_750_rps"], "<=", 3.0),
        "added time to first token p50 ms": (
            time_["ciranda"]["first_event_p50_ms"] - time_["direct"]["first_event_p50_ms"], "<=", 5.0),
        "CPU per chunk against nginx": (
            time_["ciranda"]["cpu_us_per_event"] / time_["nginx"]["cpu_us_per_event"], "<=", 1.8),
        "RSS growth MB over 100,000 requests": (result["memory"]["growth_mb"], "<=", 5.0),
    }  # fmt: skip
    for name, least in TIMES.items():
        if "ciranda_is_times" in peers_.get(name, {}):
            measured[f"times {name}"] = (peers_[name]["ciranda_is_times"], ">=", least)
    told = {}
    for name, (value, sign, bound) in measured.items():
        held = value >= bound if sign == ">=" else value <= bound
        told[name] = f"{value:.3g} {sign} {bound:g}: {'held' if held else 'MISSED'}"
    return told


def show(result: dict[str, Any]) -> None:
    print(
        f"Python {result['python']}; the gateway {'runs compiled' if result['compiled'] else 'runs as plain Python'}\n"
    )
    print(
        f"{'door':<14}{'rps':>9}{'of nginx':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'errors':>8}   (64 connections)"
    )
    for name, one in result["doors"].items():
        print(f"{name:<14}{one['rps']:>9}{one['ratio_to_nginx']:>10}{one['p50_ms']:>9}{one['p99_ms']:>9}"
              f"{one['cpu_us_per_request']:>9}{one['errors']:>8}")  # fmt: skip
    print(
        f"\n{'door':<14}{'p50 ms':>9}{'p99 @750':>10}{'first ms':>10}{'chunks/s':>10}{'CPU us/chunk':>14}   (upstream 20 ms)"
    )
    for name, one in result["times"].items():
        print(f"{name:<14}{one['p50_ms']:>9}{one['p99_ms_at_750_rps']:>10}{one['first_event_p50_ms']:>10}"
              f"{one['events_per_s']:>10.0f}{one['cpu_us_per_event']:>14}")  # fmt: skip
    if result["peers"]:
        print(
            f"\n{'peer':<14}{'version':>10}{'rps':>8}{'p50 ms':>9}{'CPU us':>9}{'RSS MB':>8}{'ours is':>9}   (16 connections)"
        )
    for name, one in result["peers"].items():
        if "missing" in one:
            print(f"{name:<14}{one['version']:>10}  missing: {one['missing']}")
        else:
            print(f"{name:<14}{one['version']:>10}{one['rps']:>8}{one['p50_ms']:>9}{one['cpu_us_per_request']:>9}{one['rss_mb']:>8}"
                  f"{one['ciranda_is_times']:>8}x")  # fmt: skip
    print()
    for name, verdict in result["verdicts"].items():
        print(f"{name:<40}{verdict}")
    if not result["steady"]:
        print("no verdict: the machine was not steady")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="all", help="names with commas, `all`, or `none`")
    given = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}\n  do: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    wanted = [one for one in peers(MOCK) if given.peers == "all" or one.name in given.peers.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="ciranda-bench-"))
    try:
        result = throughput(folder, given.seconds, given.rounds, wanted)
        result["times"] = times(folder, given.seconds, given.rounds)
    finally:
        shutil.rmtree(folder)
    result |= {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": os.getloadavg()[0],
               "verdicts": verdicts(result)}  # fmt: skip
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "gateway.json").write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
