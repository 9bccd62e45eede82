"""Whole answers wait here for the end of the turn: their records reach the spool in one write, then they are sent.

The law of `relay` holds: no answer is sent before its record is written. Where the one write fails, each of the rest is written by
itself, and those that cannot be are refused (507). A client that left in the meantime is recorded as gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciranda.errors import CirandaError
from ciranda.interactions.spool import INTERACTION, pack

if TYPE_CHECKING:
    from ciranda.gateway.app import Gateway
    from ciranda.gateway.relay import Relay


class Entry:
    """One whole answer: how it is recorded (`body`), and how it is shown."""

    __slots__ = ("body", "lines", "relay", "shown", "status")

    def __init__(self, relay: Relay, status: int, body: bytes, lines: bytes, shown: bytes) -> None:
        self.relay = relay
        self.status = status
        self.body = body
        self.lines = lines
        self.shown = shown


class Journal:
    """The answers of one turn. Part of the `outbox.Sender` protocol."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._entries: list[Entry] = []

    def add(self, relay: Relay, status: int, body: bytes, lines: bytes, shown: bytes) -> None:
        """Record and send at the end of this turn."""
        if not self._entries:
            self._gateway.server.outbox.add(self)
        self._entries.append(Entry(relay, status, body, lines, shown))

    def flush(self) -> None:
        """Record all, then send all."""
        entries, self._entries = self._entries, []
        sealed: list[tuple[Entry, bytes]] = []
        frames: list[list[bytes]] = []
        for one in entries:
            try:
                meta = one.relay.seal(one.status)
                frames.append(pack(INTERACTION, meta, one.relay.recorded, one.body))
            except CirandaError as error:  # what is wrong with one answer holds up no other
                one.relay.settle(one, error)
            else:
                sealed.append((one, meta))
        written = self._gateway.write_all(frames) if frames else 0
        for one, _ in sealed[:written]:
            one.relay.settle(one, None)
        for one, meta in sealed[written:]:
            self._alone(one, meta)

    def _alone(self, entry: Entry, meta: bytes) -> None:
        entry.relay.settle(entry, self._gateway.try_to_write(INTERACTION, meta, entry.relay.recorded, entry.body))
