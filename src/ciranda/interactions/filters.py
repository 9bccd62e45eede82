"""Which interactions are meant: the filters of lists, counts, tails and exports, as conditions with bound values.

A search finds those that hold all of its words, whole and in any order, in question or answer, without regard to case: an index
answers it. What stands in "quotes" is looked for as it is written, also within words: that reads the texts. It refuses what cannot
be: a status of 7, a time without zone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from ciranda.errors import Invalid
from ciranda.interactions.schema import SAID

PLACE = re.compile(r"(\d{10,14})\.(.+)", re.DOTALL)


class Filters(TypedDict, total=False):
    """What may be chosen; None and the empty text mean not asked for.

    `status` is an exact one such as 429 or a class of them (2, 4, 5); `thumb` 1 or -1, the newest vote; `search` words or a
    "phrase" in question or answer; `since` is included, `until` is not.
    """

    tenant: str | None
    key: str | None
    model: str | None
    version: str | None
    arm: str | None
    rollout: str | None
    user: str | None
    conversation: str | None
    status: int | None
    thumb: int | None
    search: str | None
    since: datetime | None
    until: datetime | None


_THUMB = """id IN (SELECT interaction FROM feedback
    WHERE thumb != 0 AND interaction_ts >= fromUnixTimestamp64Milli({{recent:Int64}}, 'UTC'){of}
    GROUP BY interaction HAVING argMax(thumb, (feedback.ts, feedback.id)) = {{thumb:Int8}})"""
_OF = " AND model IN ({model:String}, '')"  # a vote that came long before its interaction knows no model
_WORDS = f"hasAllTokens({SAID}, {{words:String}})"
_PHRASE = """(positionCaseInsensitiveUTF8(input_text, {{phrase_{n}:String}}) > 0
    OR positionCaseInsensitiveUTF8(output_text, {{phrase_{n}:String}}) > 0)"""
_QUOTED = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"[^\W_]")
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SERIES = ("model", "version", "arm", "rollout")  # by which the roll-ups count
_EQUAL = ("tenant", "key", *_SERIES, "user", "conversation")
_RARE = frozenset({"version", "arm", "rollout", "status", "thumb"})


def filters(given: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Conditions and their bound values for the filters chosen.

    Raises:
        Invalid: a status, thumb or time that cannot be.
    """
    chosen = {name: value for name, value in given.items() if value is not None and value != ""}
    where = [f"{name} = {{{name}:String}}" for name in _EQUAL if name in chosen]
    values = {name: chosen[name] for name in _EQUAL if name in chosen}
    if "search" in chosen:
        conditions, found = _said(chosen["search"])
        where += conditions
        values |= found
    if "thumb" in chosen:
        where.append(_THUMB.format(of=_OF if "model" in chosen else ""))
        values |= {
            "thumb": _one_of("thumb", chosen["thumb"], (-1, 1)),
            "recent": 0,
        }  # a list narrows it as it looks back
    if "status" in chosen:
        first, last = _statuses(chosen["status"])
        where.append("status BETWEEN {status_first:UInt16} AND {status_last:UInt16}")
        values |= {"status_first": first, "status_last": last}
    for name, sign in (("since", ">="), ("until", "<")):
        if name in chosen:
            where.append(f"ts {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
            values[name] = milliseconds(chosen[name])
    return where, values


def _said(search: str) -> tuple[list[str], dict[str, str]]:
    """Words through the index, what stands in quotes by looking at every text; so too what has no words that spaces divide."""
    phrases = _QUOTED.findall(search)
    words = _QUOTED.sub(" ", search)
    if _SPACELESS.search(words) or (not phrases and not _WORD.search(words)):
        phrases, words = [*phrases, words], ""
    conditions = [_PHRASE.format(n=number) for number in range(len(phrases))]
    values = {f"phrase_{number}": phrase for number, phrase in enumerate(phrases)}
    if _WORD.search(words):
        return [_WORDS, *conditions], {"words": words, **values}
    return conditions, values


def counted(given: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The count of the roll-ups that says how far back rows of these filters reach, and the conditions on it.

    None where no count knows, and where rows lie close together anyway: all of them, or all of a model. A count may promise
    more rows than there are (errors of another status, what retention took), so a page that it leaves short is read on.
    """
    chosen = {name: value for name, value in given.items() if value is not None and value != ""}
    if not _RARE & chosen.keys() or chosen.keys() - {*_SERIES, *_RARE, "since", "until"}:
        return None
    status = chosen.get("status", 0)
    if "thumb" in chosen:
        count = "thumbs_up" if chosen["thumb"] > 0 else "thumbs_down"
    elif status and 5 not in (status, status // 100):
        return None
    else:
        count = "errors" if status else "requests"
    return count, [f"{name} = {{{name}:String}}" for name in _SERIES if name in chosen]


def where(conditions: list[str]) -> str:
    """A WHERE clause, or nothing."""
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def place(cursor: str) -> tuple[int, str] | None:
    """The moment and the id of a cursor of `page`; None when it is something else (a bare id)."""
    found = PLACE.fullmatch(cursor)
    return (int(found[1]), found[2]) if found else None


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch; a time without zone would be read as local time, so it is refused."""
    if moment.tzinfo is None:
        raise Invalid(f"{moment.isoformat()} has no time zone", where="since, until", remedy="pass times in UTC")
    return round(moment.timestamp() * 1000)


def _statuses(status: int) -> tuple[int, int]:
    if 1 <= status <= 5:
        return status * 100, status * 100 + 99
    return (_one_of("status", status, range(100, 600)),) * 2


def _one_of(name: str, value: int, allowed: range | tuple[int, ...]) -> int:
    if value not in allowed:
        raise Invalid(f"{name} {value!r} cannot be", where=name, remedy=f"use one of {list(allowed)[:6]}")
    return value
