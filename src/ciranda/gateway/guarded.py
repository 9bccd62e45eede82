"""The slow path of a model whose file asks for a guard: personal data is masked before the engine, or before the user, sees it.

The record holds the masked texts too, so what was masked is nowhere on our disk. Patterns run in a thread, since a long body
would hold up everybody else. An answer can only be checked as a whole: a client that streams gets it as one piece, in events.
It fails closed: a rule that this gateway does not know means 503, never an unguarded answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.errors import CirandaError, Unavailable
from ciranda.govern import guard

if TYPE_CHECKING:
    from ciranda.gateway.relay import Relay

PII = "pii: mask"
KNOWN = frozenset({PII})

Found = Counter[str]


class Guarded:
    """The guard of one request."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._rules = relay.model.guard
        self._found: Found = Counter()
        self._task: asyncio.Task[None] | None = None

    @property
    def whole(self) -> bool:
        """Whether the answer must be there as a whole before any of it is shown."""
        return bool(self._rules.output)

    def start(self) -> None:
        """Check the request, then send it. Raises Unavailable for a rule nobody here knows."""
        unknown = {*self._rules.input, *self._rules.output} - KNOWN
        if unknown:
            reason = f"{self._relay.model.name} asks for guards unknown to this gateway: {', '.join(sorted(unknown))}"
            raise Unavailable(reason, remedy="update the gateway, or take them out of the model's file")
        self._task = asyncio.get_running_loop().create_task(self._check_request())

    def answer(self, body: bytes) -> None:
        """Check the engine's answer, then show it."""
        self._task = asyncio.get_running_loop().create_task(self._check_answer(body))

    async def _check_request(self) -> None:
        relay = self._relay
        try:
            body, found = await asyncio.to_thread(mask_request, relay.body) if self._rules.input else (relay.body, {})
            self._note("input", Counter(found))
            relay.body = relay.outgoing = body
            if self.whole and relay.record.stream:
                relay.outgoing = _unstreamed(body)
            if not relay.over:
                relay.send()
        except CirandaError as error:
            relay.refuse(error)

    async def _check_answer(self, body: bytes) -> None:
        relay = self._relay
        if self._rules.output:
            body, found = await asyncio.to_thread(mask_answer, body)
            self._note("output", found)
        relay.answer(body)

    def _note(self, side: str, found: Found) -> None:
        if found:
            self._found.update({f"{side}.{kind}": count for kind, count in found.items()})
            self._relay.record.guard = msgspec.json.encode({"pii": dict(self._found)}).decode()


def mask_request(body: bytes) -> tuple[bytes, Found]:
    """The request with personal data in its texts masked, and how much of which kind there was."""
    fields, found = msgspec.json.decode(body), Counter[str]()
    for message in _objects(fields.get("messages")):
        _mask_in(message, "content", found)
    for name in ("prompt", "input"):
        _mask_in(fields, name, found)
    return (msgspec.json.encode(fields), found) if found else (body, found)


def mask_answer(body: bytes) -> tuple[bytes, Found]:
    """The same for an answer."""
    found = Counter[str]()
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body, found
    for choice in _objects(fields.get("choices")) if isinstance(fields, dict) else ():
        _mask_in(choice, "text", found)
        _mask_in(choice.get("message"), "content", found)
    return (msgspec.json.encode(fields), found) if found else (body, found)


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _mask_in(holder: object, name: str, found: Found) -> None:
    """Mask a text, a list of texts, or the texts of a list of parts, in place."""
    value = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(value, str) and isinstance(holder, dict):
        holder[name] = _mask(value, found)
    elif isinstance(value, list):
        for place, part in enumerate(value):
            if isinstance(part, str):
                value[place] = _mask(part, found)
            else:
                _mask_in(part, "text", found)


def _mask(text: str, found: Found) -> str:
    masked, findings = guard.mask(text)
    found.update(finding.kind for finding in findings)
    return masked


def _unstreamed(body: bytes) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields.pop("stream_options", None)
    return msgspec.json.encode({**fields, "stream": msgspec.Raw(b"false")})
