"""Versions of a large dataset: ours beside DVC on JSON lines and plain Hugging Face datasets, on the same rows in one run.

    python bench/data.py                   1M rows, some minutes
    python bench/data.py --rows 10000000   memory at 10M rows, ours alone

First version, 1 % more rows, 0.1 % edited at random places, and what changed between the last two. Ours commits the first version
from the same JSON lines through the cheap checks; a change is `amend`, which gets the changed rows. DVC gets the changed file:
writing it is timed apart and not counted against it. `diff` tells which rows came, went and changed, by id and count (DVC: that the
file changed); `diff with rows` brings these rows too. Each system works in a process of its own; its figures are seconds on the
wall, its disk is what its folder grew by (DVC's working copy counts as its folder: it is what one works with). Hugging Face
datasets have no versions: each is saved as a folder. Held: DESIGN's figures for 1M rows, and 4 GB of memory. Figures go to
bench/results/data.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

BUILD = HERE.parent / "build/bench-data"
PEERS = {"dvc": ("dvc==3.67.1",), "hf": ("datasets==5.2.0",)}
CHECKS = {
    "schema": "warn", "length": "warn", "conflicts": "warn", "duplicates": "drop", "contamination": "warn",
    "balance": "warn",
}  # fmt: skip
DEAR = ("language", "pii", "secrets", "toxicity", "near_duplicates")  # each timed alone, on a part of the rows
PART = 20_000
SEED = 7
TOGETHER = "all together, pages they share once"


# --- rows -------------------------------------------------------------------------------------------------------------


def written(rows: int) -> dict[str, Path]:
    """The three states of the dataset as JSON lines, and the rows that lead from one to the next; made once."""
    folder = BUILD / f"rows-{rows}"
    files = {name: folder / f"{name}.jsonl" for name in ("first", "more", "changed")}
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(files, rows)
        (folder / "whole").touch()
    return files


def _write(files: dict[str, Path], rows: int) -> None:
    dice = random.Random(SEED)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(5000)]
    edits = set(dice.sample(range(rows), max(1, rows // 1000)))
    with files["first"].open("w") as first, files["changed"].open("w") as changed, files["more"].open("w") as more:
        for number in range(rows + rows // 100):
            line = json.dumps(_row(dice, words, number)) + "\n"
            (first if number < rows else more).write(line)
            if number in edits:
                changed.write(
                    json.dumps({**json.loads(line), "completion": "put right: " + words[number % 5000]}) + "\n"
                )


def _row(dice: random.Random, words: list[str], number: int) -> dict[str, Any]:
    prompt, completion = (" ".join(dice.choices(words, k=k)) for k in (dice.randint(10, 40), dice.randint(60, 120)))
    split = "test" if number % 10 == 0 else "train"
    return {
        "prompt": f"{number} {prompt}", "completion": completion, "language": "en", "split": split,
        "group": f"g{number // 5 * 5 if number % 10 else number}", "source": "synthetic", "origin": f"first.jsonl:{number}",
    }  # fmt: skip


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """All steps with our own library."""
    from ciranda.config import Home
    from ciranda.data import checks, compare, versions
    from ciranda.data.columns import Sealed
    from ciranda.store.database import Database, metadata

    home = Home(folder)
    home.make()
    db = Database(f"sqlite:///{home.database}")
    metadata.create_all(db.engine)
    told: dict[str, Any] = {}
    kept: Any = {"transformation": {"kind": "bench"}, "actor": "bench"}

    def first() -> None:
        with checks.judge(batches(files["first"]), CHECKS, folder=home.datasets) as judged:
            report = judged.report.to_dict()
            versions.commit(db, home, "rows", judged.batches(), report=report, findings=judged.findings, **kept)
        told["checks"] = {name: one["rows_per_second"] for name, one in report["checks"].items()}

    changed, added = list(batches(files["changed"])), list(batches(files["more"]))
    before = _keys(files, changed)
    steps: dict[str, Callable[[], Any]] = {
        "first": first,
        "append": lambda: versions.amend(db, home, "rows", add=added, **kept),
        "edit": lambda: versions.amend(db, home, "rows", add=changed, remove=before, **kept),
        "diff": lambda: compare.difference(home, "rows@2", "rows@3").counts,
        "diff with rows": lambda: versions.diff(home, "rows@2", "rows@3"),
        "read": lambda: sum(len(batch) for batch in versions.batches(home, "rows@1")),
        "same again": lambda: versions.commit(db, home, "rows", Sealed(versions.batches(home, "rows@3")), **kept),
    }  # fmt: skip
    told |= measured(steps, home.datasets)
    told["found"] = versions.diff(home, "rows@2", "rows@3").summary()
    told["rows"] = [versions.get(db, f"rows@{number}").rows for number in (1, 2, 3)]
    return told


def _keys(files: dict[str, Path], changed: list[Any]) -> list[str]:
    """Keys of the rows that were edited: what a person who edits a row has in hand."""
    wanted = {origin for batch in changed for origin in batch.column("origin").to_pylist()}
    known = files["first"].with_name("keys.json")
    if not known.exists():
        from ciranda.data import columns

        found = {}
        for batch in columns.batches_of(batches(files["first"])):
            pairs = zip(batch.column("origin").to_pylist(), batch.column("key").to_pylist(), strict=True)
            found |= {origin: key for origin, key in pairs if origin in wanted}
        known.write_text(json.dumps(found))
    return list(json.loads(known.read_text()).values())


def batches(path: Path) -> Iterator[Any]:
    """JSON lines as Arrow batches, block by block."""
    from pyarrow import json as reader

    with reader.open_json(path, read_options=reader.ReadOptions(block_size=8 << 20)) as opened:
        yield from opened


def speeds(files: dict[str, Path]) -> dict[str, int]:
    """Rows per second of the dear checks, each alone on a part of the rows in one process."""
    from itertools import islice

    from ciranda.data import checks, columns

    rows = [row for batch in islice(columns.batches_of(batches(files["first"])), 3) for row in columns.rows_of(batch)]
    told = {}
    for name in DEAR:
        if name in checks.CHECKS:
            report = checks.run(rows[:PART], {name: "warn"}).to_dict()
            told[name] = report["checks"][name]["rows_per_second"]
    return told


# --- others -----------------------------------------------------------------------------------------------------------


def dvc(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """The same with DVC and git, as their guide says: add the file, commit the pointer."""
    bin_ = BUILD / "dvc/venv/bin"
    named = {"GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@b", "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@b"}
    environment = {**os.environ, **named, "PATH": f"{bin_}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    def kept(message: str) -> None:
        run("dvc", "add", "-q", "rows.jsonl")
        run("git", "add", "-A")
        run("git", "commit", "-qm", message)
        run("git", "tag", message)

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    data, took = folder / "rows.jsonl", {}
    shutil.copy(files["first"], data)
    steps: dict[str, Callable[[], Any]] = {"first": lambda: kept("first")}
    told = measured(steps, folder)
    for step in ("append", "edit"):
        began = time.perf_counter()
        data.unlink()
        _rewritten(files, data, step)
        took[step] = round(time.perf_counter() - began, 2)
        found = measured({step: lambda step=step: kept(step)}, folder)
        both = {name: {**told[name], **found[name]} for name in ("disk_mb", "cpu_s")}
        told = {**told, **found, **both}
    found = measured({"diff": lambda: run("dvc", "diff", "append", "edit")}, folder)
    told["diff_s"], told["cpu_s"]["diff"] = found["diff_s"], found["cpu_s"]["diff"]
    return {**told, "writing the changed file": took}


def _rewritten(files: dict[str, Path], target: Path, step: str) -> None:
    """The next state of the file."""
    edits = {}
    if step == "edit":
        edits = {json.loads(line)["origin"]: line for line in files["changed"].open()}
    with target.open("w") as file:
        for part in ("first", "more"):
            for line in files[part].open():
                file.write(edits.get(_origin(line), line) if edits else line)


def _origin(line: str) -> str:
    return line[line.rindex('"origin": "') + 11 : -3]


def hf(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """The same with plain `datasets` in its own environment."""
    script = f"""
