"""Jobs of one machine: started once, found again after a crash, run again when they were lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ciranda.errors import Failed, Invalid
from ciranda.jobs import process
from ciranda.jobs.local import JobSpec, Local


def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def shell(folder: Path, script: str, *, timeout_s: float | None = None) -> JobSpec:
    return JobSpec(argv=("/bin/sh", "-c", script), folder=folder, timeout_s=timeout_s)


def pid_of(jobs: Local, key: str) -> int:
    return int(json.loads((jobs.root / key / "job.json").read_text())["process"]["pid"])


@pytest.fixture
def jobs(tmp_path: Path) -> Local:
    return Local(tmp_path / "jobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "train"


def test_a_job_succeeds_and_its_output_is_collected(jobs: Local, folder: Path) -> None:
    jobs.submit(
        "train", shell(folder, 'echo hello; echo "{\\"step\\": 1}" >> progress.jsonl; printf torn >> progress.jsonl')
    )
    until(lambda: jobs.status("train").state == "succeeded")
    assert jobs.status("train").exit_code == 0
    assert jobs.collect("train") == folder
    text, offset = jobs.logs("train")
    assert (text, offset) == (b"hello\n", 6)
    assert jobs.logs("train", offset) == (b"", 6)
    assert jobs.progress("train") == ([{"step": 1}], 12)


def test_a_failure_says_its_code_and_the_end_of_its_log(jobs: Local, folder: Path) -> None:
    jobs.submit("train", shell(folder, "echo out of ideas >&2; exit 3"))
    until(lambda: jobs.status("train").state == "failed")
    assert jobs.status("train").exit_code == 3
    with pytest.raises(Failed, match="out of ideas"):
        jobs.collect("train")
    jobs.submit("train", shell(folder, "exit 0"))  # finished is finished
    assert jobs.status("train").state == "failed"


def test_a_missing_command_is_named(jobs: Local, folder: Path) -> None:
    jobs.submit("train", JobSpec(argv=("/no/such/trainer",), folder=folder))
    until(lambda: jobs.status("train").state == "failed")
    assert jobs.status("train").reason == "no such command: /no/such/trainer"


def test_a_key_never_submitted_is_unknown(jobs: Local) -> None:
    assert jobs.status("nothing").state == "unknown"
    assert jobs.progress("nothing") == ([], 0)
    jobs.cancel("nothing")
    assert jobs.keys() == []


@pytest.mark.parametrize("key", ["", "../elsewhere", "a/b", ".hidden", "x" * 201])
def test_a_key_that_is_no_folder_name_is_refused(jobs: Local, folder: Path, key: str) -> None:
    with pytest.raises(Invalid):
        jobs.submit(key, shell(folder, "true"))


def test_submitting_twice_runs_it_once(jobs: Local, folder: Path) -> None:
    for _ in range(3):
        jobs.submit("train", shell(folder, "echo begun >> begun; sleep 60"))
    until(lambda: (folder / "begun").exists())
    assert (folder / "begun").read_text() == "begun\n"
    jobs.cancel("train", grace_s=1)
    state = jobs.status("train")
    assert (state.state, state.reason) == ("failed", "it was cancelled")


def test_many_processes_submit_at_once_and_one_job_runs(jobs: Local, folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ciranda.jobs.local import JobSpec, Local\n"
        "root = Path(sys.argv[1]); sys.stdin.readline()\n"
        "Local(root).submit('train', JobSpec(('/bin/sh','-c','echo begun >> begun; sleep 60'), root / 'train'))"
    )
    submitters = [
        subprocess.Popen([sys.executable, "-c", code, str(jobs.root)], stdin=subprocess.PIPE) for _ in range(4)
    ]
    for each in submitters:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.close()
    assert [each.wait(30) for each in submitters] == [0, 0, 0, 0]
    until(lambda: (folder / "begun").exists())
    assert (folder / "begun").read_text() == "begun\n"  # and it outlived all who asked for it
    assert jobs.status("train").state == "running"
    jobs.cancel("train", grace_s=1)


def test_the_work_killed_from_outside_is_lost_and_continues_from_its_checkpoint(jobs: Local, folder: Path) -> None:
    work = "test -f checkpoint && exit 0; touch checkpoint; echo $$ > pid; sleep 60"
    jobs.submit("train", shell(folder, work))
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    until(lambda: jobs.status("train").state == "lost")
    assert "signal 9" in jobs.status("train").reason
    jobs.submit("train", shell(folder, work))
    until(lambda: jobs.status("train").state == "succeeded")
    assert jobs.status("train").attempt == 2


def test_when_only_the_wrapper_is_killed_the_stray_ends_before_the_next_attempt(jobs: Local, folder: Path) -> None:
    jobs.submit("train", shell(folder, "echo $$ >> pids; sleep 60"))
    until(lambda: (folder / "pids").exists() and (folder / "pids").read_text().strip())
    stray = process.identify(int((folder / "pids").read_text()))
    os.kill(pid_of(jobs, "train"), signal.SIGKILL)
    until(lambda: jobs.status("train").state == "lost")
    assert process.alive(stray)
    jobs.submit("train", shell(folder, "echo $$ >> pids; sleep 60"))
    assert not process.alive(stray)
    until(lambda: len((folder / "pids").read_text().split()) == 2)
    jobs.cancel("train", grace_s=1)


def test_the_third_loss_is_a_failure(jobs: Local, folder: Path) -> None:
    for attempt in (1, 2, 3):
        jobs.submit("train", shell(folder, "kill -9 $$"))
        until(lambda: jobs.status("train").state != "running")
        assert jobs.status("train").attempt == attempt
    assert jobs.status("train").state == "failed"
    assert "3 times" in jobs.status("train").reason


def test_cancel_ends_a_stubborn_job_and_everything_it_started(jobs: Local, folder: Path) -> None:
    jobs.submit("train", shell(folder, "trap '' TERM; sleep 60 & echo $! > child; while true; do sleep 0.05; done"))
    until(lambda: (folder / "child").exists() and (folder / "child").read_text().strip())
    child = process.identify(int((folder / "child").read_text()))
    jobs.cancel("train", grace_s=0.2)
    assert jobs.status("train").state == "failed"
    until(lambda: not process.alive(child))
    jobs.submit("train", shell(folder, "exit 0"))
    assert jobs.status("train").reason == "it was cancelled"


def test_a_job_past_its_time_is_ended(jobs: Local, folder: Path) -> None:
    jobs.submit("train", shell(folder, "sleep 60", timeout_s=0.2))
    until(lambda: jobs.status("train").state == "failed")
    assert jobs.status("train").reason == "it ran longer than 0.2 s"


STARTER = """
import sys; from pathlib import Path; from ciranda.jobs.local import JobSpec, Local
root = Path(sys.argv[1])
Local(root).submit('train', JobSpec(('/bin/sh', '-c', 'echo begun >> begun; sleep 1; exit 7'), root / 'train'))
print('submitted', flush=True); sys.stdin.readline()
"""


def test_a_new_process_adopts_the_job_of_one_that_was_killed(jobs: Local, folder: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(jobs.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"submitted\n"
        starter.kill()
    assert jobs.status("train").state == "running"
    jobs.submit("train", shell(folder, "exit 0"))
    until(lambda: jobs.status("train").state == "failed")
    assert jobs.status("train").exit_code == 7
    assert (folder / "begun").read_text() == "begun\n"


def test_a_starter_killed_at_any_moment_leaves_a_job_that_can_be_found_or_none(jobs: Local, folder: Path) -> None:
    """kill -9 after 0, 3, 6 … ms; afterwards one submit always ends with exactly one running job."""
    for number in range(8):
        key = f"train-{number}"
        here = jobs.root / key
        code = STARTER.replace("'train'", f"'{key}'").replace("sleep 1; exit 7", "sleep 30")
        starter = subprocess.Popen([sys.executable, "-c", code, str(jobs.root)], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        with starter:
            until(lambda: here.exists())  # noqa: B023  (asked within this turn)
            time.sleep(number * 0.003)
            starter.kill()
        jobs.submit(key, shell(here, "echo begun >> begun; sleep 30"))
        assert jobs.status(key).state == "running"
        until(lambda: (here / "begun").exists())  # noqa: B023
        assert len(process.marked(f"CIRANDA_JOB={here}")) <= 2  # the shell and its sleep
        jobs.cancel(key, grace_s=1)
        assert process.marked(f"CIRANDA_JOB={here}") == []


def test_a_number_used_again_is_not_taken_for_the_job(jobs: Local, folder: Path) -> None:
    jobs.submit("train", shell(folder, "sleep 60"))
    file = jobs.root / "train" / "job.json"
    jobs_own = json.loads(file.read_text())
    stranger = process.identify(os.getpid())
    forged = jobs_own | {"process": {"pid": stranger.pid, "ticks": stranger.ticks + 1, "boot": stranger.boot}}
    file.write_text(json.dumps(forged))
    assert jobs.status("train").state == "lost"
    jobs.cancel("train")  # must not touch the stranger, which is this test
    file.write_text(json.dumps(jobs_own))
    process.end(process.Identity(**jobs_own["process"]), grace_s=1)
