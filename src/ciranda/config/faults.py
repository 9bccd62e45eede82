"""What pydantic found wrong, as one of our errors: the name, what was wrong with it, the value, and what would be known there."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from ciranda.errors import Invalid


def name_of(error: ValidationError) -> str:
    """The dotted name of the first thing that is wrong."""
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def invalid(error: ValidationError, *, what: str, where: str, known: Iterable[str], of: str) -> Invalid:
    """The first thing that is wrong with values from outside.

    Args:
        what: What a name stands for there: `setting`, `limit`.
        known: The names that there are; `of` says of what, in the plural: `settings`.
    """
    first = error.errors()[0]
    reason = f"{what} {name_of(error)!r}: {first['msg']} (got {first['input']!r:.200})"
    return Invalid(reason, where=where, remedy=f"{of} are: {', '.join(known)}")
