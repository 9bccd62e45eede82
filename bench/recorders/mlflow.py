"""MLflow tracing into SQLite: one span for each call, logged before the next one begins. Runs in MLflow's own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = str(Path(__file__).parent)
sys.path[:] = [one for one in sys.path if one != HERE]  # this file is called as the package is
os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # type: ignore[import-not-found]  # noqa: E402

sys.path.append(HERE)
from calls import calls  # type: ignore[import-not-found]  # noqa: E402


def ask(folder: Path, experiment: str) -> None:
    """Ask for the newest fifty until the file `done` is there, from a process of its own; print the milliseconds."""
    times = []
    while not (folder / "done").exists():
        begun = time.perf_counter()
        mlflow.search_traces(locations=[experiment], max_results=50, return_type="list")
        times.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.2)
    print(json.dumps(times))


def main() -> None:
    """Record, ask meanwhile, print figures."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    if len(sys.argv) > 3:
        ask(folder, sys.argv[3])
        return
    experiment = mlflow.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    made = calls(count)
    command = [sys.executable, __file__, str(count), str(folder), experiment]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    begun = time.perf_counter()
    for request, answer in made:
        with mlflow.start_span("chat", span_type="CHAT_MODEL") as span:
            span.set_inputs(request)
            span.set_outputs(answer)
    took = time.perf_counter() - begun
    (folder / "done").touch()
    times = json.loads(asking.communicate(timeout=60)[0])
    p95 = sorted(times)[max(0, int(len(times) * 0.95) - 1)]
    print(json.dumps({"records_per_s": round(count / took, 1), "query_p95_ms": round(p95, 1), "queries": len(times)}))


main()
