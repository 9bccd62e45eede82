"""Other stores of recorded calls, given the same records, for `bench/interactions.py`.

Each peer is installed at a pinned version into a folder of its own (`build/peers/`, removed by `make clean`), never into the
environment of the project, and driven by a small script with its own client in its own environment: calls of 3 KB are recorded as
fast as it takes them, while the newest fifty are asked for again and again. It is timed until the last one is found. One that does
not install or run is named in the table with the reason, not hidden. Each is as it comes: SQLite in a folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import foreign

RUN_S = 300
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """What to install, and how many calls it gets: so many as take it about ten seconds."""

    name: str
    package: str
    version: str
    calls: int

    def figures(self, root: Path) -> dict[str, Any]:
        """What it does with the calls, or `missing`: why it could not be measured."""
        folder = root / f"{self.package}-{self.version}"
        if missing := foreign.install(folder, [f"{self.package}=={self.version}"]):
            return {"missing": missing}
        scratch = folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        script = str(HERE / f"{self.name}.py")
        command = [str(folder / "venv/bin/python"), script, str(self.calls), str(scratch)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False, cwd=scratch)
        except subprocess.TimeoutExpired:
            return {"missing": f"not done with {self.calls} calls within {RUN_S} s"}
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or [f"code {ended.returncode}"]
            return {"missing": f"does not run: {said[-1][:200]}"}
        found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
        found["bytes_per_record"] = round(
            sum(one.stat().st_size for one in scratch.rglob("*") if one.is_file()) / self.calls
        )
        return found


PEERS = (
    Peer("mlflow", "mlflow", "3.17.2", 300),
    Peer("phoenix", "arize-phoenix", "20.26.1", 2_000),
)


def compared(root: Path, ours: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each peer with its figures, and how many times ours are better."""
    rows = []
    for peer in PEERS:
        print(f"{peer.package} {peer.version} …", flush=True)
        found = peer.figures(root)
        row: dict[str, Any] = {"peer": peer.package, "version": peer.version, "calls": peer.calls, **found}
        if "missing" not in found:
            row["ratios"] = {
                "records_per_s": round(ours["records_per_s"] / found["records_per_s"], 1),
                "query_p95_ms": round(found["query_p95_ms"] / ours["query_p95_ms"], 1),
                "bytes_per_record": round(found["bytes_per_record"] / ours["bytes_per_record"], 1),
            }
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], ours: Mapping[str, float]) -> str:
    """The comparison as Markdown."""
    names = ("records_per_s", "query_p95_ms", "bytes_per_record")
    lines = ["| store | records/s | newest 50, p95 ms, while recording | bytes per record | times ours is better |",
             "|---|---|---|---|---|",
             "| ciranda | " + " | ".join(f"{ours[name]:,.0f}" for name in names) + " | |"]  # fmt: skip
    for row in rows:
        name = f"{row['peer']} {row['version']}"
        if "missing" in row:
            lines.append(f"| {name} | {row['missing']} | | | |")
            continue
        figures = " | ".join(f"{row[name]:,.0f}" for name in names)
        ratios = ", ".join(f"{row['ratios'][name]:g}" for name in names)
        lines.append(f"| {name} | {figures} | {ratios} |")
    return "\n".join(lines)
