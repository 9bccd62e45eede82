"""Counting a prompt before it is sent: `/v1/messages/count_tokens`.

The engine that would answer is asked twice: for the prompt that its template makes of the messages, and for that prompt's
tokens. llama.cpp can; an engine that cannot, or is slow, leaves the estimate of `counting`, and the header
`x-ciranda-counted` says so. It counts as a request of its key, and is noted, see `beside`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.errors import Unavailable
from ciranda.gateway import counting, route
from ciranda.gateway.asked import peek
from ciranda.gateway.beside import Beside
from ciranda.gateway.doors import messages
from ciranda.gateway.server import Connection, Request
from ciranda.gateway.snapshot import Key
from ciranda.gateway.upstream import Replica, Upstream

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway

SECONDS = 10.0
ANSWER_BYTES = 16 << 20
PATHS = ("/apply-template", "/tokenize")


class Count:
    """One count on its way."""

    def __init__(self, gateway: Gateway, connection: Connection, request: Request, key: Key) -> None:
        self._gateway = gateway
        self._request = request
        self._chat = messages.counted(request.body)
        seen = peek(self._chat)
        model, pinned = route.find(gateway.snapshot(), key, seen.model)
        arm = pinned or route.choose(model, route.point(model.rollout, seen.user or ""))
        self._version = arm.version
        self._replica = route.pick(arm.replicas, monotonic())
        self._call: Upstream | None = None
        self._stage = self._status = self._size = 0
        self._pieces: list[bytes] = []
        self._until = monotonic() + SECONDS
        self._beside = Beside(
            gateway, connection, request, key, event="tokens_counted", go=self._ask, gone=self._over
        )  # fmt: skip
        note = self._beside.note
        note.model, note.version, note.user = model.name, self._version, (seen.user or note.user)[:256]

    def start(self) -> None:
        """Ask, once the bounds of the key allow it."""
        self._gateway.counts.add(self)
        self._beside.start()
        if self._beside.over:
            self._over()

    def _ask(self) -> None:
        if self._replica is None:
            raise Unavailable(f"{self._version} has no replica that is ready", remedy="try again in a moment")
        self._send(self._replica, self._chat)

    def tick(self, now: float) -> None:
        """Estimate when it takes too long."""
        if now > self._until:
            self._estimate()

    def _send(self, replica: Replica, body: bytes) -> None:
        self._pieces, self._status, self._size = [], 0, 0
        self._call = replica.send(self, PATHS[self._stage], body, self._request.request_id)

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status

    def upstream_data(self, payload: bytes) -> None:
        self._size += len(payload)
        self._pieces.append(payload)
        if self._size > ANSWER_BYTES:
            self._estimate()

    def upstream_end(self) -> None:
        self._call = None
        told = _object(b"".join(self._pieces)) if self._status == 200 else {}
        prompt, found = told.get("prompt"), told.get("tokens")
        if self._stage == 0 and isinstance(prompt, str) and self._replica is not None:
            self._stage = 1
            asked = {"content": prompt, "add_special": True, "parse_special": True}
            self._send(self._replica, msgspec.json.encode(asked))
        elif self._stage == 1 and isinstance(found, list):
            self._tell(len(found), b"")
        else:
            self._estimate()

    def upstream_failed(self, call: Upstream, reason: str) -> None:
        self._call = None
        self._estimate()

    def _estimate(self) -> None:
        self._tell(counting.of_request(self._chat), b"x-ciranda-counted: estimated\r\n")

    def _tell(self, tokens: int, lines: bytes) -> None:
        self._over()
        lines += b"x-ciranda-version: %b\r\n" % self._version.encode()
        self._beside.answer(lines, b'{"input_tokens":%d}' % tokens, found=tokens)

    def _over(self) -> None:
        self._gateway.counts.discard(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
