"""Cron lines, in UTC: whether one is valid, and when it comes next. The only file that names `croniter`."""

from __future__ import annotations

from datetime import datetime

from croniter import croniter


def valid(line: str) -> bool:
    """Whether a line has five fields that can be."""
    return len(line.split()) == 5 and croniter.is_valid(line)


def following(line: str, moment: datetime) -> datetime:
    """The first time of a line after a moment."""
    found: datetime = croniter(line, moment).get_next(datetime)
    return found
