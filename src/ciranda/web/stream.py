"""Live figures: one producer per process makes each point once per second, writes it once, and fans the bytes out.

A browser holds one stream for all its tabs (`static/js/worker.js`), so a stream carries every model that its key reaches.
Keys that reach the same models share the same bytes. A reader that is slow loses the oldest points, never delays the others:
its queue holds two. Nobody listening, nothing is asked of the database. A stream ends after ten minutes, so that a browser
comes back with its cookie and a revoked key is noticed; and at shutdown, since a server does not stop before its streams do.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ciranda.errors import CirandaError
from ciranda.govern.access import Principal
from ciranda.store import clock
from ciranda.web.views.live import STEP_S, wire
from ciranda.web.views.reader import Reader

EVERY_S = 1.0
QUEUE = 2
LONGEST_S = 600.0
TAIL_S = 4 * STEP_S
LOG = logging.getLogger(__name__)
Reach = tuple[str, ...]
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Hub:
    """The streams of one process.

    Args:
        reader: Where points come from.
        every: Seconds between points.
    """

    def __init__(self, reader: Reader, *, every: float = EVERY_S) -> None:
        self.reader, self.every = reader, every
        self.queues: dict[asyncio.Queue[bytes | None], Reach] = {}
        self.marks: dict[str, str] = {}
        self.closed = False
        self._producer: asyncio.Task[None] | None = None

    async def listen(self, reach: Sequence[str]) -> AsyncIterator[bytes]:
        """The events of one browser, until it leaves, the hub closes, or ten minutes are over."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        self.queues[queue] = tuple(reach)
        self._wake()
        try:
            yield b"retry: 2000\n\n" + event("hello", {"at": clock.iso()})
            async with asyncio.timeout(LONGEST_S):
                while not self.closed:
                    piece = await queue.get()
                    if piece is None:
                        return
                    yield piece
        except TimeoutError:
            return
        finally:
            self.queues.pop(queue, None)

    def close(self) -> None:
        """End every stream, now."""
        self.closed = True
        for queue in self.queues:
            _put(queue, None)
        if self._producer:
            self._producer.cancel()

    def _wake(self) -> None:
        if not self.closed and (self._producer is None or self._producer.done()):
            self._producer = asyncio.create_task(self._produce())

    async def _produce(self) -> None:
        """While somebody listens: each second, one point for each set of models that somebody may see."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self.queues:
            reaches = set(self.queues.values())
            pieces = await asyncio.to_thread(self.point, reaches)
            for queue, reach in list(self.queues.items()):
                if reach in pieces:
                    _put(queue, pieces[reach])
            due = max(due + self.every, loop.time())
            await asyncio.sleep(due - loop.time())

    def point(self, reaches: set[Reach]) -> dict[Reach, bytes]:
        """This second's bytes for each reach. A part that is down makes the point poorer, not absent."""
        changed = self._changed()
        return {
            reach: event("tick", self._tick(reach)) + (event("changed", changed) if changed else b"")
            for reach in reaches
        }

    def _tick(self, reach: Reach) -> dict[str, Any]:
        try:
            windows = [
                wire(self.reader.window(reach, model, seconds=TAIL_S)) for model in ("", *self.reader.names(reach))
            ]
        except CirandaError as error:
            LOG.warning("no live figures: %s", error.message)
            return {"at": clock.iso(), "windows": [], "down": error.message}
        return {"at": clock.iso(), "windows": windows}

    def _changed(self) -> list[str]:
        try:
            marks = self.reader.state()
        except CirandaError as error:
            LOG.warning("no news of changes: %s", error.message)
            return []
        changed = sorted(topic for topic, mark in marks.items() if self.marks.get(topic, mark) != mark)
        self.marks = marks
        return changed


class Streams:
    """The address of the stream, as a plain ASGI app: every open tab pays for what a response object would hold.

    Args:
        hub: Where the events come from; the scope's `principal` says whose models.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who: Principal | None = scope.get("principal")
        if who is None or scope["method"] != "GET" or not who.may("view"):
            answer = PlainTextResponse("sign in first", status_code=401 if who is None else 403)
            await answer(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        sending = asyncio.ensure_future(_send_all(self.hub.listen(who.models), send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send_all(pieces: AsyncIterator[bytes], send: Send) -> None:
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Returns when the browser is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def event(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def _put(queue: asyncio.Queue[bytes | None], piece: bytes | None) -> None:
    """Add to a queue; a full one drops its oldest."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(piece)
