"""The language of conditions and values in a recipe. It has no names but those of fields and functions, and no loops.

    language in ["en", "pt-BR"] and length(completion) <= 400
    not (prompt matches "(?i)^test") or extra.tier == "gold"
    trim(replace(completion, "\\s+", " ")) + "."

    or  and  not  == != < <= > >=  in  not in  matches  contains  + -     in this order, the last binds most
    texts in quotes, numbers, true, false, null, [lists]; functions: see FUNCTIONS

Patterns are RE2 (as Arrow has it), whose time is linear in the text, so that no pattern can hang a machine; they are literals, so
that a wrong one is found before anything runs. A comparison with null, or of a text with a number, is false rather than an error.
Expressions are evaluated over many rows at once: `evaluate` gives a list of values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 4000
DEEPEST = 40
TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<name>[A-Za-z_][\w.-]*\w|[A-Za-z_])"""
    r"""|(?P<mark>==|!=|<=|>=|[<>()\[\],+-]))""",
    re.S,
)
COMPARE = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "matches", "contains")
WORDS = {"true": True, "false": False, "null": None}
ARITY = {
    "length": 1, "words": 1, "lower": 1, "upper": 1, "trim": 1, "starts": 2, "ends": 2, "replace": 3, "cut": 2, "number": 1,
    "text": 1, "first": 1,
}  # fmt: skip
FUNCTIONS = {
    "length": "characters of a text, entries of a list", "words": "words of a text", "lower": "in small letters",
    "upper": "in capitals", "trim": "without spaces at its ends", "starts": "whether a text begins with another",
    "ends": "whether it ends with another", "replace": "text, pattern, with: every match replaced (`\\1` is a group)",
    "cut": "text, n: at most n characters", "number": "a text as a number, or null", "text": "a number or truth as text",
    "first": "the first line of a text",
}  # fmt: skip

Column = list[Any]


class Wrong(ValueError):
    """An expression that cannot be understood; says where."""


@dataclass(frozen=True)
class Node:
    """A part of an expression: its kind (`value`, `field`, `call`, or an operator), its name or value, and its parts."""

    kind: str
    value: Any = None
    parts: tuple[Node, ...] = ()


def parse(source: str, known: Callable[[str], bool]) -> Node:
    """An expression as a tree. Raises Wrong for what cannot be understood.

    Args:
        known: Whether a field of that name can be read.
    """
    if len(source) > LONGEST:
        raise Wrong(f"longer than {LONGEST} characters")
    reader = _Reader(_tokens(source), known)
    found = reader.either(0)
    if reader.here[0] != "end":
        raise Wrong(f"{reader.here[1]!r} is not expected here")
    return found


def _tokens(source: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while source[at:].strip():
        match = TOKEN.match(source, at)
        if not match:
            raise Wrong(f"cannot be read from {source[at:].strip()[:20]!r} on")
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind]))
        at = match.end()
    return [*tokens, ("end", "the end")]


