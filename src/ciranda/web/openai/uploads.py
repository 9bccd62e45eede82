"""`/v1/uploads`: a file in pieces, for clients that send large ones so. Its end is a file as `/v1/files` has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field

from ciranda.data import pieces
from ciranda.errors import Invalid, NotFound
from ciranda.web.api.asked import Asked, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.openai.door import Missing, Wrong
from ciranda.web.openai.parts import Piece, demand_purpose


class Expires(Asked):
    """How long the finished file is to stay."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class Create(Asked):
    """A file that will come in pieces."""

    filename: str = Field(min_length=1, max_length=255)
    purpose: str = Field(max_length=40)
    bytes: int = Field(ge=1)
    mime_type: str = Field(max_length=200)
    expires_after: Expires | None = None


class Complete(Asked):
    """The parts in their order, and what the whole is, as the client has it."""

    part_ids: tuple[Annotated[str, Field(max_length=100)], ...] = Field(min_length=1, max_length=pieces.MOST_PARTS)
    md5: str = Field("", max_length=32)


def create(call: Call[Create]) -> Item:
    """Announce a file. It stays open for an hour."""
    asked = call.asked
    demand_purpose(asked.purpose)
    try:
        made = pieces.begin(
            call.platform.db, filename=asked.filename, purpose=asked.purpose, mime_type=asked.mime_type, size=asked.bytes,
            keep_s=asked.expires_after.seconds if asked.expires_after else None, tenant=call.principal.tenant, actor=call.actor,
        )  # fmt: skip
    except Invalid as error:
        raise Wrong(error.message, param="bytes", code="invalid_value", remedy=error.remedy) from None
    return pieces.to_dict(made)


def part(call: Call[Piece]) -> Item:
    """Keep a part that has arrived."""
    try:
        made = pieces.add(
            call.platform.db, call.platform.home, call.path["upload"], call.asked.place, tenant=call.principal.tenant
        )
    except NotFound:
        _missing(call)
    except Invalid as error:
        raise Wrong(error.message, param="data", code="invalid_value", remedy=error.remedy) from None
    return pieces.part_dict(made)


def complete(call: Call[Complete]) -> Item:
    """Put the parts together. What is wrong with the file is said as of any other."""
    asked = call.asked
    try:
        done, file = pieces.complete(
            call.platform.db, call.platform.home, call.path["upload"], asked.part_ids, md5=asked.md5,
            tenant=call.principal.tenant, actor=call.actor,
        )  # fmt: skip
    except NotFound:
        _missing(call)
    except Invalid as error:
        name = error.where if error.where in ("part_ids", "md5") else "file"
        raise Wrong(error.message, param=name, code="invalid_value", remedy=error.remedy) from None
    return pieces.to_dict(done, file)


def cancel(call: Call[Nothing]) -> Item:
    """Take it back; its parts are gone."""
    try:
        found = pieces.cancel(
            call.platform.db, call.platform.home, call.path["upload"], tenant=call.principal.tenant, actor=call.actor
        )
    except NotFound:
        _missing(call)
    return pieces.to_dict(found)


def _missing(call: Call[Any]) -> NoReturn:
    raise Missing(f"No such Upload object: {call.path['upload'][:100]}", param="id") from None
