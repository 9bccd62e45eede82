"""`POST /v1/traces`: OTLP/HTTP in, for applications that are instrumented already. What they report becomes interactions.

Protobuf or JSON, gzip or not. A 200 is sent when every call of a model in the message is in the spool, so a reported call is as
safe as one of our own; spans that are no call of a model are passed over and counted. What was refused, and why, is told as a
partial success. Errors have OTLP's shape: those that a repetition may mend are 429 and 503 with `retry-after` (a full disk too,
since exporters would throw away what gets a 507), the others say that the data is bad.

A span of a call that went through this gateway is an echo: its answer names one of our versions (or it failed, and asked for a
model of ours). It is counted and not recorded again, since the gateway recorded it already and knows more of it. The record
carries the trace of the span.

Reading runs in a thread that gives way after every span, a few requests at a time, and records are written in small groups, so
that answers on the hot path hardly wait. It refuses what is larger than its bounds before or while it is inflated.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import CirandaError, Forbidden, Invalid, LimitReached, StorageFull, TooLarge, Unavailable
from ciranda.gateway import limits, route
from ciranda.interactions.otlp import reading, wire
from ciranda.interactions.otlp.reading import Reported
from ciranda.interactions.spool import INTERACTION
from ciranda.store import clock

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway
    from ciranda.gateway.server import Connection, Request
    from ciranda.gateway.snapshot import Key, Snapshot

GZIP = 31  # zlib's window bits for a gzip member
RETRIED = frozenset({429, 502, 503, 504})
CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 429: 8, 503: 14}  # HTTP status -> google.rpc.Code
UNKNOWN_CODE = 13


class WrongType(CirandaError):
    """A content type or encoding that OTLP does not know."""

    status, kind = 415, "invalid_request_error"


class Found(msgspec.Struct):
    """What one message held."""

    records: list[Reported] = msgspec.field(default_factory=list)
    ignored: int = 0
    echoes: int = 0
    rejected: int = 0
    reason: str = ""


class Traces:
    """The door of one worker."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._running: set[Export] = set()

    def receive(self, connection: Connection, request: Request) -> None:
        """Answer one export, now or in a moment."""
        try:
            key, snapshot = self._admit(request), self._gateway.snapshot()
            export = Export(self, connection, request, kind_of(request))
            self._running.add(export)
            export.start(key, snapshot)
        except CirandaError as error:
            self.refuse(connection, request, error)

    def _admit(self, request: Request) -> Key:
        key = self._gateway.key(request)
        if key.role not in route.ASKING:
            raise Forbidden(f"a key of the role {key.role} reports no traces", remedy="use a key of the role client")
        if len(request.body) > limits.TRACES_BYTES:
            reason = f"the body is over {limits.TRACES_BYTES:,} bytes"
            raise TooLarge(reason, remedy="export smaller batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)")
        if len(self._running) >= limits.TRACES_RUNNING:
            raise LimitReached("other traces are being read", remedy="send again after a moment")
        if self._gateway.storage_full():
            raise Unavailable("traces cannot be recorded at present", remedy="free space on the gateway's disk")
        return key

    async def take(self, export: Export, key: Key, snapshot: Snapshot) -> None:
        """Read, write, answer."""
        request = export.request
        try:
            found = await asyncio.to_thread(read, request, export.kind, key, snapshot)
            await self._write(found)
        except StorageFull as error:
            export.refuse(Unavailable(error.message, remedy=error.remedy))
        except CirandaError as error:
            export.refuse(error)
        else:
            self._count(found)
            export.answer(wire.answer(export.kind, rejected=found.rejected, message=found.reason))
        finally:
            self._running.discard(export)
            export.leave()

    async def _write(self, found: Found) -> None:
        for place, one in enumerate(found.records):
            if place and place % limits.TRACES_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._gateway.write(INTERACTION, msgspec.json.encode(one.meta), one.request, one.response)

    def _count(self, found: Found) -> None:
        counters = self._gateway.metrics.counters
        counters["spans_recorded"] += len(found.records)
        counters["spans_ignored"] += found.ignored
        counters["spans_echoed"] += found.echoes
        counters["spans_rejected"] += found.rejected

    def refuse(self, connection: Connection, request: Request, error: CirandaError) -> None:
        """Answer with an error in OTLP's shape."""
        self._gateway.metrics.refused(error.status)
        kind = wire.PROTOBUF if b"protobuf" in request.headers.get(b"content-type", b"") else wire.JSON
        lines = b"retry-after: 1\r\n" if error.status in RETRIED else b""
        message = f"{error.message}. {error.remedy}" if error.remedy else error.message
        body = wire.status(kind, CODES.get(error.status, UNKNOWN_CODE), message)
        connection.answer(error.status, b"content-type: %b\r\n" % kind.encode() + lines, body)


