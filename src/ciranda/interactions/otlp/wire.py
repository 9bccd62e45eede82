"""OTLP on the wire: protobuf or JSON in, values out, and the way back. The one file that names `opentelemetry.proto`.

JSON of OTLP is protobuf's JSON but for ids, which are hexadecimal there and base64 in the library's reading; a hexadecimal id is
valid base64 too, so its text is had back by encoding again. Attributes become plain Python values, nested ones no deeper than
`DEPTH`, not more of them than `MOST`. It refuses what is no message at all (`Invalid`); what is odd in one span is for the reader
of that span to judge.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from ciranda.errors import Invalid

JSON, PROTOBUF = "application/json", "application/x-protobuf"
DEPTH = 8
MOST = 5_000  # attributes, events, values of one holder; what is over it is left out
UNSET, OK, ERROR = 0, 1, 2
INTERNAL, SERVER, CLIENT = 1, 2, 3

Value = Any
Attributes = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span."""

    name: str
    at_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """One span, with the resource and the scope that it came under. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    resource: Attributes = field(default_factory=dict)
    scope: str = ""
    kind: int = CLIENT
    status: int = UNSET
    message: str = ""
    events: tuple[Event, ...] = ()


def decode(body: bytes, kind: str) -> ExportTraceServiceRequest:
    """The message in a request's body. Raises Invalid."""
    message = ExportTraceServiceRequest()
    try:
        if kind == JSON:
            json_format.Parse(body, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = f"the body is no ExportTraceServiceRequest in {kind}: {str(error)[:200]}"
        raise Invalid(reason, where="body", remedy="send what an OTLP/HTTP exporter sends to /v1/traces") from error
    return message


def count(message: ExportTraceServiceRequest) -> int:
    """How many spans a message holds."""
    return sum(len(scope.spans) for one in message.resource_spans for scope in one.scope_spans)


def spans(message: ExportTraceServiceRequest, kind: str) -> Iterator[Span]:
    """The spans of a message, one by one."""
    text = _hex_of_json if kind == JSON else bytes.hex
    for resource_spans in message.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for one in scope_spans.spans:
                yield Span(
                    text(one.trace_id), text(one.span_id), text(one.parent_span_id), one.name, one.start_time_unix_nano,
                    one.end_time_unix_nano, _attributes(one.attributes), resource, scope_spans.scope.name, one.kind,
                    one.status.code, one.status.message,
                    tuple(_event(event) for event in islice(one.events, MOST)),
                )  # fmt: skip


def _event(event: trace_pb2.Span.Event) -> Event:
    return Event(event.name, event.time_unix_nano, _attributes(event.attributes))


def answer(kind: str, *, rejected: int = 0, message: str = "") -> bytes:
    """The body of a 200: empty but for what was refused, or a warning."""
    told = ExportTraceServiceResponse()
    if rejected or message:
        told.partial_success.rejected_spans = rejected
        told.partial_success.error_message = message
    if kind == JSON:
        return str(json_format.MessageToJson(told, indent=None)).encode()
    return bytes(told.SerializeToString())


def refused(body: bytes) -> tuple[int, str]:
    """How many spans a receiver's 200 says that it refused, and why; nothing when it cannot be read."""
    told = ExportTraceServiceResponse()
    try:
        told.ParseFromString(body)
    except DecodeError:
        return 0, ""
    return told.partial_success.rejected_spans, told.partial_success.error_message


def status(kind: str, code: int, message: str) -> bytes:
    """The body of an error, a `google.rpc.Status`: two fields, so it needs no library of its own."""
    if kind == JSON:
        return json.dumps({"code": code, "message": message}).encode()
    text = message.encode()
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def encode(given: Iterable[Span], *, scope: str, version: str) -> bytes:
    """Spans as the body of an export; those with the same resource stand together."""
    message = ExportTraceServiceRequest()
    holders: dict[str, Any] = {}
    for span in given:
        key = json.dumps(span.resource, sort_keys=True, default=str)
        if key not in holders:
            resource_spans = message.resource_spans.add()
            resource_spans.resource.attributes.extend(_key_values(span.resource))
            holders[key] = resource_spans.scope_spans.add()
            holders[key].scope.name, holders[key].scope.version = scope, version
        holders[key].spans.append(_span(span))
    return bytes(message.SerializeToString())


def _span(span: Span) -> trace_pb2.Span:
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id), span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id), name=span.name, kind=trace_pb2.Span.SpanKind.Name(span.kind),
        start_time_unix_nano=span.start_ns, end_time_unix_nano=span.end_ns, attributes=_key_values(span.attributes),
        status=trace_pb2.Status(code=trace_pb2.Status.StatusCode.Name(span.status), message=span.message),
    )  # fmt: skip


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list | tuple):
        listed = AnyValue()
        listed.array_value.values.extend(_any(one) for one in value)
        return listed
    return AnyValue(string_value=str(value))


def _attributes(found: Iterable[KeyValue]) -> dict[str, Value]:
    return {one.key: _value(one.value, DEPTH) for one in islice(found, MOST)}


def _value(given: AnyValue, depth: int) -> Value:
    kind = given.WhichOneof("value")
    if kind is None or depth == 0:
        return None
    if kind == "array_value":
        return [_value(one, depth - 1) for one in islice(given.array_value.values, MOST)]
    if kind == "kvlist_value":
        return {one.key: _value(one.value, depth - 1) for one in islice(given.kvlist_value.values, MOST)}
    if kind == "bytes_value":
        return b64encode(given.bytes_value).decode()
    return getattr(given, kind)


def _hex_of_json(identifier: bytes) -> str:
    return b64encode(identifier).decode().lower()


def _varint(number: int) -> bytes:
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*pieces, number])
