"""`/v1/files`: files to learn from, and those that jobs leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from ciranda.data import uploads
from ciranda.data.uploads import Upload
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.web.api.asked import Asked, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.openai.door import Missing
from ciranda.web.openai.parts import Arrived

PIECE = 1 << 20


class Listed(Asked):
    """Which files."""

    purpose: str = Field("", max_length=40, description="Only of this purpose.")
    limit: int = Field(10_000, ge=1, le=10_000, description="How many.")
    order: Literal["asc", "desc"] = Field("desc", description="By the time of their coming.")
    after: str = Field("", max_length=100, description="The id of the last one seen.")


def create(call: Call[Arrived]) -> Item:
    """Keep a file that has arrived; every line of it is an object, or it is refused."""
    asked = call.asked
    kept = uploads.add(
        call.platform.db, call.platform.home, asked.place, filename=asked.filename, purpose=asked.purpose,
        tenant=call.principal.tenant, actor=call.actor, expires_s=asked.expires_s,
    )  # fmt: skip
    return uploads.to_dict(kept)


def listing(call: Call[Listed]) -> Item:
    """The tenant's files, page by page."""
    asked = call.asked
    with call.platform.db.reading() as conn:
        found = uploads.page(
            conn, tenant=call.principal.tenant, purpose=asked.purpose, after=asked.after, limit=asked.limit + 1,
            newest_first=asked.order == "desc",
        )  # fmt: skip
    return paged([uploads.to_dict(one) for one in found], asked.limit)


def paged(found: list[Item], limit: int) -> Item:
    """A list as OpenAI pages it, out of one item more than was asked for."""
    shown = found[:limit]
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    return {"object": "list", "data": shown, "has_more": len(found) > limit, **ends}


def one(call: Call[Nothing]) -> Item:
    return uploads.to_dict(_own(call))


def content(call: Call[Nothing]) -> Response:
    """The bytes as they were sent; who took them is in the audit log."""
    found = _own(call)
    place = uploads.content(call.platform.home, found)
    if not place.exists():
        raise _missing(found.id)
    with call.platform.db.writing() as conn:
        audit.record(conn, actor=call.actor, action="upload.read", subject=found.id, detail={"bytes": found.bytes})
    headers = {
        "content-length": str(place.stat().st_size), "cache-control": "no-store",
        "content-disposition": 'attachment; filename="content.jsonl"',
    }  # fmt: skip
    return StreamingResponse(pieces(place), media_type="application/octet-stream", headers=headers)


def pieces(path: Path) -> Iterator[bytes]:
    """A file, a piece at a time."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def delete(call: Call[Nothing]) -> Item:
    """Take a file away. A job that has read it already goes on."""
    found = _own(call)
    uploads.delete(call.platform.db, call.platform.home, found.id, tenant=call.principal.tenant, actor=call.actor)
    return {"id": found.id, "object": "file", "deleted": True}


def _own(call: Call[Any]) -> Upload:
    try:
        with call.platform.db.reading() as conn:
            return uploads.get(conn, call.path["file"], tenant=call.principal.tenant)
    except NotFound:
        raise _missing(call.path["file"]) from None


def _missing(identifier: str) -> Missing:
    return Missing(f"No such File object: {identifier[:100]}", param="id")
