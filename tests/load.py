"""A few clients that ask all the time, half of them streaming, and keep account of what they got."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field

import house
from ciranda.cli.stage import Stage


@dataclass
class Load:
    """Use as a context; inside it the clients ask.

    Args:
        stage: The platform.
        key: A client's key.
        clients: How many ask at the same time.
        pause_s: How long each waits between two requests.
    """

    stage: Stage
    key: str
    clients: int = 4
    pause_s: float = 0.02
    answered: list[str] = field(default_factory=list)
    refused: list[tuple[int, bytes]] = field(default_factory=list)
    broken: list[tuple[float, str]] = field(default_factory=list)  # when, and what was seen
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self.crew = [threading.Thread(target=self._live, args=(number % 2 == 1,)) for number in range(self.clients)]
        for one in self.crew:
            one.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        for one in self.crew:
            one.join()

    @property
    def failed(self) -> int:
        return len(self.refused) + len(self.broken)

    def more(self, count: int = 20) -> None:
        """Return when so many more were answered."""
        goal = len(self.answered) + count
        self.stage.until(f"{count} more answers", lambda: len(self.answered) >= goal, limit_s=60)

    def _live(self, stream: bool) -> None:
        while not self.over.wait(self.pause_s):
            try:
                self._ask(stream)
            except (OSError, http.client.HTTPException) as error:
                self.broken.append((time.monotonic(), type(error).__name__))

    def _ask(self, stream: bool) -> None:
        line = http.client.HTTPConnection(self.stage.gateway.removeprefix("http://"), timeout=20)
        body = {"model": house.MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
        try:
            line.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {self.key}"})
            answer = line.getresponse()
            text = answer.read()
        finally:
            line.close()
        if answer.status != 200:
            self.refused.append((answer.status, text))
        elif stream and b"data: [DONE]" not in text:
            self.broken.append((time.monotonic(), text.decode()[-300:]))
        else:
            self.answered.append(answer.headers["x-ciranda-interaction"])