class Export:
    """One request of an exporter while it is read."""

    def __init__(self, traces: Traces, connection: Connection, request: Request, kind: str) -> None:
        self.connection = connection
        self.request = request
        self.kind = kind
        self.over = False
        self._traces = traces
        self._task: asyncio.Task[None] | None = None

    def start(self, key: Key, snapshot: Snapshot) -> None:
        """Begin; the connection tells when its client leaves."""
        self.connection.exchange = self
        self._task = asyncio.get_running_loop().create_task(self._traces.take(self, key, snapshot))

    def answer(self, body: bytes) -> None:
        """Send the 200, unless nobody waits for it any more."""
        if not self.over:
            self.over = True
            self.connection.answer(200, b"content-type: %b\r\n" % self.kind.encode(), body)

    def refuse(self, error: CirandaError) -> None:
        """Send an error, unless nobody waits for it any more."""
        if not self.over:
            self.over = True
            self._traces.refuse(self.connection, self.request, error)

    def leave(self) -> None:
        """Without an answer (the worker ends, or reading broke in a way nobody foresaw) the connection ends too."""
        if not self.over:
            self.over = True
            self.connection.transport.abort()

    def client_left(self) -> None:
        """What was sent is recorded all the same: the exporter will send it again, and it is kept once."""
        self.over = True

    def client_slow(self) -> None: ...

    def client_ready(self) -> None: ...


def kind_of(request: Request) -> str:
    """The content type of a request. Raises WrongType."""
    sent = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if sent not in (wire.JSON, wire.PROTOBUF):
        raise WrongType(f"{sent[:100] or 'no content type'} is not OTLP", remedy=f"send {wire.PROTOBUF} or {wire.JSON}")
    return sent


def inflate(body: bytes, encoding: bytes) -> bytes:
    """The body as it was before compression, never more than the bound. Raises TooLarge, Invalid, WrongType."""
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise WrongType(f"the encoding {encoding[:40].decode('latin-1')!r} is not taken", remedy="send gzip, or none")
    inflator = zlib.decompressobj(GZIP)
    try:
        inflated = inflator.decompress(body, limits.TRACES_INFLATED_BYTES + 1)
    except zlib.error as error:
        raise Invalid(f"the body is no gzip: {error}", remedy="compress it again") from error
    if len(inflated) > limits.TRACES_INFLATED_BYTES:
        reason = f"the body is over {limits.TRACES_INFLATED_BYTES:,} bytes when it is inflated"
        raise TooLarge(reason, remedy="export smaller batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)")
    if not inflator.eof or inflator.unused_data:
        raise Invalid("the gzip is cut off, or something follows it", remedy="compress it again")
    return inflated


def read(request: Request, kind: str, key: Key, snapshot: Snapshot) -> Found:
    """Everything in one message, in a thread. Raises what the whole message is refused for."""
    message = wire.decode(inflate(request.body, request.headers.get(b"content-encoding", b"")), kind)
    if wire.count(message) > limits.TRACES_SPANS:
        raise TooLarge(f"over {limits.TRACES_SPANS:,} spans in one message", remedy="export smaller batches")
    found, now_ms = Found(), clock.now_ms()
    for span in wire.spans(message, kind):
        time.sleep(0)  # let the answers on the hot path go first
        if not reading.is_call(span):
            found.ignored += 1
        elif is_echo(span, snapshot):
            found.echoes += 1
        else:
            _take(found, span, key, snapshot, now_ms)
    return found


def _take(found: Found, span: wire.Span, key: Key, snapshot: Snapshot, now_ms: int) -> None:
    try:
        one = reading.read(span, tenant=key.tenant, key=key.id, models=snapshot.models.keys(), now_ms=now_ms)
        if not key.may_use(one.meta["model"]):
            raise Forbidden(
                f"this key may not report calls of {one.meta['model']}", remedy="ask an admin for one that may"
            )
        found.records.append(one)
    except CirandaError as error:
        found.rejected += 1
        found.reason = found.reason or f"{error.message}. {error.remedy}"


def is_echo(span: wire.Span, snapshot: Snapshot) -> bool:
    """Whether a version of a model of ours answered, such as `smart-home@2`, or a model of ours was asked and nothing answered:
    then the call went through this gateway."""
    answered, asked = reading.answered_by(span), reading.asked_for(span)
    return _is_version(answered, snapshot) or (
        not answered and (asked in snapshot.models or _is_version(asked, snapshot))
    )


def _is_version(name: str, snapshot: Snapshot) -> bool:
    model, at, number = name.rpartition("@")
    return bool(at) and number.isdigit() and model in snapshot.models
