"""How soon the platform is there, and what it costs while nobody asks: `make bench-start`.

Three figures to hold: `ciranda up` to all doors open without models, the import of the command line, and the resident memory of
control, collector and one gateway (proportional set size: pages that they share count once). Beside them, without a bound: the
share of a core that the idle platform takes. Medians of several starts in fresh homes. Writes bench/results/start.json.

    python bench/start.py [--rounds 3] [--idle-seconds 10]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
SOURCE = str(HERE.parent / "src")
sys.path.insert(0, SOURCE)
os.environ["PYTHONPATH"] = SOURCE

from ciranda.cli.stage import Stage  # noqa: E402

BOUNDS = {"up_s": 5.0, "cli_import_ms": 300.0, "memory_mb": 700.0}
PARTS = ("control", "collector", "gateway-1")


def timed(*words: str) -> float:
    """Seconds that a Python command takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - began


def imported_ms() -> float:
    """What importing the command line adds to starting Python."""
    return 1000 * (timed("-c", "import ciranda.cli") - timed("-c", "pass"))


def started(idle_s: float) -> dict[str, Any]:
    """One platform in a fresh home, from the command to all doors open, then left alone."""
    folder = Path(tempfile.mkdtemp(prefix="ciranda-bench-"))
    stage = Stage(folder)
    try:
        began = time.perf_counter()
        stage.start()
        up_s = time.perf_counter() - began
        time.sleep(2)  # what starts late, such as the first routing
        family = {name: process(stage, name) for name in PARTS}
        before = {name: spent(one) for name, one in family.items()}
        time.sleep(idle_s)
        return {
            "up_s": up_s,
            "memory_mb": {name: one.memory_full_info().pss / 1e6 for name, one in family.items()},
            "idle_cpu_percent": {name: 100 * (spent(one) - before[name]) / idle_s for name, one in family.items()},
        }
    finally:
        stage.stop()
        shutil.rmtree(folder, ignore_errors=True)


def process(stage: Stage, name: str) -> psutil.Process:
    return psutil.Process(json.loads((stage.home.run / f"{name}.json").read_text())["pid"])


def spent(one: psutil.Process) -> float:
    times = one.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=10.0)
    given = parser.parse_args()
    imports = [imported_ms() for _ in range(5)]
    runs = [started(given.idle_seconds) for _ in range(given.rounds)]

    def median(name: str, part: str) -> float:
        return round(statistics.median(one[name][part] for one in runs), 1)

    parts = {
        part: {"memory_mb": median("memory_mb", part), "idle_cpu_percent": median("idle_cpu_percent", part)}
        for part in PARTS
    }
    figures = {
        "up_s": round(statistics.median(one["up_s"] for one in runs), 2),
        "cli_import_ms": round(statistics.median(imports)),
        "memory_mb": round(sum(one["memory_mb"] for one in parts.values())),
    }
    verdicts = {name: "held" if figures[name] <= bound else "MISSED" for name, bound in BOUNDS.items()}
    result = {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": os.getloadavg()[0],
              **figures, "parts": parts, "verdicts": verdicts}  # fmt: skip
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "start.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, bound in BOUNDS.items():
        print(f"{name:<16}{figures[name]:>9} <= {bound:g}: {verdicts[name]}")
    for part, one in parts.items():
        print(f"{part:<16}{one['memory_mb']:>9} MB {one['idle_cpu_percent']:>6} % of a core when idle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