import json, sys, time, os
import datasets
from datasets import concatenate_datasets, load_dataset, load_from_disk
datasets.disable_progress_bars()
F, D, C = {str(files["first"])!r}, {str(folder)!r}, {str(folder / "cache")!r}
size = lambda: sum(os.path.getsize(os.path.join(a, f)) for a, _, fs in os.walk(D) for f in fs if not a.startswith(C))
took, grew = {{}}, {{}}
def step(name, act):
    before, began = size(), time.perf_counter()
    act()
    took[name + "_s"], grew[name] = round(time.perf_counter() - began, 3), round((size() - before) / 1e6, 1)
def read(path):
    return load_dataset("json", data_files=path, split="train", cache_dir=C)
step("first", lambda: read(F).save_to_disk(D + "/v1"))
more = read({str(files["more"])!r})
step("append", lambda: concatenate_datasets([load_from_disk(D + "/v1"), more]).save_to_disk(D + "/v2"))
edits = {{one["origin"]: one["completion"] for one in map(json.loads, open({str(files["changed"])!r}))}}
edit = lambda row: {{"completion": edits.get(row["origin"], row["completion"])}}
step("edit", lambda: load_from_disk(D + "/v2").map(edit).save_to_disk(D + "/v3"))
print(json.dumps({{**took, "disk_mb": grew}}))
"""
    python = str(BUILD / "hf/venv/bin/python")
    ended = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


# --- measuring --------------------------------------------------------------------------------------------------------


def measured(steps: dict[str, Callable[[], Any]], folder: Path) -> dict[str, Any]:
    """Seconds of each step on the wall and of processors (children included), and what the folder grew by."""
    told: dict[str, Any] = {"disk_mb": {}, "cpu_s": {}}
    for name, act in steps.items():
        before, worked, began = _size(folder), _worked(), time.perf_counter()
        act()
        told[f"{name}_s"] = round(time.perf_counter() - began, 3)
        told["cpu_s"][name] = round(_worked() - worked, 3)
        told["disk_mb"][name] = round((_size(folder) - before) / 1e6, 2)
    return told


def _worked() -> float:
    """Processor seconds of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())