class _Reader:
    """Reads tokens from left to right, one function for each strength of binding."""

    def __init__(self, tokens: list[tuple[str, str]], known: Callable[[str], bool]) -> None:
        self.tokens, self.known, self.at = tokens, known, 0

    @property
    def here(self) -> tuple[str, str]:
        return self.tokens[self.at]

    def took(self, *words: str) -> str:
        """The next token, if it is one of these marks or words."""
        kind, text = self.here
        if kind in ("mark", "name") and text in words:
            self.at += 1
            return text
        return ""

    def need(self, mark: str) -> None:
        if not self.took(mark):
            raise Wrong(f"{mark!r} is expected, not {self.here[1]!r}")

    def either(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise Wrong("nested too deeply")
        parts = [self.both(depth)]
        while self.took("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Node("or", None, tuple(parts))

    def both(self, depth: int) -> Node:
        parts = [self.negated(depth)]
        while self.took("and"):
            parts.append(self.negated(depth))
        return parts[0] if len(parts) == 1 else Node("and", None, tuple(parts))

    def negated(self, depth: int) -> Node:
        turns = 0
        while self.took("not"):
            turns += 1
        found = self.compared(depth)
        return Node("not", None, (found,)) if turns % 2 else found

    def compared(self, depth: int) -> Node:
        left = self.summed(depth)
        sign = self.took("==", "!=", "<", "<=", ">", ">=", "in", "matches", "contains")
        if not sign and self.here == ("name", "not") and self.tokens[self.at + 1] == ("name", "in"):
            self.at, sign = self.at + 2, "not in"
        if not sign:
            return left
        right = self.summed(depth)
        if sign == "matches":
            _pattern(right)
        return Node(sign, None, (left, right))

    def summed(self, depth: int) -> Node:
        found = self.single(depth)
        while sign := self.took("+", "-"):
            found = Node(sign, None, (found, self.single(depth)))
        return found

    def single(self, depth: int) -> Node:
        kind, text = self.here
        if self.took("("):
            found = self.either(depth + 1)
            self.need(")")
            return found
        if self.took("["):
            return Node("list", None, self.several("]", depth))
        if self.took("-"):
            return Node("-", None, (Node("value", 0), self.single(depth + 1)))
        if kind == "end" or kind == "mark":
            raise Wrong(f"a value is expected, not {text!r}")
        self.at += 1
        if kind == "number":
            return Node("value", float(text) if "." in text else int(text))
        if kind == "text":
            return Node("value", _unquoted(text))
        if text in WORDS:
            return Node("value", WORDS[text])
        return self.call(text, depth) if self.took("(") else self.field(text)

    def field(self, name: str) -> Node:
        if not self.known(name):
            raise Wrong(f"no field {name!r}")
        return Node("field", name)

    def call(self, name: str, depth: int) -> Node:
        given = self.several(")", depth)
        if name not in ARITY:
            raise Wrong(f"no function {name!r}; there are {', '.join(ARITY)}")
        if len(given) != ARITY[name]:
            raise Wrong(f"{name} takes {ARITY[name]} values, not {len(given)}")
        if name == "replace":
            _pattern(given[1])
            if given[2].kind != "value" or not isinstance(given[2].value, str):
                raise Wrong("what replace puts in is a text in quotes")
        return Node("call", name, given)

    def several(self, end: str, depth: int) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self.took(end):
            if found:
                self.need(",")
            found.append(self.either(depth + 1))
        return tuple(found)


def _unquoted(text: str) -> str:
    """A quoted text; `\\n`, `\\t` and quotes are escapes, any other backslash stands for itself, as patterns need it."""
    escapes = {"n": "\n", "t": "\t", text[0]: text[0], "\\\\": "\\"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[0]), text[1:-1], flags=re.S)


def _pattern(node: Node) -> None:
    """A literal that RE2 understands. Raises Wrong."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if node.kind != "value" or not isinstance(node.value, str):
        raise Wrong("a pattern is a text in quotes")
    try:
        pc.match_substring_regex(pa.array([""]), pattern=node.value)
    except pa.ArrowInvalid as error:
        raise Wrong(f"no pattern {node.value!r}: {str(error).partition(': ')[2] or error}") from None


def evaluate(node: Node, columns: Callable[[str], Column], count: int) -> Column:
    """The value of an expression for each of `count` rows.

    Args:
        columns: The values of a field for these rows.
    """
    if node.kind == "value":
        return [node.value] * count
    if node.kind == "field":
        return columns(node.value)
    parts = [evaluate(part, columns, count) for part in node.parts]
    if node.kind == "call":
        return _CALLS[node.value](parts, node.parts)
    if node.kind == "matches":
        return _matching(parts[0], node.parts[1].value)
    if node.kind == "list":
        return [list(values) for values in zip(*parts, strict=True)] if parts else [[]] * count
    if node.kind in ("and", "or"):
        meant: Callable[[Sequence[Any]], bool] = all if node.kind == "and" else any
        return [meant(values) for values in zip(*parts, strict=True)]
    if node.kind == "not":
        return [not value for value in parts[0]]
    act = _ACTS[node.kind]
    return [act(one, two) for one, two in zip(*parts, strict=True)]


def fields(node: Node) -> set[str]:
    """The names of the fields that an expression reads."""
    own = {str(node.value)} if node.kind == "field" else set()
    return own.union(*(fields(part) for part in node.parts))


def _ordered(act: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison that is false between what has no order."""

    def compare(one: Any, two: Any) -> bool:
        numbers = isinstance(one, int | float) and isinstance(two, int | float)
        return (numbers or (isinstance(one, str) and isinstance(two, str))) and act(one, two)

    return compare


def _within(one: Any, two: Any) -> bool:
    if isinstance(two, str):
        return isinstance(one, str) and one in two
    return isinstance(two, list | tuple) and one in two


def _added(one: Any, two: Any) -> Any:
    if isinstance(one, str) and isinstance(two, str):
        return one + two
    return one + two if isinstance(one, int | float) and isinstance(two, int | float) else None


def _taken(one: Any, two: Any) -> Any:
    return one - two if isinstance(one, int | float) and isinstance(two, int | float) else None


_ACTS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, two: one == two, "!=": lambda one, two: one != two,
    "<": _ordered(lambda one, two: one < two), "<=": _ordered(lambda one, two: one <= two),
    ">": _ordered(lambda one, two: one > two), ">=": _ordered(lambda one, two: one >= two),
    "in": _within, "not in": lambda one, two: not _within(one, two), "contains": lambda one, two: _within(two, one),
    "+": _added, "-": _taken,
}  # fmt: skip


