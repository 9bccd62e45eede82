"""The fields of a row as people and policies name them: the fixed ones, and `extra.<name>` for what else a source brought.

Tags, terms, policies and statistics speak of the same fields, so that a tag set in the catalogue is the tag that a policy finds.
The empty name means the dataset as a whole.
"""

from __future__ import annotations

import re

from ciranda.errors import Invalid

FIELDS = (
    "messages",
    "completion",
    "rejected",
    "language",
    "group",
    "split",
    "source",
    "origin",
    "subject",
    "thumb",
    "tags",
)
EXTRA = re.compile(r"extra\.[^\s/\x00-\x1f]{1,100}")
DATASET = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def field(name: str) -> str:
    """The name, if a row may have such a field (or the dataset itself is meant). Raises Invalid."""
    if name and name not in FIELDS and not EXTRA.fullmatch(name):
        raise Invalid(
            f"rows have no field {name[:120]!r}",
            where="field",
            remedy=f"fields are {', '.join(FIELDS)} and extra.<name>; without one the whole dataset is meant",
        )
    return name


def dataset(name: str) -> str:
    """The name, if a dataset may be called so. Raises Invalid."""
    if not DATASET.fullmatch(name):
        raise Invalid(
            f"{name[:120]!r} is no name for a dataset", where="dataset", remedy="use small letters, digits and hyphens"
        )
    return name
