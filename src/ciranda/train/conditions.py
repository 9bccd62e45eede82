"""MLflow's search language, as values: `metrics.acc > 0.9 and params.lr = '0.1' and tags.team LIKE 'home%'`.

Conditions are joined by `and` alone, as in MLflow. Comparators: = != > >= < <= LIKE ILIKE IN NOT IN, IS NULL, IS NOT NULL. A name
of which there is nothing fulfils no condition but IS NULL. Pure: what a name holds is looked up by whoever asks. It refuses what it
does not know, with the names that it does.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ciranda.errors import Invalid

LONGEST = 10_000
MOST = 50  # conditions of one search
TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<sign><=|>=|!=|=|<|>)|(?P<mark>[(),])"""
    r"""|(?P<word>[^\s=<>!(),'"`]+(?:[`"][^`"]*[`"])?))"""
)
PLAIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
ALIASES = {
    "attribute": "attributes", "attr": "attributes", "run": "attributes", "metric": "metrics", "param": "params",
    "parameter": "params", "parameters": "params", "tag": "tags",
}  # fmt: skip
Look = Callable[[str, str], Any]


@dataclass(frozen=True)
class Condition:
    """One comparison; `value` is a text, a number, or a tuple of texts."""

    entity: str
    key: str
    sign: str
    value: Any = None


@dataclass(frozen=True)
class Order:
    """By what, and which way."""

    entity: str
    key: str
    falling: bool = False


def parse(text: str, *, entities: Sequence[str], where: str = "filter") -> tuple[Condition, ...]:
    """The conditions of a filter. Raises Invalid."""
    words = _tokens(text, where)
    found: list[Condition] = []
    while words:
        if found and words.pop(0).lower() != "and":
            raise _bad("conditions are joined by `and`", where)
        found.append(_condition(words, entities, where))
        if len(found) > MOST:
            raise _bad(f"over {MOST} conditions", where)
    return tuple(found)


def _tokens(text: str, where: str) -> list[str]:
    if len(text) > LONGEST:
        raise _bad(f"over {LONGEST} characters", where)
    found: list[str] = []
    at = 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise _bad(f"{text[at : at + 30]!r} cannot be read", where)
        token, at = match[0].strip(), match.end()
        if found and found[-1].endswith(".") and token[0] in '`"':
            token = found.pop() + token
        found.append(token)
    return found


def _condition(words: list[str], entities: Sequence[str], where: str) -> Condition:
    if len(words) < 2:
        raise _bad("a condition is a name, a comparator and a value", where)
    entity, key = _name(words.pop(0), entities, where)
    sign = words.pop(0).upper()
    if sign in ("IS", "NOT"):
        sign = _long_sign(sign, words, where)
    if sign in ("IS NULL", "IS NOT NULL"):
        return Condition(entity, key, sign)
    if sign in ("IN", "NOT IN"):
        return Condition(entity, key, sign, _several(words, where))
    if sign not in (*PLAIN, "LIKE", "ILIKE") or not words:
        raise _bad(f"{sign!r} is no comparator with a value", where)
    return Condition(entity, key, sign, _value(words.pop(0)))


def _long_sign(sign: str, words: list[str], where: str) -> str:
    for more in ("NOT NULL", "NULL") if sign == "IS" else ("IN",):
        if [one.upper() for one in words[: len(more.split())]] == more.split():
            del words[: len(more.split())]
            return f"{sign} {more}"
    raise _bad(f"{sign!r} is followed by {' or '.join(('NULL', 'NOT NULL') if sign == 'IS' else ('IN',))}", where)


def _name(word: str, entities: Sequence[str], where: str) -> tuple[str, str]:
    """`metrics.acc`, `tags."my key"`, or an attribute by its name alone."""
    entity, _, key = word.partition(".")
    entity = ALIASES.get(entity, entity)
    if not key or entity not in (*entities, "attributes"):
        entity, key = "attributes", word
    if not key.strip('`"'):
        raise _bad(f"{word!r} names nothing", where)
    return entity, key.strip('`"')


