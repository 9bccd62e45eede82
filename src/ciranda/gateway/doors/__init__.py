"""The endpoints that an engine answers, by what each asks of the gateway.

Chat completions, text completions and embeddings pass byte by byte. The others are translated: their requests become chat
completions, which every engine speaks, and the answers become theirs again, event by event. Records hold the chat form, what
the engine got and gave, so that whoever reads interactions reads one shape; `endpoint` names the door.

A translation drops nothing silently: what cannot be done without a store or a provider's own tools is refused by name, and
fields that nobody here knows go on to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ciranda.gateway.doors import messages, responses
from ciranda.gateway.doors.blocks import Message
from ciranda.gateway.doors.chunks import Used
from ciranda.gateway.doors.items import Response


class Translation(Protocol):
    """One answer on its way back through a door that translates."""

    ping: bytes

    def whole(self, answer: bytes, counted: Used | None) -> bytes:
        """A whole chat answer in the client's shape; `counted` is our estimate where the engine reported no tokens."""

    def push(self, events: bytes) -> bytes:
        """Whole events of a chat stream, as events of the client's stream. Raises UpstreamFailed."""

    def last(self, events: bytes, counted: Used | None) -> bytes:
        """The rest of the stream and its end."""

    def broken(self, shown: bytes, status: int) -> bytes:
        """The events that say that the stream is broken; `shown` is the error in OpenAI's shape."""


@dataclass(frozen=True, slots=True)
class Door:
    """One endpoint: where engines are asked, how a request becomes theirs (None: as it is), how answers come back."""

    wire: str
    chat: Callable[[bytes], bytes] | None = None
    opened: Callable[[bytes, str], Translation] | None = None


DOORS: dict[bytes, Door] = {
    b"/v1/chat/completions": Door("/v1/chat/completions"),
    b"/v1/completions": Door("/v1/completions"),
    b"/v1/embeddings": Door("/v1/embeddings"),
    b"/v1/responses": Door("/v1/chat/completions", responses.chat, Response),
    b"/v1/messages": Door("/v1/chat/completions", messages.chat, Message),
}
