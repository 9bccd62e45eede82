"""A multipart body, written to its place as it comes: no more than a piece of it is ever in memory.

One part with a file name is the file (of `/v1/files`), or the bytes (of a part of `/v1/uploads`); the others are short fields.
Whatever ends it (a bound, a client that leaves, a full disk), nothing of it stays.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import Field
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ciranda.data import pieces, uploads
from ciranda.errors import StorageFull, TooLarge
from ciranda.loop.platform import Platform
from ciranda.web.api.asked import Asked
from ciranda.web.openai.door import Wrong

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Taken = TypeVar("Taken", "Arrived", "Piece")

FIELD_BYTES = 4096
FIELDS = 20
EXPIRES = ("expires_after[anchor]", "expires_after[seconds]")


class Arrived(Asked):
    """A file that has arrived whole; `place` is where it lies until it is kept."""

    place: Path
    filename: str
    purpose: str = Field(max_length=40)
    expires_s: int | None = Field(None, ge=3600, le=2_592_000, description="Seconds until it goes by itself.")


class Piece(Asked):
    """A part of an upload that has arrived whole."""

    place: Path


class Form:
    """What the parser's callbacks build: short fields, and one file on disk; `named` is the field that it comes in."""

    def __init__(self, place: Path, file: IO[bytes], *, named: str = "file", most: int = uploads.FILE_BYTES) -> None:
        self.place, self.file, self.named, self.most = place, file, named, most
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size = 0
        self.ended = False
        self._head = [b"", b""]
        self._disposition = b""
        self._name = ""
        self._in_file = False
        self._text = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin, "on_header_field": self._header_name, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_headers_finished": self._headed, "on_part_data": self._data,
            "on_part_end": self._end, "on_end": self._over,
        }  # fmt: skip

    def _begin(self) -> None:
        self._head, self._disposition, self._text, self._in_file = [b"", b""], b"", b"", False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._head[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._head[1] += data[start:end]

    def _header_end(self) -> None:
        if self._head[0].lower() == b"content-disposition":
            self._disposition = self._head[1]
        self._head = [b"", b""]

    def _headed(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == self.named and b"filename" in options
        if self._in_file and self.filename is not None:
            raise Wrong("Only one file may be sent", param=self.named, code="invalid_value")
        if self._in_file:
            self.filename = options[b"filename"].decode("utf-8", "replace") or "file"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._text += data[start:end]
            if len(self._text) > FIELD_BYTES:
                raise Wrong(f"The field '{self._name[:50]}' is too long", param=self._name[:50], code="invalid_value")
            return
        self.size += end - start
        if self.size > self.most:
            raise TooLarge(
                f"the {self.named} is over {self.most:,} bytes", where=self.named, remedy="send it in pieces"
            )
        self.file.write(data[start:end])

    def _end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
            if len(self.fields) > FIELDS:
                raise Wrong("Too many fields", code="invalid_value")

    def _over(self) -> None:
        self.ended = True


async def receive(platform: Platform, request: Request) -> Arrived:
    """Read a file to its end. Raises Invalid, ValidationError, TooLarge, StorageFull; nothing of it is left then."""
    return await _received(platform, request, _found, named="file", most=uploads.FILE_BYTES)


async def receive_part(platform: Platform, request: Request) -> Piece:
    """Read a part of an upload to its end. Raises as `receive` does."""
    return await _received(platform, request, _piece, named="data", most=pieces.PART_BYTES)


async def _received(
    platform: Platform, request: Request, found: Callable[[Form], Taken], *, named: str, most: int
) -> Taken:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Wrong("The body must be multipart/form-data with a file", param=named, code="invalid_type")
    place = await run_in_threadpool(uploads.arriving, platform.home)
    try:
        with place.open("xb") as file:
            form = Form(place, file, named=named, most=most)
            await _parse(request, form, options[b"boundary"])
        return found(form)
    except OSError as error:
        place.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("the disk has no room for the file", where="uploads", remedy="free some disk") from error
    except BaseException:
        place.unlink(missing_ok=True)
        raise


async def _parse(request: Request, form: Form, boundary: bytes) -> None:
    parser = MultipartParser(boundary, form.callbacks())
    try:
        async for piece in request.stream():
            await run_in_threadpool(parser.write, piece)
        parser.finalize()
    except FormParserError as error:
        raise Wrong(f"The body is no multipart form: {error}", code="invalid_type") from None
    if not form.ended:
        raise Wrong("The body ended early", param=form.named, code="invalid_value", remedy="send it again")


def _piece(form: Form) -> Piece:
    _demand(form, set())
    return Piece(place=form.place)


def _demand(form: Form, known: set[str]) -> None:
    """Raise Wrong unless the file came, and no other field than those."""
    if form.filename is None:
        raise Wrong(f"Missing required parameter: '{form.named}'", param=form.named, code="missing_required_parameter")
    if wrong := sorted(set(form.fields) - known):
        raise Wrong(f"Unknown parameter: '{wrong[0][:50]}'", param=wrong[0][:50], code="unknown_parameter")


def _found(form: Form) -> Arrived:
    _demand(form, {"purpose", *EXPIRES})
    if form.fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise Wrong("expires_after: the anchor is created_at", param="expires_after", code="invalid_value")
    found: dict[str, Any] = {"place": form.place, "filename": form.filename or ""}
    if "purpose" in form.fields:
        found["purpose"] = form.fields["purpose"]
    if "expires_after[seconds]" in form.fields:
        found["expires_s"] = form.fields["expires_after[seconds]"]
    arrived = Arrived.model_validate(found)
    demand_purpose(arrived.purpose)
    return arrived


def demand_purpose(purpose: str) -> None:
    """Raise Wrong for a file that is to be something else."""
    if purpose != uploads.TRAINING:
        raise Wrong(
            f"Invalid value for 'purpose': '{purpose}' is not one of ['{uploads.TRAINING}']", param="purpose",
            code="invalid_value", remedy="files are kept to be learnt from",
        )  # fmt: skip
