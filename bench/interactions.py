"""How fast interactions become durable rows, and how fast the pages' questions are answered meanwhile.

    python bench/interactions.py [--rows 200000] [--burst 60000] [--seconds 30] [--pace 1000]

1. A past: two writers spool `--rows` interactions of 3 KB spread over thirty days, and the collector takes them in.
2. A burst: `--burst` interactions of the present minutes appear in the spool at once, as after a pause of the collector; the
   time is taken until the last one is found. All of them are durable then: inserts are synced.
3. Live: a writer goes on at `--pace` records a second while the questions of the pages are asked in turn, and the time from
   the spool to a reader's eyes is measured.

4. Lists, with nobody writing: what the page of interactions and the API ask, filtered, searched and far back, see `lists`.
5. Peers, with `--peers`: MLflow tracing and Phoenix take calls of the same size, see `recorders`.

`--filled` makes the past with the engine itself instead of the spool, see `filled`: ten million take minutes instead of an hour.
`--large` is a filled past of ten million; `--home` is one that `filled` has made already, and stays. Each size of the past has its
own part of the result. The result is printed and written to bench/results/interactions.json, with the load that the
machine had. On a machine that others use, `cpu_us_per_record` is the
figure to trust: CPU of all cores that the collector used for a record of the burst.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import filled
import lists
import recorders

import ciranda.interactions.seals  # noqa: F401 - declares its table
from ciranda import config
from ciranda.errors import Unavailable
from ciranda.interactions.query import Interactions
from ciranda.interactions.spool import FEEDBACK, INTERACTION, SpoolWriter
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

SOURCE = str(Path(__file__).parent.parent / "src")
DAY_MS = 86_400_000
TARGET_RATE, TARGET_P95_MS = 4_000, 500
WORDS = [
    f"{a}{b}{c}"
    for a in ("lam", "por", "ti", "so", "ve")
    for b in ("pa", "ta", "ne", "ri")
    for c in ("", "s", "do", "r")
]


class Traffic:
    """Interactions that look like a fleet's: 12 models, 5 versions each, 20,000 users, some failures and votes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def words(self, count: int) -> str:
        return " ".join(self.dice.choices(WORDS, k=count))

    def append(self, writer: SpoolWriter, ts_ms: int) -> str:
        dice = self.dice
        model = f"model-{int(dice.paretovariate(1)) % 12}"
        identifier = str(ids.uuid7())
        failed = dice.random() < 0.01
        meta = {
            "id": identifier, "ts_ms": ts_ms, "tenant": "default", "key": "key_1", "model": model, "arm": "live",
            "version": f"{model}@{dice.randrange(1, 6)}", "user": f"user{int(dice.paretovariate(0.8)) % 20_000}",
            "engine": "llamacpp", "endpoint": "/v1/chat/completions", "status": 503 if failed else 200,
            "error": "upstream_error" if failed else "", "finish_reason": "stop", "latency_ms": dice.lognormvariate(6, 0.5),
            "first_byte_ms": dice.lognormvariate(4, 0.4), "overhead_ms": dice.lognormvariate(-1, 0.4),
            "prompt_tokens": dice.randrange(20, 900), "completion_tokens": dice.randrange(5, 300),
            "request_id": f"req_{identifier}",
        }  # fmt: skip
        system = {"role": "system", "content": self.words(150)}
        request = json.dumps({"model": model, "messages": [system, {"role": "user", "content": self.words(40)}]})
        answer = {"role": "assistant", "content": self.words(180)}
        response = json.dumps({"choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]})
        writer.append(INTERACTION, meta, request.encode(), response.encode())
        if dice.random() < 0.05:
            vote = {"id": str(ids.uuid7()), "ts_ms": ts_ms, "interaction": identifier, "tenant": "default",
                    "key": "key_1", "thumb": dice.choice((1, 1, 1, -1))}  # fmt: skip
            writer.append(FEEDBACK, vote)
        return identifier


def spool(folder: Path, rows: int, span_ms: int, seed: int) -> None:
    """Write a backlog whose times run over a span until now."""
    traffic, writer = Traffic(seed), SpoolWriter(folder)
    first = clock.now_ms() - span_ms
    for number in range(rows):
        traffic.append(writer, first + span_ms * number // rows)
    writer.seal()


def until(condition: Callable[[], bool], pause: float) -> None:
    while not condition():
        time.sleep(pause)


def count(ask: Interactions) -> int:
    try:
        return ask.count()
    except Unavailable:
        return -1


def questions(ask: Interactions, known: list[str]) -> dict[str, Callable[[], Any]]:
    """What the pages ask."""
    dice = random.Random(5)
    return {
        "series, last hour": lambda: ask.series("model-1"),
        "series, 30 days by hour": lambda: ask.series("model-1", since=clock.now() - timedelta(days=30), step_s=3600),
        "series, 15 minutes by 10 s": lambda: ask.series(
            "model-1", since=clock.now() - timedelta(minutes=15), step_s=10
        ),
        "totals, 24 hours": lambda: ask.totals(clock.now() - timedelta(days=1)),
        "newest 50": lambda: ask.page(),
        "newest 50 of a model": lambda: ask.page(model="model-3"),
        "newest 50 failures": lambda: ask.page(status=5),
        "newest 50 with thumbs down": lambda: ask.page(thumb=-1),
        "search, newest 50": lambda: ask.page(search=" ".join(dice.choices(WORDS, k=2))),
        "search of a phrase": lambda: ask.page(search=f'"{" ".join(dice.choices(WORDS, k=2))}"'),
        "series of all models, last hour": lambda: ask.series(),
        "one by id": lambda: ask.get(dice.choice(known)),
        "since a cursor": lambda: ask.since(ask.cursor()),
    }


def ask_in_turn(ask: Interactions, known: list[str], done: threading.Event) -> dict[str, list[float]]:
    asked = questions(ask, known)
    times: dict[str, list[float]] = {name: [] for name in asked}
    while not done.is_set():
        for name, question in asked.items():
            begun = time.perf_counter()
            question()
            times[name].append((time.perf_counter() - begun) * 1000)
            done.wait(0.05)
    return times


def live(home: config.Home, ask: Interactions, seconds: float, pace: int) -> dict[str, Any]:
    """Write at a pace, ask, and watch how long a record takes to be seen."""
    done, lags = threading.Event(), []
    known: list[str] = []

    def write() -> None:
        traffic, writer = Traffic(99), SpoolWriter(home.spool / "live")
        begun, written = time.monotonic(), 0
        while not done.is_set():
            while written < (time.monotonic() - begun) * pace and not done.is_set():
                known.append(traffic.append(writer, clock.now_ms()))
                written += 1
            done.wait(0.01)
        writer.seal()

    def watch() -> None:
        eyes = Interactions.at(home)
        while not done.is_set():
            newest, begun = known[-1], time.monotonic()
            while not eyes._key(newest):
                time.sleep(0.025)
            lags.append((time.monotonic() - begun) * 1000)
            done.wait(0.3)
        eyes.close()

    writing, watching = threading.Thread(target=write), threading.Thread(target=watch)
    writing.start()
    until(lambda: len(known) > pace / 2, 0.05)
    watching.start()
    threading.Timer(seconds, done.set).start()
    times = ask_in_turn(ask, known[: pace // 2], done)
    for thread in (writing, watching):
        thread.join()
    everything = [value for values in times.values() for value in values]
    return {
        "load": round(os.getloadavg()[0], 1), "records_per_s": round(len(known) / seconds), "queries": len(everything),
        "query_p50_ms": round(statistics.median(everything), 1), "query_p95_ms": p95(everything),
        "by_query_p95_ms": {name: p95(values) for name, values in times.items() if values},
        "seen_after_ms_p50": round(statistics.median(lags), 1), "seen_after_ms_p95": p95(lags),
    }  # fmt: skip


def p95(values: list[float]) -> float:
    return round(sorted(values)[max(0, int(len(values) * 0.95) - 1)], 1)


def backlog(home: config.Home, rows: int, span_ms: int, name: str) -> int:
    """Two writers, as two gateway workers would; what they wrote appears in the spool at once. Gives its bytes."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); from interactions import spool_from; spool_from(sys.argv)"
    folders = [home.path / f"{name}-{number}" for number in range(2)]
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(rows // 2), str(span_ms), str(folder)])
        for folder in folders
    ]
    codes = [writer.wait() for writer in writers]
    if any(codes):
        raise SystemExit("a writer of the backlog failed")
    size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
    for folder in folders:
        folder.rename(home.spool / folder.name)
    return size


def spool_from(arguments: list[str]) -> None:
    spool(Path(arguments[1]), int(arguments[2]), int(arguments[3]), sum(arguments[4].encode()))


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, of all cores: the figure that a busy machine does not distort."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def taken_in(ask: Interactions, home: config.Home, rows: int, span_ms: int, name: str, pid: int) -> dict[str, Any]:
    """Let a backlog appear and wait until it is found."""
    before = max(0, count(ask))
    size = backlog(home, rows, span_ms, name)
    begun, used = time.monotonic(), cpu_seconds(pid)
    until(lambda: count(ask) >= before + rows // 2 * 2, 0.1)
    took, used = time.monotonic() - begun, cpu_seconds(pid) - used
    print(
        f"{name}: {rows:,} records found after {took:.1f} s, {rows / took:,.0f}/s, {used / rows * 1e6:.0f} us CPU each",
        flush=True,
    )
    return {"load": round(os.getloadavg()[0], 1), "rows": rows, "records_per_s": round(rows / took),
            "cpu_us_per_record": round(used / rows * 1e6), "bytes_per_record": round(size / rows)}  # fmt: skip


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    home = config.Home(folder)
    home.make()
    (home.run / "collector.json").unlink(missing_ok=True)
    if options.filled and not (home.interactions / "chdb").exists():
        filled.fill(home, options.rows)
    database = Database(f"sqlite:///{home.database}")
    metadata.create_all(database.engine)
    ask = Interactions.at(home)
    collector = subprocess.Popen([sys.executable, "-m", "ciranda.interactions.collector", "--home", str(home.path)],
                                 stderr=(home.logs / "collector.log").open("w"),
                                 env={**os.environ, "PYTHONPATH": SOURCE})  # fmt: skip
    try:
        until(lambda: count(ask) >= 0, 0.1)
        past = {"rows": count(ask), "made": "by the engine"}
        if not past["rows"]:
            past = taken_in(ask, home, options.rows, 30 * DAY_MS, "past", collector.pid)
        burst = taken_in(ask, home, options.burst, 60_000, "burst", collector.pid)
        figures = live(home, ask, options.seconds, options.pace)
        until(lambda: not list(home.spool.glob("*/*")), 0.1)
        listed = lists.timed(ask)
        taken = lists.streamed(ask)
        parts = ask._line.rows("SELECT sum(bytes_on_disk) AS n, sum(rows) AS rows FROM system.parts"
                               " WHERE active AND table = 'interactions'")[0]  # fmt: skip
        rolled = ask._line.rows("SELECT sum(requests) AS n FROM minutes")[0]["n"]
        stored = ask.count()
    finally:
        collector.terminate()
        _, _, usage = os.wait4(collector.pid, 0)
        database.close()
    return {
        "past": past, "burst": burst, "live": figures, "lists": listed, "export": taken, "stored": stored, "rolled_up": rolled,
        "bytes_per_record_stored": round(parts["n"] / parts["rows"]), "collector_peak_rss_mb": usage.ru_maxrss // 1024,
    }  # fmt: skip


def keep(result: dict[str, Any]) -> None:
    """Beside the results of other sizes."""
    target = Path(__file__).parent / "results" / "interactions.json"
    target.parent.mkdir(exist_ok=True)
    known = json.loads(target.read_text()) if target.exists() else {}
    sizes = {name: one for name, one in known.items() if name.endswith("rows")}
    sizes[f"{round(result['stored'], -(len(str(result['stored'])) - 1)):,} rows"] = result
    target.write_text(json.dumps(sizes, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="records of the past (1000000 for the target)")
    parser.add_argument("--burst", type=int, default=60_000, help="records of the burst")
    parser.add_argument("--seconds", type=float, default=30, help="how long the live part takes")
    parser.add_argument("--pace", type=int, default=1_000, help="records a second in the live part")
    parser.add_argument("--filled", action="store_true", help="make the past with the engine itself")
    parser.add_argument("--large", action="store_true", help="a filled past of ten million")
    parser.add_argument("--home", type=Path, help="a home that bench/filled.py has made")
    parser.add_argument("--peers", action="store_true", help="also measure MLflow tracing and Phoenix")
    parser.add_argument("--folder", type=Path, help="where the scratch home is made; a temporary folder without it")
    options = parser.parse_args()
    options.rows = 10_000_000 if options.large else options.rows
    options.filled |= options.large
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(options.home or Path(folder) / "home", options)
    result["environment"] = {
        "cores": os.cpu_count(), "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
        "python": platform.python_version(), "chdb": version("chdb"), "clickhouse-connect": version("clickhouse-connect"),
    }  # fmt: skip
    result["held"] = {
        f"durable records/s >= {TARGET_RATE:,}": result["burst"]["records_per_s"] >= TARGET_RATE,
        f"query p95 during ingestion <= {TARGET_P95_MS} ms": result["live"]["query_p95_ms"] <= TARGET_P95_MS,
        "roll-ups agree with rows": result["stored"] == result["rolled_up"],
        f"list or filter p95 <= {lists.TARGET_MS} ms": result["lists"]["list_p95_ms"] <= lists.TARGET_MS,
        f"search p95 <= {lists.SEARCH_MS} ms": result["lists"]["search_p95_ms"] <= lists.SEARCH_MS,
    }
    if options.peers:
        ours = {
            "records_per_s": result["burst"]["records_per_s"], "bytes_per_record": result["bytes_per_record_stored"],
            "query_p95_ms": result["live"]["by_query_p95_ms"]["newest 50"],
        }  # fmt: skip
        result["peers"] = recorders.compared(Path(__file__).parent.parent / "build" / "peers", ours)
        print(recorders.table(result["peers"], ours))
    keep(result)
    print(json.dumps(result, indent=2))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
