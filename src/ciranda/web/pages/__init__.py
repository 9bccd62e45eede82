"""Every page and every form of the product, as one table. Handlers are thin: ask the reader, render; or check, do, go on."""

from __future__ import annotations

from ciranda.web.page import Entry
from ciranda.web.pages import (
    alerts,
    catalogue,
    datasets,
    door,
    fleet,
    govern,
    interactions,
    judges,
    lines,
    palette,
    privacy,
    release,
    reviews,
    runs,
    searches,
    sources,
    suites,
    tracked,
    turns,
    versions,
)

ENTRIES: tuple[Entry, ...] = (
    *door.ENTRIES,
    *fleet.ENTRIES,
    *release.ENTRIES,
    *versions.ENTRIES,
    *turns.ENTRIES,
    *interactions.ENTRIES,
    *catalogue.ENTRIES,
    *datasets.ENTRIES,
    *lines.ENTRIES,
    *tracked.ENTRIES,
    *searches.ENTRIES,
    *runs.ENTRIES,
    *sources.ENTRIES,
    *suites.ENTRIES,
    *reviews.ENTRIES,
    *judges.ENTRIES,
    *alerts.ENTRIES,
    *govern.ENTRIES,
    *privacy.ENTRIES,
    *palette.ENTRIES,
)
