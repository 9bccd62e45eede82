"""The live stream: one producer for all, the same bytes for the same reach, slow readers lose the oldest, shutdown is quick."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import pytest

from ciranda.errors import Unavailable
from ciranda.web.stream import QUEUE, Hub
from web.showcase import HOME, Showcase
from web.site import make, serve


class Counted(Showcase):
    """A showcase that counts how often it is asked."""

    asked = 0

    def window(self, reach, model, *, seconds, step=5):
        self.asked += 1
        return super().window(reach, model, seconds=seconds, step=step)


def events(piece: bytes) -> list[tuple[str, object]]:
    found = []
    for part in piece.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.split("\n"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def take(stream, count):
    return [await asyncio.wait_for(anext(stream), 5) for _ in range(count)]


def test_a_listener_gets_points_of_the_models_that_its_key_reaches():
    async def scene():
        hub = Hub(Showcase(), every=0.01)
        stream = hub.listen((HOME,))
        first, second = await take(stream, 2)
        assert first.startswith(b"retry: 2000")
        [(name, point)] = events(second)
        assert name == "tick"
        assert [window["model"] for window in point["windows"]] == ["", HOME]
        assert [track["label"] for track in point["windows"][1]["tracks"]] == [f"{HOME}@1", f"{HOME}@2"]
        assert len(point["windows"][1]["tracks"][0]["rows"]) == 4
        await stream.aclose()

    asyncio.run(scene())


def test_many_listeners_cost_one_question_and_nobody_listening_costs_none():
    async def scene():
        reader = Counted()
        hub = Hub(reader, every=0.05)
        streams = [hub.listen(("*",)) for _ in range(50)]
        for stream in streams:
            await take(stream, 1)
        pieces = [await take(stream, 1) for stream in streams]
        assert len({piece for (piece,) in pieces}) <= 2
        assert reader.asked <= 6 * 20, "the number of questions follows the seconds, not the listeners"
        for stream in streams:
            await stream.aclose()
        await asyncio.sleep(0.1)
        before = reader.asked
        await asyncio.sleep(0.1)
        assert reader.asked == before

    asyncio.run(scene())


def test_a_slow_reader_loses_the_oldest_and_delays_nobody():
    async def scene():
        hub = Hub(Showcase(), every=0.01)
        slow, quick = hub.listen(("*",)), hub.listen(("*",))
        await take(slow, 1)
        await take(quick, 20)
        assert all(queue.qsize() <= QUEUE for queue in hub.queues)
        assert len(await take(slow, 3)) == 3
        await slow.aclose()
        await quick.aclose()

    asyncio.run(scene())


def test_a_change_is_told_once_with_its_topic():
    async def scene():
        reader = Showcase()
        hub = Hub(reader, every=0.01)
        stream = hub.listen(("*",))
        await take(stream, 3)
        reader.marks = {"loop": "2"}
        told = [event for piece in await take(stream, 5) for event in events(piece) if event[0] == "changed"]
        assert told == [("changed", ["loop"])]
        await stream.aclose()

    asyncio.run(scene())


def test_a_store_that_is_away_makes_a_poorer_point_not_a_dead_stream():
    class Away(Showcase):
        def window(self, reach, model, *, seconds, step=5):
            raise Unavailable("the collector is not up", where="run/collector.json", remedy="wait")

    async def scene():
        hub = Hub(Away(), every=0.01)
        stream = hub.listen(("*",))
        _, piece = await take(stream, 2)
        [(name, point)] = events(piece)
        assert (name, point["windows"], point["down"]) == ("tick", [], "the collector is not up")
        await stream.aclose()

    asyncio.run(scene())


def test_closing_ends_every_stream_and_opens_no_new_one():
    async def scene():
        hub = Hub(Showcase(), every=10)
        stream = hub.listen(("*",))
        await take(stream, 2)
        hub.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), 1)
        late = hub.listen(("*",))
        await take(late, 1)
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(late), 1)

    asyncio.run(scene())


def test_the_server_ends_twenty_open_streams_whole_and_stops(tmp_path):
    site = make(tmp_path)
    server, thread = serve(site)
    cookie = site.app.state.site.sessions.sign_in(site.keys["viewer"])[1]
    heard, cut = threading.Semaphore(0), []

    def listen():
        with (
            httpx.Client(cookies={"ciranda_session": cookie}, timeout=20) as client,
            client.stream("GET", f"{site.url}/stream") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in answer.headers, "compression would hold points back"
            try:
                for line in answer.iter_lines():
                    if line.startswith("event: tick"):
                        heard.release()
            except httpx.RemoteProtocolError as error:
                cut.append(error)

    listeners = [threading.Thread(target=listen, daemon=True) for _ in range(20)]
    for one in listeners:
        one.start()
    for _ in listeners:
        assert heard.acquire(timeout=20)
    began = time.monotonic()
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert time.monotonic() - began <= 5
    for one in listeners:
        one.join(timeout=5)
    assert not cut, "streams end by themselves before the server's patience does"
