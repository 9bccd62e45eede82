"""Measures of what an answer would have done: calls of tools, and code. Nothing that a model wrote is ever executed here.

Code is parsed only. Whoever wants it run needs a sandbox, which is another program's business: `docs/evaluate.md` shows how
`inspect-ai` runs it in one, against the same door.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ciranda.evals import fields
from ciranda.evals.cases import Call, Said

FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:```|\Z)", re.DOTALL)


def right(said: Said) -> float | None:
    """The calls are those that the case expects: names and arguments, in any order. None on live traffic, which expects nothing."""
    if not _expecting(said):
        return None
    return float(Counter(map(_mark, said.tools)) == Counter(map(_mark, _expected(said))))


def named(said: Said) -> float | None:
    """The tools that were called are those that the case expects, whatever their arguments."""
    if not _expecting(said):
        return None
    return float(sorted(call.name for call in said.tools) == sorted(call.name for call in _expected(said)))


def sound(said: Said) -> float | None:
    """Every call is of a tool that was offered, with arguments that its schema allows; None when nothing was called."""
    offered = {_function(tool).get("name"): _function(tool) for tool in said.case.tools} if said.case else {}
    if not offered or not said.tools:
        return None
    return float(all(call.name in offered and _fits(call, offered[call.name]) for call in said.tools))


def python(said: Said) -> float:
    """The code of the answer is Python that parses: what stands in its first fence, else all of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(code(said.answer))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0.0
    return float(bool(parsed.body))


def code(answer: str) -> str:
    """What stands in the first fence of an answer, else all of it."""
    fenced = FENCE.search(answer)
    return fenced.group(1) if fenced else answer


def _expecting(said: Said) -> bool:
    """A case that offers tools and expects no call says something too: calling one is wrong then."""
    return said.case is not None and said.case.calls is not None and bool(said.case.calls or said.case.tools)


def _expected(said: Said) -> Sequence[Call]:
    return (said.case.calls if said.case else None) or ()


def _mark(call: Call) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True, ensure_ascii=False)


def _function(tool: Any) -> Any:
    found = tool.get("function") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else {}


def _fits(call: Call, function: dict[str, Any]) -> bool:
    schema = function.get("parameters")
    return isinstance(call.arguments, dict) and (not isinstance(schema, dict) or fields.allows(schema, call.arguments))
