"""`/v1/moderations`, answered by our own guard: personal data, and nothing that it cannot judge.

Categories that the guard does not know are absent instead of false: nobody looked. What is found is certain (a pattern and its
check digit), so scores are 0 or 1. Patterns run in a thread, since a long text would hold up everybody else. Texts are neither
recorded nor kept: they are asked about because they may hold what must not be on a disk. That they were judged, for whom and with
what outcome is noted, and counts as a request of the key, see `beside`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.errors import LimitReached, TooLarge
from ciranda.gateway import limits
from ciranda.gateway.answers import BadField, Unsupported
from ciranda.gateway.beside import Beside
from ciranda.gateway.doors import fields
from ciranda.gateway.server import Connection, Request
from ciranda.gateway.snapshot import Key
from ciranda.govern import guard

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway

MODEL = "ciranda-guard"
INPUTS = 1024


class Moderation:
    """One request; one of the gateway's `moderations` while it is judged."""

    def __init__(self, gateway: Gateway, connection: Connection, request: Request, key: Key) -> None:
        self._ident = request.ident
        self._running = gateway.moderations
        self._texts = texts(request.body)
        if (size := sum(map(len, self._texts))) > limits.MODERATED_CHARACTERS:
            raise TooLarge(
                f"the input has {size:,} characters", remedy=f"send at most {limits.MODERATED_CHARACTERS:,} at once"
            )
        self._task: asyncio.Task[None] | None = None
        self._beside = Beside(
            gateway, connection, request, key, event="texts_judged", go=self._go, gone=lambda: None
        )  # fmt: skip
        self._beside.note.model = MODEL

    def start(self) -> None:
        """Judge, once the bounds of the key allow it, then answer."""
        self._beside.start()

    def _go(self) -> None:
        if len(self._running) >= limits.MODERATIONS_RUNNING:
            raise LimitReached("other texts are being judged", remedy="send again after a moment")
        self._running.add(self)
        self._task = asyncio.get_running_loop().create_task(self._judge())

    async def _judge(self) -> None:
        try:  # the thread goes on when the client leaves, and counts until it is done
            results = await asyncio.to_thread(lambda: [verdict(text) for text in self._texts])
        finally:
            self._running.discard(self)
        body = {"id": f"modr-{self._ident.replace('-', '')}", "model": MODEL, "results": results}
        self._beside.answer(b"", msgspec.json.encode(body), found=sum(one["flagged"] for one in results))


def texts(body: bytes) -> list[str]:
    """What is to be judged: one text, several, or the parts of one. Raises Invalid."""
    given: Any = fields.read(body).get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given or len(given) > INPUTS:
        remedy = f"send a text, a list of up to {INPUTS} texts, or a list of text parts"
        raise BadField("input: a text or a list is required", param="input", remedy=remedy)
    if all(isinstance(one, str) for one in given):
        return given
    parts = fields.objects(given, "input")
    if any(part.get("type") != "text" for part in parts):
        raise Unsupported("input: only text can be judged", param="input", remedy="send parts of the type text")
    return ["\n".join(fields.text(part.get("text"), "input.text") for part in parts)]


def verdict(text: str) -> dict[str, Any]:
    """One result in OpenAI's shape."""
    kinds = {finding.kind for finding in guard.find_pii(text)}
    held = {"pii": bool(kinds), **{f"pii/{kind}": kind in kinds for kind in guard.KINDS}}
    return {
        "flagged": bool(kinds),
        "categories": held,
        "category_scores": {name: float(found) for name, found in held.items()},
        "category_applied_input_types": {name: ["text"] for name in held},
    }