def alone(system: str, rows: int) -> dict[str, Any]:
    """One system in a process of its own, with the peak memory of it and its children, and of all of them together."""
    command = [sys.executable, __file__, "--rows", str(rows), "--system", system]
    most = 0
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, stdout=said) as running:
            while running.poll() is None:
                most = max(most, together(running.pid))
                time.sleep(0.5)
        if running.returncode:
            return {"failed": f"ended with {running.returncode}"}
        said.seek(0)
        told: dict[str, Any] = json.loads(said.read().splitlines()[-1])
    told["peak_rss_mb"][TOGETHER] = most
    return told


def together(pid: int) -> int:
    """Megabytes that a process and all its descendants hold, where a page that several share counts once."""
    import psutil

    held = 0
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for one in [first, *first.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                held += one.memory_full_info().pss
    return held >> 20


def child(system: str, rows: int) -> None:
    """What `alone` runs."""
    files, folder = written(rows), BUILD / f"work-{system}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = {"ours": ours, "dvc": dvc, "hf": hf}[system](files, folder)
    used = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    told["peak_rss_mb"] = dict(zip(("process", "largest child"), (round(one / 1024) for one in used), strict=True))
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(told))


def verdicts(found: dict[str, Any], sizes: dict[str, float], rows: int) -> dict[str, bool]:
    """The figures of the design, held or not."""
    mine, theirs = found["ours"], found.get("dvc", {})
    held = {
        "append grows the disk by <= 1.5 of what came": mine["disk_mb"]["append"] <= 1.5 * sizes["more"],
        "edit grows the disk by <= 1.5 of what changed": mine["disk_mb"]["edit"] <= 1.5 * sizes["changed"],
        "memory of the process and its workers <= 4 GB": mine["peak_rss_mb"][TOGETHER] <= 4096,
    }
    if rows == 1_000_000:
        held["first commit of 1M rows with cheap checks <= 30 s"] = mine["first_s"] <= 30
    for step in ("append", "edit", "diff"):
        if f"{step}_s" in theirs:
            held[f"{step} >= 10x faster than DVC"] = theirs[f"{step}_s"] >= 10 * mine[f"{step}_s"]
    return held


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--system", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.system:
        child(asked.system, asked.rows)
        return
    import foreign

    files, before = written(asked.rows), os.getloadavg()[0]
    found: dict[str, Any] = {"ours": alone("ours", asked.rows)}
    for name, packages in PEERS.items():
        if asked.rows <= 1_000_000:
            why = foreign.install(BUILD / name, packages)
            found[name] = {"failed": why} if why else alone(name, asked.rows)
    sizes = {name: round(files[name].stat().st_size / 1e6, 2) for name in ("first", "more", "changed")}
    result = {
        "rows": asked.rows, "json_mb": sizes, **found, "one process, rows/s": speeds(files),
        "held": verdicts(found, sizes, asked.rows),
        "environment": {
            "cores": os.cpu_count(), "load_before": round(before, 1), "load_after": round(os.getloadavg()[0], 1),
            "python": sys.version.split()[0], "pylance": version("pylance"),
        },
    }  # fmt: skip
    kept = HERE / "results/data.json"
    whole = json.loads(kept.read_text()) if kept.exists() else {}
    whole[str(asked.rows)] = result
    kept.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
