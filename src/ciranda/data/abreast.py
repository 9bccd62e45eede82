"""Several looks at once, each in a thread with the context of its caller: Lance reads without holding the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

AT_MOST = 8


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each gives, in their order; an error of one is raised when all have ended."""
    with beside() as start:
        return [one.result() for one in [start(act) for act in acts]]


@contextmanager
def beside() -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """Gives what starts an act beside the block (at most AT_MOST at a time); all have ended when the block has, by an error too.

    An act may wait for one that was started before it.
    """
    with ThreadPoolExecutor(AT_MOST) as pool:
        yield lambda act: pool.submit(copy_context().run, act)
