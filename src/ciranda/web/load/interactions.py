"""Interactions: the list with its filters, and one whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ciranda.data.hearing import Hearing
from ciranda.data.reading import asking
from ciranda.errors import NotFound
from ciranda.govern.access import Principal
from ciranda.interactions.answers import Glance, messages_of
from ciranda.interactions.events import Event
from ciranda.interactions.schema import SHOWN
from ciranda.interactions.table import Interaction, moment
from ciranda.loop.platform import Platform
from ciranda.registry import versions
from ciranda.store import clock
from ciranda.web.views.interactions import (
    PAGE,
    EventList,
    EventRow,
    Filters,
    InteractionList,
    InteractionPage,
    InteractionRow,
    Voice,
)

SPANS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
STATUS = {"ok": 2, "error": 5}
THUMB = {"up": 1, "down": -1}
BODY = 64_000
FACTS = (
    "first_byte_ms", "overhead_ms", "prompt_tokens", "completion_tokens", "finish_reason", "user", "conversation", "language",
    "key", "endpoint", "engine", "replica", "digest", "rollout", "shadow_of", "retry_count", "request_id", "tenant",
)  # fmt: skip


def listing(
    platform: Platform, reach: Sequence[str], filters: Filters, before: str, names: Sequence[str], who: Principal
) -> InteractionList:
    """One page, newest first; for a key that is limited to several models, their pages merged. Raises Forbidden."""
    models: Sequence[str | None] = [filters.model] if filters.model else [None] if "*" in reach else list(reach)
    hearing, asked = _hearing(platform, who), _asked(filters, before)
    bound = hearing.bound(models, names, asked)
    shown, older = _whole(platform, models, asked, hearing) if bound else _glanced(platform, models, asked)
    return InteractionList(
        shown,
        filters,
        tuple(names),
        _versions(platform, filters.model, names),
        older,
        not before,
    )


def _hearing(platform: Platform, who: Principal) -> Hearing:
    return Hearing(platform.db, platform.home, asking(who, "viewing"))


def _glanced(
    platform: Platform, models: Sequence[str | None], asked: dict[str, Any]
) -> tuple[tuple[InteractionRow, ...], str]:
    found = [one for model in models for one in platform.interactions.glance(model=model, **asked)]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    older = found[PAGE - 1].place if len(found) > PAGE else ""
    return tuple(line_of(one) for one in found[:PAGE]), older


def _whole(
    platform: Platform, models: Sequence[str | None], asked: dict[str, Any], hearing: Hearing
) -> tuple[tuple[InteractionRow, ...], str]:
    """The same where policies bind the reader: they look at more than a line shows, so whole interactions are read."""
    found = [one for model in models for one in platform.interactions.page(model=model, **asked)]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    older = found[PAGE - 1].place if len(found) > PAGE else ""
    return tuple(row_of(one) for one in hearing.these(found[:PAGE])), older


def _asked(filters: Filters, before: str) -> dict[str, Any]:
    return {
        "version": filters.version or None,
        "arm": filters.arm or None,
        "status": STATUS.get(filters.status),
        "thumb": THUMB.get(filters.thumb),
        "user": filters.user or None,
        "conversation": filters.conversation or None,
        "search": filters.q or None,
        "since": _since(filters.since),
        "before": before or None,
        "limit": PAGE + 1,
    }


def _since(span: str) -> datetime | None:
    return clock.now() - SPANS[span] if span in SPANS else None


def _versions(platform: Platform, model: str, names: Sequence[str]) -> tuple[str, ...]:
    """The versions to choose from: of the model that is chosen, or of the only one."""
    chosen = model or (names[0] if len(names) == 1 else "")
    if not chosen:
        return ()
    with platform.db.reading() as conn:
        return tuple(version.ref for version in versions.of(conn, chosen))


def line_of(one: Glance) -> InteractionRow:
    """A line of the list."""
    return InteractionRow(
        one.id, clock.iso(moment(one.ts_ms)), one.model, one.version, one.arm, one.status, one.latency_ms, one.input,
        one.output, one.thumb, one.error, one.language, bool(one.stream),
    )  # fmt: skip


def row_of(one: Interaction) -> InteractionRow:
    """The head of one interaction."""
    return InteractionRow(
        one.id, clock.iso(one.ts), one.model, one.version, one.arm, one.status, one.latency_ms, one.input_text[:SHOWN],
        one.output_text[:SHOWN], one.thumb, one.error, one.language, bool(one.stream),
    )  # fmt: skip


def single(platform: Platform, identifier: str, who: Principal) -> InteractionPage:
    """One interaction with everything that is known of it, as the reader may hear it. Raises NotFound."""
    found = platform.interactions.get(identifier)
    one = _hearing(platform, who).one(found) if found else None
    if one is None:
        raise NotFound(
            f"no interaction {identifier!r}", where="interactions",
            remedy="its id is in the answer's header x-ciranda-interaction; a new one is here within a second",
        )  # fmt: skip
    messages = tuple((str(said.get("role", "")), _text(said.get("content"))) for said in messages_of(one.request))
    facts = {name: getattr(one, name) for name in FACTS if getattr(one, name)}
    voices = tuple(
        Voice(clock.iso(said.ts), said.thumb, said.user, said.rating, said.correction, said.comment, said.reasons)
        for said in one.feedback
    )
    scores = tuple((score.scorer, score.value) for score in one.scores)
    guard = one.guard if one.guard not in ("", "{}", "[]", "null") else ""
    return InteractionPage(
        row_of(one), messages, one.output_text, facts, voices, scores, one.request[:BODY], one.response[:BODY], guard,
        tuple(event_of(it) for it in platform.interactions.events_of(one.id)),
    )  # fmt: skip


def events(
    platform: Platform, reach: Sequence[str], kind: str, model: str, before: str, names: Sequence[str], who: Principal
) -> EventList:
    """One page of what happened beside answers, newest first; for a key of several models, their pages merged."""
    models: Sequence[str | None] = [model] if model else [None] if "*" in reach else list(reach)
    found = [
        one
        for name in models
        for one in platform.interactions.events(kind=kind, model=name, before=before or None, limit=PAGE + 1)
    ]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    older = found[PAGE - 1].place if len(found) > PAGE else ""
    shown = _hearing(platform, who).events(found[:PAGE])
    return EventList(tuple(event_of(one) for one in shown), kind, model, tuple(names), older, not before)


def event_of(one: Event) -> EventRow:
    """A line of them."""
    told = one.detail
    return EventRow(
        clock.iso(moment(one.ts_ms)), one.kind, one.model, told.get("version", ""), told.get("status", 0),
        told.get("reason") or told.get("error") or "", told.get("replica", ""), told.get("interaction", ""), told.get("key", ""),
        told.get("user", ""), told.get("found", 0), told.get("latency_ms", 0.0),
    )  # fmt: skip


def _text(content: object) -> str:
    """A message's text: as it is, or the text parts of a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
