"""An upstream that takes its time, and a load that keeps the clock: for what `wrk` cannot see (time to first token, streams, pace).

    python bench/paced.py mock --port 41903 --first-ms 20 --chunks 100 --gap-ms 5
    python bench/paced.py load http://127.0.0.1:41903 --streams 64 --seconds 5
    python bench/paced.py load http://127.0.0.1:41903 --rps 750 --seconds 5

Both are bare asyncio protocols with one buffer each, so that they are cheaper than any door between them. `load` prints JSON.
Without `--rps` and `--streams` it asks one question after the other on one connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections import deque
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import uvloop

DELTA = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "smart-home@1"}
WHOLE = json.dumps(
    {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "smart-home@1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 110}}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 110, "total_tokens": 230},
    }
).encode()  # fmt: skip


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def event(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return chunk(b"data: " + json.dumps({**DELTA, "choices": [choice], **more}).encode() + b"\n\n")


PIECE = event({"content": "word "})
LAST = event({}, "stop") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Mock(asyncio.Protocol):
    """Answers one request after the other, in its own time."""

    def __init__(self, first_s: float, chunks: int, gap_s: float) -> None:
        self.first_s, self.chunks, self.gap_s = first_s, chunks, gap_s
        self.buffer = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        stream = b'"stream":true' in rest[:length].replace(b" ", b"")
        self.loop.call_later(self.first_s, self.begin if stream else self.whole)

    def whole(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE) + WHOLE
        )

    def begin(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + PIECE
        )
        self.due = self.loop.time()
        self.left = self.chunks - 1
        self.later()

    def later(self) -> None:
        self.due += self.gap_s
        self.loop.call_at(self.due, self.piece)

    def piece(self) -> None:
        self.left -= 1
        self.transport.write(PIECE if self.left > 0 else PIECE + LAST)
        if self.left > 0 and not self.transport.is_closing():
            self.later()


class Client(asyncio.Protocol):
    """One connection; `done` is called with (seconds to the first event, seconds in all, events) of each answer."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.request = head + body
        self.stream = b'"stream":true' in body
        self.buffer = bytearray()
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self) -> asyncio.Future[tuple[float, float, int]]:
        self.answer: asyncio.Future[tuple[float, float, int]] = asyncio.get_running_loop().create_future()
        self.began, self.first, self.events = perf_counter(), 0.0, 0
        self.buffer.clear()
        self.transport.write(self.request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        events = data.count(b'"delta"')
        self.events += events
        if events and not self.first:
            self.first = perf_counter()
        if self.stream:
            over = b"[DONE]" in self.buffer[-64:]
            if not over:
                del self.buffer[:-64]
        else:
            head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            at = head.lower().find(b"content-length:")
            over = bool(end) and at >= 0 and len(rest) >= int(head[at + 15 :].split(b"\r\n", 1)[0])
        if over and not self.answer.done():
            now = perf_counter()
            self.answer.set_result(((self.first or now) - self.began, now - self.began, self.events))

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "answer") and not self.answer.done():
            self.answer.set_exception(ConnectionError(str(exc)))


def request_of(url: str, model: str, key: str, headers: list[str], *, stream: bool) -> tuple[str, int, bytes, bytes]:
    parts = urlsplit(url)
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "please " * 90}], "stream": stream},
        separators=(",", ":"),
    ).encode()
    lines = [f"POST {parts.path or '/v1/chat/completions'} HTTP/1.1", f"host: {parts.netloc}",
             "content-type: application/json", f"authorization: Bearer {key}", *headers,
             f"content-length: {len(body)}"]  # fmt: skip
    assert parts.hostname
    return parts.hostname, parts.port or 80, ("\r\n".join(lines) + "\r\n\r\n").encode(), body


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


async def load(given: argparse.Namespace) -> dict[str, Any]:
    stream = given.streams > 0
    host, port, head, body = request_of(given.url, given.model, given.key, given.header, stream=stream)
    loop = asyncio.get_running_loop()

    async def connect() -> Client:
        return (await loop.create_connection(lambda: Client(head, body), host, port))[1]

    found: list[tuple[float, float, int]] = []
    errors = 0
    end = perf_counter() + given.seconds

    async def ask_on() -> None:
        nonlocal errors
        client = await connect()
        while perf_counter() < end:
            try:
                found.append(await client.ask())
            except ConnectionError:
                errors += 1
                client = await connect()

    began = perf_counter()
    if given.rps:
        await paced(given.rps, end, connect, found)
    else:
        await asyncio.gather(*(ask_on() for _ in range(max(1, given.streams))))
    spent = perf_counter() - began
    firsts, wholes = [one[0] for one in found], [one[1] for one in found]
    return {
        "requests": len(found), "errors": errors, "rps": len(found) / spent,
        "p50_ms": quantile(wholes, 0.5), "p99_ms": quantile(wholes, 0.99),
        "first_p50_ms": quantile(firsts, 0.5), "first_p99_ms": quantile(firsts, 0.99),
        "events_per_s": sum(one[2] for one in found) / spent, "events": sum(one[2] for one in found),
        "mean_ms": statistics.fmean(wholes) * 1000,
    }  # fmt: skip


async def paced(rps: float, end: float, connect: Any, found: list[tuple[float, float, int]]) -> None:
    """Ask at a steady rate, whatever the answers take; latencies count from when a request was due."""
    idle: deque[Client] = deque([await connect() for _ in range(32)])
    due = perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        client = idle.popleft() if idle else await connect()
        first, whole, events = await client.ask()
        late = client.began - due
        found.append((first + late, whole + late, events))
        idle.append(client)

    while due < end:
        due += 1 / rps
        await asyncio.sleep(max(0.0, due - perf_counter()))
        task = asyncio.ensure_future(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def serve(given: argparse.Namespace) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Mock(given.first_ms / 1000, given.chunks, given.gap_ms / 1000), "127.0.0.1", given.port
    )
    print("ready", flush=True)
    await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    mock = verbs.add_parser("mock")
    mock.add_argument("--port", type=int, required=True)
    mock.add_argument("--first-ms", type=float, default=20.0)
    mock.add_argument("--chunks", type=int, default=100)
    mock.add_argument("--gap-ms", type=float, default=5.0)
    asking = verbs.add_parser("load")
    asking.add_argument("url")
    asking.add_argument("--model", default="smart-home")
    asking.add_argument("--key", default="sk-app")
    asking.add_argument("--header", action="append", default=[])
    asking.add_argument("--seconds", type=float, default=4.0)
    asking.add_argument("--rps", type=float, default=0.0)
    asking.add_argument("--streams", type=int, default=0)
    given = parser.parse_args()
    if given.verb == "mock":
        uvloop.run(serve(given))
    else:
        print(json.dumps(uvloop.run(load(given))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
