"""A workflow survives kill -9 at every point, and nothing committed runs twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ciranda.errors import Conflict
from ciranda.jobs.durable import Leader

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from ciranda.jobs.durable import Durable, Leader

folder, kill_at = Path(sys.argv[1]), sys.argv[2]
leader = Leader(folder / "leader.lock")
leader.take()

def effect(name):
    if kill_at == f"begin:{name}": os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "effects.txt").open("a") as file: file.write(name + "\\n")
    if kill_at == f"end:{name}": os.kill(os.getpid(), signal.SIGKILL)
    return {"did": name}

def body(run, payload):
    done = []
    for name in payload["names"]:
        done.append(run.step(name, effect, name)["did"])
        if kill_at == f"after:{name}": os.kill(os.getpid(), signal.SIGKILL)
    return {"done": done}

durable = Durable(f"sqlite:///{folder}/flow.db", {"turn_v1": body})
durable.launch()
durable.start("turn_v1", "turn:smart-home:1", {"names": ["data", "train", "gate", "release"]})
result = durable.wait("turn:smart-home:1")
(folder / "result.txt").write_text(",".join(result["done"]))
durable.close()
"""

STEPS = ["data", "train", "gate", "release"]


def run(folder: Path, kill_at: str) -> int:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run([sys.executable, str(program), str(folder), kill_at], timeout=60).returncode


@pytest.mark.parametrize("kill_at", ["begin:data", "after:train", "end:gate", "after:release"])
def test_a_killed_turn_resumes_where_it_was(tmp_path, kill_at):
    assert run(tmp_path, kill_at) == -signal.SIGKILL
    assert run(tmp_path, "never") == 0
    assert (tmp_path / "result.txt").read_text() == ",".join(STEPS)
    effects = (tmp_path / "effects.txt").read_text().split()
    in_flight = kill_at.removeprefix("end:") if kill_at.startswith("end:") else ""
    for step in STEPS:
        assert effects.count(step) == (2 if step == in_flight else 1), f"{step} ran {effects.count(step)} times"


def test_the_same_id_is_one_workflow(tmp_path):
    assert run(tmp_path, "never") == 0
    assert run(tmp_path, "never") == 0
    assert (tmp_path / "effects.txt").read_text().split() == STEPS


def test_one_leads_and_its_death_frees_the_lead(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from ciranda.jobs.durable import Leader\n"
            f"Leader(Path({str(tmp_path / 'leader.lock')!r})).take(); print('leads', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "leads\n"
    with pytest.raises(Conflict, match=f"pid {holder.pid}"):
        Leader(tmp_path / "leader.lock").take()
    holder.kill()
    holder.wait()
    began = time.monotonic()
    Leader(tmp_path / "leader.lock").take()
    assert time.monotonic() - began < 5
