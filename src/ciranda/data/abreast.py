"""Several looks at once, each in a thread with the context of its caller: Lance reads without holding the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each gives, in their order; an error of one is raised when all have ended."""
    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result() for one in [pool.submit(copy_context().run, act) for act in acts]]