def _texts(values: Column) -> Any:
    import pyarrow as pa

    return pa.array([value if isinstance(value, str) else None for value in values], pa.large_string())


def _matching(values: Column, pattern: str) -> Column:
    import pyarrow.compute as pc

    found: Column = pc.match_substring_regex(_texts(values), pattern=pattern).fill_null(False).to_pylist()
    return found


def _replaced(parts: list[Column], nodes: Sequence[Node]) -> Column:
    import pyarrow.compute as pc

    done = pc.replace_substring_regex(_texts(parts[0]), pattern=nodes[1].value, replacement=nodes[2].value)
    found: Column = done.to_pylist()
    return found


def _each(act: Callable[[str], Any]) -> Callable[[list[Column], Sequence[Node]], Column]:
    """A function of one text; of anything else it is null."""
    return lambda parts, _: [act(value) if isinstance(value, str) else None for value in parts[0]]


def _pairs(act: Callable[[str, str], Any]) -> Callable[[list[Column], Sequence[Node]], Column]:
    return lambda parts, _: [
        act(one, two) if isinstance(one, str) and isinstance(two, str) else False
        for one, two in zip(*parts, strict=True)
    ]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return int(found) if found.is_integer() else found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) or value is None else json.dumps(value)


_CALLS: Mapping[str, Callable[[list[Column], Sequence[Node]], Column]] = {
    "length": lambda parts, _: [len(value) if isinstance(value, str | list | tuple) else 0 for value in parts[0]],
    "words": _each(lambda text: len(text.split())), "lower": _each(str.lower), "upper": _each(str.upper),
    "trim": _each(str.strip), "first": _each(lambda text: text.strip().partition("\n")[0]),
    "starts": _pairs(str.startswith), "ends": _pairs(str.endswith), "replace": _replaced,
    "cut": lambda parts, _: [
        text[: max(0, n)] if isinstance(text, str) and isinstance(n, int) else text for text, n in zip(*parts, strict=True)
    ],
    "number": lambda parts, _: [_number(value) for value in parts[0]],
    "text": lambda parts, _: [_plain(value) for value in parts[0]],
}  # fmt: skip
