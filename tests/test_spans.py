"""Interactions on their way out as spans: to a real receiver, whatever it answers, and through kills of the exporter."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ciranda.config import Settings
from ciranda.errors import Invalid, Unavailable
from ciranda.interactions.otlp import wire
from ciranda.interactions.otlp.wire import Span
from ciranda.monitor import export
from ciranda.monitor.export import Export
from recorded import Recorded, record, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Judge = Callable[[list[Span]], tuple[int, bytes, dict[str, str]]]


class Receiver:
    """An OTLP receiver that decodes what it gets. `judge` decides what it answers; taken is what it answered 200 to."""

    def __init__(self) -> None:
        self.taken: list[Span] = []
        self.seen: list[list[Span]] = []
        self.headers: list[dict[str, str]] = []
        self.judge: Judge = lambda _spans: (200, b"", {})
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
                spans = list(wire.spans(ExportTraceServiceRequest.FromString(body), wire.PROTOBUF))
                outer.seen.append(spans)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, told, more = outer.judge(spans)
                if status == 200:
                    outer.taken += spans
                self.send_response(status)
                for name, value in {"content-length": str(len(told)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


class World(Recorded):
    """A home with a collector, a receiver, and an export that has begun."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.receiver = Receiver()
        self.start()
        self.spooled = self.writer()
        self.count = 0
        self.export().tick()

    def export(self, **more: Any) -> Export:
        settings = Settings(otlp_endpoint=self.receiver.url, **more)
        return Export(self.database, self.interactions, settings)

    def record(self, text: str = "hello", **meta: Any) -> str:
        self.count += 1
        return record(self.spooled, text, **meta)

    def stored(self) -> None:
        until(lambda: self.interactions.count() == self.count)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.receiver.server.shutdown()
    world.close()


def test_a_span_tells_the_figures_and_hangs_in_the_clients_trace(world: World) -> None:
    ident = world.record(stream=1, finish_reason="stop", user="ana", engine="llamacpp", endpoint="/v1/chat/completions",
                         trace_id=TRACE, span_id="00f067aa0ba902b7", parent_span_id=PARENT)  # fmt: skip
    world.record(status=502, error="UpstreamFailed")
    world.record(source="otlp:genai", arm="external")
    world.stored()
    assert world.export().tick() == 2, "what was reported to us is not told again"
    one, failed = world.receiver.taken
    assert (one.trace_id, one.span_id, one.parent_span_id) == (TRACE, "00f067aa0ba902b7", PARENT)
    assert (one.name, one.status, one.end_ns - one.start_ns) == ("chat m", wire.UNSET, 20_000_000)
    wanted = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "llamacpp", "gen_ai.request.model": "m",
              "gen_ai.response.model": "m@1", "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 7,
              "gen_ai.usage.output_tokens": 3, "gen_ai.request.stream": True, "ciranda.version": "m@1", "ciranda.arm": "live",
              "ciranda.interaction": ident, "gen_ai.response.time_to_first_chunk": 0.008}  # fmt: skip
    assert wanted.items() <= {**one.attributes}.items()
    assert one.resource["service.name"] == "ciranda-gateway"
    assert not {"gen_ai.input.messages", "gen_ai.output.messages", "enduser.id"} & one.attributes.keys()
    assert (failed.status, failed.attributes["error.type"]) == (wire.ERROR, "UpstreamFailed")
    assert (len(failed.trace_id), failed.parent_span_id) == (32, "")
    assert failed.span_id == failed.trace_id[16:]
    assert world.export().tick() == 0


