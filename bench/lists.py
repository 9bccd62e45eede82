"""The questions of the page of interactions, one reader, nobody writing: each some thirty times, so that a p95 says something.

What is timed is what the page's server asks the store for one view (the lines and their votes: one to four questions over HTTP),
so `list` and `search` stand beside the budget of the design's pages for a million rows. The export is read as a stream, with the
memory that this process grew by.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

import filled

from ciranda.interactions import export
from ciranda.interactions.query import Interactions
from ciranda.store import clock

TARGET_MS, SEARCH_MS = 50, 150
TIMES, PAGE = 30, 51
EXPORTED = 50_000


def views(ask: Interactions) -> Mapping[str, Callable[[], Any]]:
    """What is looked at; names that begin with `search` have the larger budget."""
    dice = random.Random(11)
    far = next(iter(ask.glance(limit=1, until=clock.now() - timedelta(days=15)))).place
    known = [one.id for one in ask.glance(limit=200)]
    cursor = str(int(ask.cursor()) - 200)

    def word() -> str:
        return dice.choice(filled.WORDS)

    def ticket() -> str:
        return f"ticket{dice.randrange(100_000)}"

    return {
        "newest": lambda: ask.glance(limit=PAGE),
        "of a model": lambda: ask.glance(limit=PAGE, model="model-3"),
        "of a rare model": lambda: ask.glance(limit=PAGE, model="model-11"),
        "of a version": lambda: ask.glance(limit=PAGE, version="model-3@2"),
        "failures": lambda: ask.glance(limit=PAGE, status=5),
        "failures of a rare model": lambda: ask.glance(limit=PAGE, status=5, model="model-11"),
        "thumbs down": lambda: ask.glance(limit=PAGE, thumb=-1),
        "thumbs down of a rare model": lambda: ask.glance(limit=PAGE, thumb=-1, model="model-11"),
        "of a user": lambda: ask.glance(limit=PAGE, user=f"user{dice.randrange(20_000)}"),
        "last 15 minutes": lambda: ask.glance(limit=PAGE, since=clock.now() - timedelta(minutes=15)),
        "15 days back": lambda: ask.glance(limit=PAGE, before=far),
        "failures, 15 days back": lambda: ask.glance(limit=PAGE, before=far, status=5),
        "tail": lambda: ask.since(cursor, limit=200),
        "one, whole": lambda: ask.get(dice.choice(known)),
        "search, a common word": lambda: ask.glance(limit=PAGE, search=word()),
        "search, two words": lambda: ask.glance(limit=PAGE, search=f"{word()} {word()}"),
        "search, a rare word": lambda: ask.glance(limit=PAGE, search=ticket()),
        "search, a rare word of a model": lambda: ask.glance(limit=PAGE, search=ticket(), model="model-3"),
        "search, a word nobody said": lambda: ask.glance(limit=PAGE, search="unheard"),
        "search, a phrase": lambda: ask.glance(limit=PAGE, search=f'"{word()} {word()}"'),
    }


def timed(ask: Interactions) -> dict[str, Any]:
    """Milliseconds of each view; `list_p95_ms` and `search_p95_ms` are over all questions of their kind."""
    times: dict[str, list[float]] = {}
    for name, view in views(ask).items():
        view()  # what is read at all is read into the system's memory
        times[name] = [_took(view) for _ in range(TIMES)]
    lists = [one for name, found in times.items() if not name.startswith("search") for one in found]
    searches = [one for name, found in times.items() if name.startswith("search") for one in found]
    return {
        "list_p50_ms": round(statistics.median(lists), 1), "list_p95_ms": _p95(lists),
        "search_p50_ms": round(statistics.median(searches), 1), "search_p95_ms": _p95(searches),
        "by_view_ms": {name: {"p50": round(statistics.median(found), 1), "p95": _p95(found)} for name, found in times.items()},
    }  # fmt: skip


def streamed(ask: Interactions) -> dict[str, Any]:
    """The export, as JSON lines: records a second of the first `EXPORTED`, and what this process grew by."""
    before, begun, size = _peak_mb(), time.perf_counter(), 0
    for piece in export.written(islice(ask.everything(), EXPORTED), "jsonl"):
        size += len(piece)
    took = time.perf_counter() - begun
    return {"records_per_s": round(EXPORTED / took), "mb": size >> 20, "grown_mb": _peak_mb() - before}


def _took(view: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    view()
    return (time.perf_counter() - begun) * 1000


def _p95(values: list[float]) -> float:
    return round(sorted(values)[max(0, int(len(values) * 0.95) - 1)], 1)


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
