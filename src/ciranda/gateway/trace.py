"""W3C trace context: which trace a request belongs to, and our own place in it.

A client that traces sends `traceparent`; the record keeps its trace and its span, and the engine gets the same trace with us as
the parent. Our span's id is the random half of the interaction's id, so it costs nothing, and whoever exports the interaction
later finds the same one. A `traceparent` that is not valid is left out, as the standard wants it. It refuses to start traces of
its own: a request without one is recorded without one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciranda.gateway.noting import Notes

STATE_BYTES = 512
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_STATE = re.compile(rb"[\x20-\x7e]*")


def read(parent: bytes) -> tuple[str, str]:
    """Trace and span of a `traceparent`; two empty texts when it is not valid."""
    found = _PARENT.fullmatch(parent.strip())
    if found is None or (parent.startswith(b"00") and len(parent.strip()) != 55):
        return "", ""
    return found[1].decode(), found[2].decode()


def span_of(interaction: str) -> str:
    """The span id of an interaction: the second half of its UUID."""
    return interaction.replace("-", "")[16:]


def lines(headers: Mapping[bytes, bytes], record: Notes) -> bytes:
    """The header lines that tell an engine of the trace, with our span as its parent."""
    flags = headers[b"traceparent"].strip()[53:55].decode()
    own = f"traceparent: 00-{record.trace_id}-{record.span_id}-{flags}\r\n".encode()
    state = headers.get(b"tracestate", b"")
    if not state or len(state) > STATE_BYTES or not _STATE.fullmatch(state):
        return own
    return own + b"tracestate: %b\r\n" % state
