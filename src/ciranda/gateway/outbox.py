"""What one turn of the event loop wants to send, sent together at its end.

A turn reads from all sockets that are ready. Sending at once after each read wakes whoever waits on the other side once per
message, and a wake-up costs more than the sending (a sixth of all CPU, measured); sent back to back, the other side is still awake.
The records of a turn's answers go to the spool in one write for the same reason, before the answers: see `journal`.

A sender adds itself once; `flush` then sends all that it holds. Nothing waits longer than the turn that it was made in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Sender(Protocol):
    """Whoever holds something to send."""

    def flush(self) -> None:
        """Send it. What is no longer connected is passed over in silence."""


class Outbox:
    """The senders of one turn, in order."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: deque[Sender] = deque()

    def add(self, sender: Sender) -> None:
        """Send what it holds at the end of this turn."""
        if not self._senders:
            asyncio.get_running_loop().call_soon(self.flush)
        self._senders.append(sender)

    def flush(self) -> None:
        """Send all now; those that are added meanwhile too."""
        senders = self._senders
        try:
            while senders:
                senders[0].flush()
                senders.popleft()
        except BaseException:
            senders.popleft()
            if senders:
                asyncio.get_running_loop().call_soon(self.flush)
            raise