def test_texts_leave_only_when_the_settings_say_so(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer abc\n\nx-team: blue\n")
    world.record("open the door", user="ana")
    world.stored()
    world.export(otlp_content=True, otlp_headers_file=str(secret)).tick()
    (one,) = world.receiver.taken
    asked, said = (json.loads(one.attributes[f"gen_ai.{name}.messages"]) for name in ("input", "output"))
    assert asked[1] == {"role": "user", "parts": [{"type": "text", "content": "open the door"}]}
    assert said[0]["parts"] == [{"type": "text", "content": "hi"}]
    assert one.attributes["enduser.id"] == "ana"
    sent = world.receiver.headers[-1]
    assert (sent["authorization"], sent["x-team"]) == ("Bearer abc", "blue")


def test_a_receiver_that_is_away_gets_everything_later(world: World) -> None:
    told = [world.record(str(number)) for number in range(3)]
    world.stored()
    for status in (503, 401, 307):
        world.receiver.judge = lambda _spans, status=status: (status, b"not now", {"location": "http://127.0.0.1:1/"})
        with pytest.raises(Unavailable, match=str(status)):
            world.export().tick()
    world.receiver.judge = lambda _spans: (429, b"", {"retry-after": "3600"})
    patient = world.export()
    with pytest.raises(Unavailable):
        patient.tick()
    before = len(world.receiver.seen)
    assert patient.tick() == 0
    assert len(world.receiver.seen) == before, "it was bidden to wait"
    world.receiver.judge = lambda _spans: (200, b"", {})
    assert world.export().tick() == 3
    assert [one.attributes["ciranda.interaction"] for one in world.receiver.taken] == told
    gone = Export(world.database, world.interactions, Settings(otlp_endpoint="http://127.0.0.1:9"))
    world.record()
    world.stored()
    with pytest.raises(Unavailable, match="ConnectError"):
        gone.tick()


def test_one_bad_span_does_not_hold_up_the_others(world: World) -> None:
    told = [world.record(str(number), version="bad@1" if number == 4 else "m@1") for number in range(9)]
    world.stored()

    def picky(spans: list[Span]) -> tuple[int, bytes, dict[str, str]]:
        return (400 if any(one.attributes["ciranda.version"] == "bad@1" for one in spans) else 200), b"bad data", {}

    world.receiver.judge = picky
    assert world.export().tick() == 8
    assert [one.attributes["ciranda.interaction"] for one in world.receiver.taken] == told[:4] + told[5:]
    done = export.progress(world.database)
    assert done is not None
    assert (done.sent, done.refused) == (8, 1)
    assert "400" in done.reason


def test_a_partial_success_is_counted_and_not_sent_again(world: World) -> None:
    world.record()
    world.record()
    world.stored()
    told = ExportTraceServiceResponse()
    told.partial_success.rejected_spans, told.partial_success.error_message = 1, "too old"
    world.receiver.judge = lambda _spans: (200, told.SerializeToString(), {})
    assert world.export().tick() == 1
    done = export.progress(world.database)
    assert done is not None
    assert (done.sent, done.refused, done.reason) == (1, 1, "too old")
    assert world.export().tick() == 0


EXPORTER = """
import sys
import ciranda.interactions.seals
from ciranda import config
from ciranda.interactions.query import Interactions
from ciranda.monitor.export import Export
from ciranda.store.database import Database
home = config.home(sys.argv[1])
settings = config.Settings(otlp_endpoint=sys.argv[2])
Export(Database(config.database_url(home, settings)), Interactions.at(home), settings).tick()
"""


def test_an_exporter_that_is_killed_loses_nothing_and_repeats_itself_to_the_letter(world: World) -> None:
    told = [world.record(str(number)) for number in range(450)]
    world.stored()
    command = [sys.executable, "-c", EXPORTER, str(world.home.path), world.receiver.url]
    process: list[subprocess.Popen[bytes]] = []

    def fatal(_spans: list[Span]) -> tuple[int, bytes, dict[str, str]]:
        if len(world.receiver.seen) in (1, 3):
            until(lambda: process)
            process.pop().send_signal(signal.SIGKILL)  # it was received, and is never acknowledged
        return 200, b"", {}

    world.receiver.judge = fatal
    for _ in range(3):
        child = subprocess.Popen(command, env=os.environ.copy())
        process.append(child)
        child.wait(60)
    spans = {one.span_id: one for one in world.receiver.taken}
    assert sorted(one.attributes["ciranda.interaction"] for one in spans.values()) == sorted(told)
    assert len(world.receiver.taken) > len(told), "at least once"


def test_a_file_of_headers_that_is_not_there_is_told(world: World) -> None:
    world.record()
    world.stored()
    with pytest.raises(Invalid, match="headers"):
        world.export(otlp_headers_file="/nowhere").tick()