def _value(word: str) -> Any:
    if word[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    try:
        return float(word)
    except ValueError:
        return word


def _several(words: list[str], where: str) -> tuple[Any, ...]:
    if not words or words.pop(0) != "(":
        raise _bad("IN is followed by values in parentheses", where)
    found = []
    while words and (word := words.pop(0)) != ")":
        if word != ",":
            found.append(_value(word))
    return tuple(found)


def orders(given: Iterable[str], *, entities: Sequence[str], where: str = "order_by") -> tuple[Order, ...]:
    """`metrics.acc DESC` as values. Raises Invalid."""
    found = []
    for text in given:
        words = _tokens(text, where)
        way = words[1].upper() if len(words) == 2 else "ASC"
        if not 1 <= len(words) <= 2 or way not in ("ASC", "DESC"):
            raise _bad(f"{text[:100]!r} is no order", where)
        found.append(Order(*_name(words[0], entities, where), way == "DESC"))
    return tuple(found)


def holds(conditions: Iterable[Condition], look: Look) -> bool:
    """Whether all of them are fulfilled."""
    return all(_is_met(one, look(one.entity, one.key)) for one in conditions)


def _is_met(one: Condition, held: Any) -> bool:
    if one.sign in ("IS NULL", "IS NOT NULL"):
        return (held is None) == (one.sign == "IS NULL")
    if held is None:
        return False
    if one.sign in ("IN", "NOT IN"):
        return (str(held) in map(str, one.value)) == (one.sign == "IN")
    if one.sign in ("LIKE", "ILIKE"):
        return _is_like(str(held), str(one.value), exact=one.sign == "LIKE")
    if isinstance(held, int | float):
        try:
            return PLAIN[one.sign](float(held), float(one.value))
        except ValueError:
            return False
    shown = one.value if isinstance(one.value, str) else f"{one.value:g}"
    return PLAIN[one.sign](str(held), shown)


def _is_like(held: str, pattern: str, *, exact: bool) -> bool:
    """`%` is any text, `_` any character. Compared part by part, so that no pattern is slow."""
    if not exact:
        held, pattern = held.lower(), pattern.lower()
    parts = pattern.split("%")
    if len(parts) == 1:
        return _fits(held, pattern)
    first, *middle, last = parts
    if not _fits(held[: len(first)], first) or len(held) < len(first) + len(last):
        return False
    if last and not _fits(held[len(held) - len(last) :], last):
        return False
    at, end = len(first), len(held) - len(last)
    for part in middle:
        while at + len(part) <= end and not _fits(held[at : at + len(part)], part):
            at += 1
        if at + len(part) > end:
            return False
        at += len(part)
    return True


def _fits(held: str, pattern: str) -> bool:
    return len(held) == len(pattern) and all(two in ("_", one) for one, two in zip(held, pattern, strict=True))


def ordered(found: Iterable[Any], by: Sequence[Order], look: Callable[[Any], Look]) -> list[Any]:
    """Sorted by each order in turn; what has no value comes last, whichever way."""
    done = list(found)
    for order in reversed(by):

        def place(one: Any, order: Order = order) -> Any:
            held = look(one)(order.entity, order.key)
            return held if isinstance(held, int | float) else str(held)

        there = [one for one in done if look(one)(order.entity, order.key) is not None]
        gone = [one for one in done if look(one)(order.entity, order.key) is None]
        done = [*sorted(there, key=place, reverse=order.falling), *gone]
    return done


def _bad(what: str, where: str) -> Invalid:
    return Invalid(
        f"the search cannot be read: {what}", where=where,
        remedy="write it as metrics.acc > 0.9 and params.lr = '0.1'; docs/mlflow.md has all of it",
    )  # fmt: skip
