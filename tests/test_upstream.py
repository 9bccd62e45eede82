"""The client towards engines, against engines that do not behave: what it reports is what was sent, or that it failed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.errors import Invalid
from ciranda.gateway import limits
from ciranda.gateway.upstream import Replica, Upstream


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.outcome: list[str] = []
        self.over = asyncio.Event()

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.headers = status, headers

    def upstream_data(self, payload: bytes) -> None:
        self.body += payload

    def upstream_end(self) -> None:
        self.outcome.append("end")
        self.over.set()

    def upstream_failed(self, call: Upstream, reason: str) -> None:
        self.outcome.append(reason)
        self.over.set()


async def ask(replica: Replica) -> Heard:
    heard = Heard()
    replica.send(heard, "/v1/chat/completions", b"{}", b"r1")
    async with asyncio.timeout(5):
        await heard.over.wait()
    return heard


def against(answers: list[bytes], then: Callable[[Replica, list[int]], Awaitable[Any]], *, close: bool = True) -> Any:
    """Run `then` against a server that gives these raw answers, one per request, each on whatever connection it came."""
    opened: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        try:
            while answers:
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(answers.pop(0))
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def run() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        replica = Replica("rep", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "m@1")
        try:
            return await then(replica, opened)
        finally:
            replica.close()
            server.close()

    return asyncio.run(run())


async def once(replica: Replica, _opened: list[int]) -> Heard:
    heard = await ask(replica)
    assert replica.in_flight == 0
    return heard


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (CHUNKED + b"5;why=not\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra", b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\x00\x01garbage", b"ok"),
    ],
)
def test_odd_but_whole_answers_are_taken(raw: bytes, body: bytes) -> None:
    heard = against([raw], once)
    assert (heard.status, heard.body, heard.outcome) == (200, body, ["end"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"y" * 900) for n in range(90)) + b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_what_is_no_whole_answer_is_reported_once_as_failed(raw: bytes) -> None:
    heard = against([raw], once)
    assert len(heard.outcome) == 1
    assert heard.outcome != ["end"]


def test_a_connection_is_used_again_after_an_exact_answer_only() -> None:
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def twice(replica: Replica, opened: list[int]) -> int:
        for _ in range(2):
            assert (await ask(replica)).body == b"ok"
        return len(opened)

    assert against([good, good], twice, close=False) == 1
    assert against([good + b"HTTP/1.1 200 OK\r\n", good], twice, close=False) == 2
    assert against([good.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"), good], twice, close=False) == 2


def test_bytes_on_an_idle_connection_end_it() -> None:
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def late(replica: Replica, opened: list[int]) -> int:
        await ask(replica)
        replica._idle[0].data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        assert (await ask(replica)).body == b"ok"
        return len(opened)

    assert against([good, good], late, close=False) == 2


def test_a_replica_that_refuses_is_left_out_and_taken_back() -> None:
    async def run() -> None:
        replica = Replica("rep", "http://127.0.0.1:9", "m@1")
        heard = await ask(replica)
        assert heard.outcome[0].startswith("cannot connect")
        assert not replica.ready(0.0)
        assert replica.ready(replica.ejected_until)
        replica.succeeded()
        assert replica.ready(0.0)

    asyncio.run(run())


@pytest.mark.parametrize("url", ["ftp://x", "nowhere", "http://", "http:///path"])
def test_an_address_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="http"):
        Replica("rep", url, "m@1")


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    closed = False

    def writelines(self, list_of_data: Any) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


def framed(pieces: list[bytes], framing: str) -> bytes:
    body = b"".join(pieces)
    if framing == "length":
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    return CHUNKED + b"".join(b"%X\r\n%b\r\n" % (len(one), one) for one in pieces if one) + b"0\r\n\r\n"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from(["length", "chunked"]),
    st.lists(st.integers(0, 400), max_size=10),
    st.integers(0, 400),
)
def test_however_an_answer_is_cut_up_it_arrives_as_sent_or_as_failed(
    pieces: list[bytes], framing: str, cuts: list[int], lost: int
) -> None:
    raw = framed(pieces, framing)
    sent = raw[: max(0, len(raw) - lost)]
    places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]

    async def run() -> Heard:
        call, heard = Upstream(Replica("rep", "http://x", "m")), Heard()
        call.connection_made(Wire())
        call.begin(heard, b"", b"")
        for start, stop in itertools.pairwise(places):
            if stop > start:
                call.data_received(sent[start:stop])
        call.connection_lost(None)
        return heard

    heard = asyncio.run(run())
    assert len(heard.outcome) == 1
    assert b"".join(pieces).startswith(heard.body)
    if len(sent) == len(raw):
        assert (heard.outcome, heard.body) == (["end"], b"".join(pieces))
    else:
        assert heard.outcome != ["end"]


def by_h11(raw: bytes) -> tuple[int, bytes] | None:
    """Status and body of an answer as the reference parser reads them, or None when it refuses or waits for more."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(raw)
    status, body = 0, b""
    try:
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                peer.receive_data(b"")  # the engine closes
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None
    except h11.RemoteProtocolError:
        return None


HEADERS = [
    b"content-length: 5\r\n", b"content-length: 7\r\n", b"Content-Length: +5\r\n", b"content-length: 5, 5\r\n",
    b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"transfer-encoding: identity\r\n",
    b"transfer-encoding: xchunked\r\n", b"x-odd:\r\n", b"x-folded: a\r\n b\r\n", b"x:y\n", b"bad header: 1\r\n",
    b"connection: close\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n",
]  # fmt: skip
STARTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 200\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/2.0 200 OK\r\n", b"HTTP/1.1 20 OK\r\n",
]  # fmt: skip
BODIES = [
    b"hello", b"hello w", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nx-t: 1\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFF\r\nhello", b"5\nhello\n0\n\n", b"",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(STARTS), st.lists(st.sampled_from(HEADERS), max_size=3), st.sampled_from(BODIES), st.data())
def test_what_we_take_for_a_whole_answer_the_reference_parser_reads_alike(
    start: bytes, headers: list[bytes], body: bytes, data: st.DataObject
) -> None:
    raw = bytearray(start + b"".join(headers) + b"\r\n" + body)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=2)):
        raw[place] = data.draw(st.integers(0, 255))

    async def run() -> Heard:
        call, heard = Upstream(Replica("rep", "http://x", "m")), Heard()
        call.connection_made(Wire())
        call.begin(heard, b"", b"")
        call.data_received(bytes(raw))
        call.connection_lost(None)
        return heard

    heard = asyncio.run(run())
    assert len(heard.outcome) == 1
    if heard.outcome == ["end"]:
        reference = by_h11(bytes(raw))
        assert reference is None or reference == (heard.status, heard.body)


def test_the_pool_is_left_before_engines_close_it() -> None:
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def later(replica: Replica, opened: list[int]) -> int:
        await ask(replica)
        replica._idle[0].idle_since -= limits.POOL_IDLE_SECONDS + 1
        replica.sweep(asyncio.get_running_loop().time())
        await ask(replica)
        return len(opened)

    assert against([good, good], later, close=False) == 2


def test_towards_llama_cpp_every_request_has_its_own_connection() -> None:
    async def run() -> list[bytes]:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n{}"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        replica = Replica("rep", url, "m@1", engine="llamacpp", secret="s3cret")
        for _ in range(2):
            assert (await ask(replica)).body == b"ok"
        server.close()
        return heads

    first, second = asyncio.run(run())
    assert first == second
    assert first.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nconnection: close\r\n" in first
    assert b"\r\nauthorization: Bearer s3cret\r\n" in first
