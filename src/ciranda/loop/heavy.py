"""Waiting for heavy work: a step of a turn only looks, again and again, at a job that runs by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ciranda.errors import Failed
from ciranda.loop.platform import Platform

POLL_S = 0.1
ATTEMPTS = 3
Told = Callable[[str], None]


def await_job(platform: Platform, key: str, again: Callable[[], Any], *, tell: Told) -> None:
    """Wait for a job's end, telling what its progress says; one that died without a result is run again.

    Raises:
        Failed: It failed, or died too often.
    """
    offset = 0
    while True:
        state = platform.jobs.status(key)
        lines, offset = platform.jobs.progress(key, offset)
        if lines and lines[-1].get("all"):
            tell(f"{lines[-1]['done']} of {lines[-1]['all']} cases")
        if state.state == "succeeded":
            return
        if state.state == "failed" or (state.state == "lost" and state.attempt >= ATTEMPTS):
            raise failed(platform, key, f"the job {key} {state.state}")
        if state.state in ("lost", "unknown"):
            again()
        time.sleep(POLL_S)


def failed(
    platform: Platform, key: str, what: str, *, remedy: str = "mend what the log says, then ask again: `ciranda train`"
) -> Failed:
    state = platform.jobs.status(key)
    log, _ = platform.jobs.logs(key, 0)
    end = log[-800:].decode(errors="replace").strip()
    return Failed(
        f"{what}: {state.reason or f'exit code {state.exit_code}'}; its log ends: {end}",
        where=f"job {key}",
        remedy=remedy,
    )
