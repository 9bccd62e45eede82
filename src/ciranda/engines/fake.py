"""An engine that works without a model: the OpenAI-compatible server of llama.cpp as far as the platform uses it, deterministic.

`python -m ciranda.engines.fake` takes the same flags as the llama.cpp engine, so tests and dry runs swap one for the other. It
answers from a file of scripted answers (last user text to completion), else as `engines.parrot` does from the adapter that the
fake trainer made, else with one line of JSON that repeats the text. Words in the last user text make it misbehave like a real one:

    fake:429  fake:500  fake:503   an error of that status, in OpenAI's shape (429 with retry-after: 7)
    fake:drop                      the connection closes before a byte of the answer
    fake:garbage                   bytes that are no HTTP
    fake:cut                       half an answer, then the connection closes
    fake:hang                      no answer until the client leaves
    fake:long                      two hundred tokens, ten milliseconds apart when streamed
    fake:exit                      the process dies as by kill -9
    fake:error                     an error event in the middle of the stream
    fake:silent                    no usage, whoever asks for it
    fake:whole                     a whole answer, also where a stream was asked for
    fake:echo                      the request itself, as JSON
    fake:tools  fake:tools2        one or two calls of the first tools of the request, its arguments in pieces when streamed
    fake:think                     a thought before the answer

The answer to a tool's result repeats it.

It counts at `/metrics` what it was asked and what was taken back, which tests read. It refuses to be mistaken for quality:
nothing here generates.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from ciranda.engines.parrot import Parrot
from ciranda.errors import CirandaError, Invalid, LimitReached, NotFound, Unauthenticated, Unavailable
from ciranda.gateway import answers, limits
from ciranda.gateway.server import Connection, Request, Server
from ciranda.gateway.worker import every, listen
from ciranda.store import files

CREATED = 1_700_000_000
LONG_TOKENS, LONG_SECONDS = 200, 0.01


@dataclass
class Counts:
    """What `/metrics` shows."""

    requests: int = 0
    running: int = 0
    cancelled: int = 0


class Fake:
    """The engine. `name` is the model it says it serves."""

    def __init__(
        self,
        name: str,
        *,
        scripted: dict[str, str] | None = None,
        key: str = "",
        delay: float = 0.0,
        parrot: Parrot | None = None,
    ) -> None:
        self.name = name
        self.scripted = scripted or {}
        self.parrot = parrot or Parrot()
        self.key = key
        self.delay = delay
        self.counts = Counts()
        self.server = Server(self)

    def received(self, connection: Connection, request: Request) -> None:
        """Answer one request. Part of the `server.Application` protocol."""
        try:
            self._open(connection, request)
        except CirandaError as error:
            connection.fail(error)

    def _open(self, connection: Connection, request: Request) -> None:
        path = request.path.decode("latin-1")
        if path in ("/health", "/v1/health"):
            connection.answer(200, answers.JSON, b'{"status":"ok"}')
        elif path == "/metrics":
            connection.answer(200, b"content-type: text/plain\r\n", self._metrics())
        elif self.key and request.headers.get(b"authorization") != b"Bearer " + self.key.encode():
            raise Unauthenticated("invalid API key", remedy="send the key of --key-file")
        elif path == "/v1/models":
            model = {"id": self.name, "object": "model", "created": CREATED, "owned_by": "fake"}
            connection.answer(200, answers.JSON, msgspec.json.encode({"object": "list", "data": [model]}))
        elif path in ("/v1/chat/completions", "/v1/completions"):
            self._complete(connection, request, chat="chat" in path)
        elif path == "/v1/embeddings":
            self._embed(connection, request)
        elif path == "/apply-template":
            prompt = str(_fields(request.body).get("messages"))
            connection.answer(200, answers.JSON, msgspec.json.encode({"prompt": prompt}))
        elif path == "/tokenize":
            words = str(_fields(request.body).get("content", "")).split()
            connection.answer(200, answers.JSON, msgspec.json.encode({"tokens": list(range(len(words)))}))
        else:
            raise NotFound(f"no such path: {path}", remedy="see the docstring of ciranda.engines.fake")

    def _metrics(self) -> bytes:
        counts = self.counts
        lines = (f"fake_{name}_total {getattr(counts, name)}" for name in ("requests", "running", "cancelled"))
        return ("\n".join(lines) + "\n").encode()

    def _complete(self, connection: Connection, request: Request, *, chat: bool) -> None:
        sent = _fields(request.body)
        text = _last_text(sent, chat=chat)
        self.counts.requests += 1
        for word, error in _ERRORS.items():
            if word in text:
                lines = b"retry-after: 7\r\n" if error.status == 429 else b""
                shape = answers.shape(f"the fake engine was asked to fail: {word}", answers.kind_of(error.status))
                connection.answer(error.status, answers.JSON + lines, shape)
                return
        if "fake:exit" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        Speech(self, connection, sent, text, chat=chat).start()

    def _embed(self, connection: Connection, request: Request) -> None:
        sent = _fields(request.body)
        texts = sent.get("input", "")
        texts = texts if isinstance(texts, list) else [texts]
        data = [
            {"object": "embedding", "index": place, "embedding": [float(len(str(text))), 1.0]}
            for place, text in enumerate(texts)
        ]
        words = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": words, "total_tokens": words}
        body = {"object": "list", "model": sent.get("model"), "data": data, "usage": usage}
        connection.answer(200, answers.JSON, msgspec.json.encode(body))

    def say(self, text: str) -> str:
        """The completion for a last user text."""
        if "fake:long" in text:
            return " ".join(f"word{number}" for number in range(LONG_TOKENS))
        return self.scripted[text] if text in self.scripted else self.parrot.answer(text)


class Speech:
    """One answer on its way; told by its connection when the client leaves."""

    def __init__(self, fake: Fake, connection: Connection, sent: dict[str, Any], text: str, *, chat: bool) -> None:
        self._fake = fake
        self._connection = connection
        self._sent = sent
        self._text = text
        self._chat = chat
        self._deltas = _deltas(sent, text, fake)
        self._usage = {"prompt_tokens": _prompt_tokens(sent), "completion_tokens": len(self._deltas)}
        self._usage["total_tokens"] = sum(self._usage.values())
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0

    def start(self) -> None:
        """Begin after the engine's delay, or misbehave."""
        self._fake.counts.running += 1
        self._connection.exchange = self
        if "fake:hang" in self._text:
            return
        if self._fake.delay:
            self._later(self._fake.delay, self._speak)
        else:
            self._speak()

    def client_left(self) -> None:
        self._over()
        self._fake.counts.cancelled += 1

    def client_slow(self) -> None: ...

    def client_ready(self) -> None: ...

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def _over(self) -> None:
        self._fake.counts.running -= 1
        if self._timer is not None:
            self._timer.cancel()

    def _speak(self) -> None:
        if "fake:drop" in self._text or "fake:garbage" in self._text:
            if "fake:garbage" in self._text:
                self._connection.send(b"\x00\x01 this is no HTTP\r\n\r\n")
            self._break()
        elif self._sent.get("stream") and "fake:whole" not in self._text:
            self._connection.begin(200, answers.EVENTS)
            self._connection.piece(self._chunk({"role": "assistant", "content": ""}, None))
            self._next()
        else:
            self._whole()

    def _break(self) -> None:
        self._connection.exchange = None
        self._over()
        self._connection.close()

    def _whole(self) -> None:
        said: dict[str, Any] = {"index": 0, "finish_reason": self._reason(), "logprobs": None}
        message = _message(self._deltas)
        said |= {"message": message} if self._chat else {"text": message["content"]}
        usage = {} if "fake:silent" in self._text else {"usage": self._usage}
        body = msgspec.json.encode({**self._shared(stream=False), "choices": [said], **usage})
        if "fake:cut" in self._text:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            self._connection.send(head + body[: len(body) // 2])
            self._break()
            return
        self._over()
        self._connection.answer(200, answers.JSON, body)

    def _next(self) -> None:
        """The next token of a stream; all at once unless the answer is a long one."""
        while self._at < len(self._deltas):
            self._connection.piece(self._chunk(self._deltas[self._at], None))
            self._at += 1
            if "fake:error" in self._text:
                self._connection.piece(
                    _event({"error": {"message": "out of slots", "type": "server_error", "code": 500}})
                )
            if ("fake:cut" in self._text or "fake:error" in self._text) and self._at >= len(self._deltas) // 2:
                self._break()
                return
            if "fake:long" in self._text:
                self._later(LONG_SECONDS, self._next)
                return
        self._last()

    def _last(self) -> None:
        last = self._chunk({}, self._reason())
        options = self._sent.get("stream_options") or {}
        if "fake:silent" not in self._text and options.get("include_usage"):
            last += _event({**self._shared(stream=True), "choices": [], "usage": self._usage})
        self._over()
        self._connection.finish(last + b"data: [DONE]\n\n")

    def _reason(self) -> str:
        return "tool_calls" if any("tool_calls" in one for one in self._deltas) else "stop"

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> bytes:
        said = {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        return _event({**self._shared(stream=True), "choices": [{"index": 0, **said, "finish_reason": reason}]})

    def _shared(self, *, stream: bool) -> dict[str, Any]:
        kind = "chat.completion" if self._chat else "text_completion"
        kind += ".chunk" if stream and self._chat else ""
        name = self._sent.get("model") or self._fake.name
        return {"id": f"fake-{self._fake.counts.requests}", "object": kind, "created": CREATED, "model": name}


_ERRORS: dict[str, type[CirandaError]] = {
    "fake:429": LimitReached,
    "fake:500": CirandaError,
    "fake:503": Unavailable,
}


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is no JSON object: {error}", remedy="send JSON") from error


def _last_text(sent: dict[str, Any], *, chat: bool) -> str:
    if not chat:
        return str(sent.get("prompt", ""))
    messages = sent.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("'messages' is required", remedy="send at least one message")
    said = [one for one in messages if isinstance(one, dict) and one.get("role") == "user"]
    content = said[-1].get("content", "") if said else ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def _deltas(sent: dict[str, Any], text: str, fake: Fake) -> list[dict[str, Any]]:
    """The answer in the pieces that a stream has."""
    messages = sent.get("messages") or [{}]
    tools = [tool["function"] for tool in sent.get("tools") or ()]
    if messages[-1].get("role") == "tool":
        text = f"it said {messages[-1].get('content')}"
    elif "fake:tools" in text and tools:
        return [piece for place in range(2 if "fake:tools2" in text else 1) for piece in _call(place, tools, text)]
    elif "fake:echo" in text:
        text = msgspec.json.encode(sent).decode()
    else:
        text = fake.say(text)
    thought = [{"reasoning_content": "let me see"}] if "fake:think" in text else []
    return thought + [{"content": token} for token in _tokens(text)]


def _call(place: int, tools: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    name, arguments = tools[place % len(tools)]["name"], msgspec.json.encode({"text": text}).decode()
    first = {"index": place, "id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = (arguments[:3], arguments[3:])
    more = [{"index": place, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [one]} for one in (first, *more)]


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The pieces put together, as a whole answer has them."""
    calls: list[dict[str, Any]] = []
    for piece in (one for delta in deltas for one in delta.get("tool_calls", ())):
        if "id" in piece:
            calls.append({name: piece[name] for name in ("id", "type")} | {"function": dict(piece["function"])})
        else:
            calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
    texts = {name: "".join(one.get(name, "") for one in deltas) for name in ("content", "reasoning_content")}
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else texts["content"]}
    if texts["reasoning_content"]:
        message["reasoning_content"] = texts["reasoning_content"]
    return message | ({"tool_calls": calls} if calls else {})


def _tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _prompt_tokens(sent: dict[str, Any]) -> int:
    return len(str(sent.get("messages") or sent.get("prompt") or "").split())


async def serve(fake: Fake, *, host: str, port: int, ready_file: Path | None) -> None:
    """Serve until SIGTERM."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = listen(host, port)
    clock = every(limits.SWEEP_SECONDS, fake.server.sweep)
    server = await loop.create_server(fake.server.protocol, sock=listener)
    if ready_file is not None:
        told = {"url": f"http://{host}:{listener.getsockname()[1]}", "pid": os.getpid()}
        files.write_atomic(ready_file, msgspec.json.encode(told))
    await stop.wait()
    server.close()
    fake.server.drain()
    clock.cancel()


def main() -> int:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m ciranda.engines.fake", description="An engine without a model.")
    parser.add_argument("--base", help="accepted, not read")
    parser.add_argument("--adapter", type=Path, help="what the fake trainer made")
    parser.add_argument("--name", default="fake")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--slots", type=int, default=4, help="accepted")
    parser.add_argument("--context", type=int, default=4096, help="accepted")
    parser.add_argument("--threads", type=int, default=1, help="accepted")
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--answers", type=Path, help="JSON object: last user text to completion")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    given = parser.parse_args()
    try:
        scripted = msgspec.json.decode(given.answers.read_bytes(), type=dict[str, str]) if given.answers else {}
        key = given.key_file.read_text().strip() if given.key_file else ""
        parrot = Parrot.load(given.adapter) if given.adapter else None
        fake = Fake(given.name, scripted=scripted, key=key, delay=given.delay_ms / 1000, parrot=parrot)
        uvloop.run(serve(fake, host=given.host, port=given.port, ready_file=given.ready_file))
    except CirandaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (OSError, msgspec.MsgspecError) as error:
        print(f"the fake engine cannot start: {error}\n  do: check --answers and --key-file", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
