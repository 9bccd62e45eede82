"""Why a trial, a search or a run ended: one sentence, that is kept, and whose kind and parts can be read from it again.

Rows, the REST API and the audit log hold the English sentence. Pages say the same in the reader's language (`web.outcomes`), for
which `read` finds what it is. What an error said is no such sentence: it is kept and shown as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

SENTENCES: Mapping[str, str] = {
    "behind": "behind the median of the others at step {step}",
    "halted": "the search was stopped",
    "ended": "it was cancelled",
    "cancelled": "cancelled by {actor}",
    "stopped": "stopped by {actor}",
    "exited": "it ended with exit code {code}",
    "of": "trial {number}: {reason}",
}


def say(kind: str, **parts: object) -> str:
    """The sentence of a kind with its parts."""
    return SENTENCES[kind].format(**parts)


def read(sentence: str) -> tuple[str, dict[str, str]]:
    """The kind and the parts of a sentence; no kind for what is none of ours."""
    for kind, form in _forms().items():
        if found := form.fullmatch(sentence):
            return kind, found.groupdict()
    return "", {}


@cache
def _forms() -> Mapping[str, re.Pattern[str]]:
    holes = re.compile(r"\\\{(\w+)\\\}")
    return {kind: re.compile(holes.sub(r"(?P<\1>.+?)", re.escape(text)), re.DOTALL) for kind, text in SENTENCES.items()}
