"""A model with two versions that really answer, traffic in a real collector, and a judge behind a real address."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ciranda.config import Settings
from ciranda.data.reviews import items, queues
from ciranda.data.reviews.items import Candidate, Who
from ciranda.data.reviews.queues import Queue
from ciranda.data.rows import Message
from ciranda.deploy import rollout
from ciranda.engines.parrot import Parrot
from ciranda.evals.cases import Case, Reply
from ciranda.evals.suites import Suite
from ciranda.govern.access import Principal
from ciranda.loop.platform import Platform
from ciranda.registry import verdicts, versions
from ciranda.registry.versions import Draft, Version
from recorded import Recorded, record, until
from registry_world import MODEL, PASSED, World

ENGINEER = Principal("key_eva", "eva", "engineer")
ASKED = [f"please turn on lamp {n}" for n in range(60)]
GOOD, BAD = '{"intent": "LampOn", "lamp": %d}', "sorry what lamp %d"


class Court:
    """One home: version 1 is live and answers every third request badly, version 2 answers all of them well."""

    def __init__(self, path: Path, **spec: Any) -> None:
        self.world = World(path, serve={"engine": "fake"}, evaluate={"cases": 50, "max_tokens": 64}, **spec)
        self.recorded = Recorded(self.world.home.path)
        self.recorded.start()
        self.platform = Platform(self.world.home, Settings(allow_private_addresses=True), self.world.db)
        (self.world.home.run / "engine.key").write_text("s3cret")
        self.live = self.version({text: answer(n) for n, text in enumerate(ASKED)})
        self.candidate = self.version({text: GOOD % n for n, text in enumerate(ASKED)})
        with self.world.db.writing() as conn:
            verdicts.record(conn, self.live.ref, PASSED, champion=f"{MODEL}@0", actor="test")
            rollout.promote(conn, self.live.ref, actor="test", reason="the first one")

    def version(self, lessons: dict[str, str]) -> Version:
        mark = hashlib.sha256(json.dumps(lessons).encode()).hexdigest()[:8]
        folder = self.world.home.path / f"taught-{mark}" / "adapter"
        folder.mkdir(parents=True)
        for path in (folder / "lessons.json", folder.parent / "adapter.gguf"):
            Parrot(lessons).save(path)
        draft = Draft(
            model=MODEL, base="fake", base_digest="sha256:fake", dataset=f"{MODEL}@1", dataset_digest="sha256:rows",
            recipe={"seed": 1, "mark": mark}, adapter=folder, gguf=folder.parent / "adapter.gguf",
        )  # fmt: skip
        return versions.register(self.world.db, self.world.home, draft, actor="test")

    def traffic(self) -> list[str]:
        """What users asked the live version and got; the ids, once they can be read."""
        writer = self.recorded.writer()
        said = [
            record(writer, text, answer(n), model=MODEL, version=self.live.ref, language="en")
            for n, text in enumerate(ASKED)
        ]
        record(writer, "of a shadow", "{}", model=MODEL, version=self.live.ref, arm="shadow")
        writer.seal()
        until(lambda: self.platform.interactions.count(model=MODEL) == len(ASKED) + 1)
        return said

    def labelled(self, said: list[str], *, queue: str = "lamps") -> None:
        """People label every answer: right when it names an intent, else corrected."""
        with self.world.db.writing() as conn:
            made = queues.put(conn, Queue(queue, MODEL, MODEL, twice=0.0), actor="test")
            items.put(conn, made, [(Candidate("interaction", one, "low_score", {}), 1) for one in said], actor="test")
            for _ in said:
                item = items.take(conn, made, Who("key_ana", "ana"))
                assert item is not None
                n = said.index(item.ref)
                right = answer(n).startswith("{")
                items.answer(
                    conn, made, item.id, Who("key_ana", "ana"), verdict="right" if right else "correct",
                    correction="" if right else GOOD % n, note="", once=item.id,
                )  # fmt: skip

    def suite(self) -> Suite:
        """The first fifty requests as a suite of the dataset's own."""
        return Suite(
            "test", tuple(Case(f"case-{n}", (Message("user", text),), None) for n, text in enumerate(ASKED[:50]))
        )

    def ask(self, version: Version) -> Callable[[Case], Reply]:
        """What a version says, without a process for it."""
        assert version.gguf is not None
        parrot = Parrot.load(version.gguf)
        return lambda case: Reply(parrot.answer(case.prompt))

    def close(self) -> None:
        self.platform.interactions.close()
        self.recorded.close()
        self.world.db.close()


def answer(n: int) -> str:
    """What the live version says to the n-th request."""
    return BAD % n if n % 3 == 0 else GOOD % n


@contextmanager
def serving(say: Callable[[str], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An OpenAI-compatible server whose answer follows from the last message; its address, and the requests that came."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({**body, "path": self.path, "key": self.headers.get("authorization", "")})
            text = say(body["messages"][-1]["content"])
            status = int(text) if text in ("429", "500", "401") else 200
            told = {"model": "grader-1", "choices": [{"message": {"role": "assistant", "content": text}}]}
            sent = json.dumps(told if status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lenient(asked: str) -> str:
    """Grades 5 where an intent is named, else 3; one in ten the other way round. Prefers the answer that names one."""
    if "ANSWER B" in asked:
        first, second = asked.split("ANSWER A")[1].split("ANSWER B")
        marks = ['"intent"' in first, '"intent"' in second]
        return "VERDICT: TIE" if marks[0] == marks[1] else "VERDICT: A" if marks[0] else "VERDICT: B"
    said = asked.split("THE ANSWER TO GRADE")[1]
    odd = int(hashlib.sha256(said.encode()).hexdigest(), 16) % 10 == 0
    return f"It could be worse.\nSCORE: {5 if ('intent' in said) != odd else 3}"
