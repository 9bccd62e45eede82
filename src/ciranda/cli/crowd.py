"""Simulated users for the demo: real sentences, the official `openai` client, votes as people give them.

Each user asks, looks at the answer, and sometimes votes: up when it is right, down when it is wrong, mistaken now and then.
Who votes down often says what the answer should have been. What is said of an answer may be learned from, so sentences of
test templates are asked and not voted on: the test split stays unseen. Half of the requests stream. The crowd counts what
it was answered, so that the closing table can compare answers given with interactions recorded.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

from ciranda.data.rows import Row

VOTES = 0.9
MISTAKEN = 0.05
CORRECTS = 0.85


@dataclass
class Count:
    """What the crowd saw so far."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    right: int = 0
    up: int = 0
    down: int = 0
    corrected: int = 0
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    began: deque[tuple[str, float, float]] = field(
        default_factory=lambda: deque(maxlen=100)
    )  # version, asked, answering
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=40))

    @property
    def recent_right(self) -> float:
        """Share of right answers among the last forty."""
        return sum(self.recent) / len(self.recent) if self.recent else 0.0


class Crowd:
    """Users that go on asking until `stop`.

    Args:
        gateway: Base URL of the gateway, without `/v1`.
        key: A client's key.
        model: What to ask for.
        next_row: Gives the next sentence with its right answer; called from several threads.
        users: How many ask at the same time.
        pause_s: How long each waits between two questions.
    """

    def __init__(
        self, gateway: str, key: str, model: str, next_row: Callable[[], Row], *, users: int = 3, pause_s: float = 0.1
    ) -> None:
        self.count = Count()
        self._client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0, timeout=60)
        self._http = httpx.Client(base_url=gateway, headers={"authorization": f"Bearer {key}"}, timeout=30)
        self._model, self._next, self._pause_s = model, next_row, pause_s
        self._lock, self._over = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number,), daemon=True) for number in range(users)]

    def start(self) -> Crowd:
        """Let them ask."""
        for thread in self._threads:
            thread.start()
        return self

    def serve(self, next_row: Callable[[], Row]) -> None:
        """From now on, other sentences: the world changed."""
        self._next = next_row

    def pace(self, pause_s: float) -> None:
        """From now on, this long a wait between two questions."""
        self._pause_s = pause_s

    def stop(self) -> None:
        """Wait for the answers under way, then end."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._http.close()

    def served_by(self, version: str, *, limit_s: float) -> float:
        """The moment at which the first answer by this version began, of those asked for from now on; 0 when none came in time.

        One more user asks without a pause, streaming: what is timed is the switch, not how long answers are.
        """
        since, deadline = time.monotonic(), time.monotonic() + limit_s
        with self._lock:
            self.count.began.clear()
        while time.monotonic() < deadline:
            self._ask(self._next(), user=f"watcher-{time.monotonic_ns()}", dice=None)
            with self._lock:
                moments = [began for by, asked, began in self.count.began if by == version and asked >= since]
            if moments:
                return min(moments)
        return 0.0

    def wait(self, answers: int, *, limit_s: float) -> None:
        """Return when so many more answers came, or the time is over."""
        goal, deadline = self.count.answered + answers, time.monotonic() + limit_s
        while self.count.answered < goal and time.monotonic() < deadline:
            self._over.wait(0.05)

    def _live(self, number: int) -> None:
        dice = random.Random(number)  # noqa: S311 - votes need no secrecy, they need to repeat
        turn = 0
        while not self._over.is_set():
            turn += 1
            self._ask(self._next(), user=f"user-{number}-{turn}", dice=dice)
            self._over.wait(self._pause_s * dice.uniform(0.5, 1.5))

    def _ask(self, row: Row, *, user: str, dice: random.Random | None) -> None:
        """One question; without dice it streams, and nobody votes."""
        with self._lock:
            self.count.asked += 1
        try:
            answer, interaction = self._answer(row, user, stream=dice is None or dice.random() < 0.5)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            with self._lock:
                self.count.failed += 1
                self.count.errors.append(f"{type(error).__name__}: {error}"[:300])
            return
        right = answer.strip() == row.completion
        with self._lock:
            self.count.answered += 1
            self.count.right += right
            self.count.recent.append(right)
        if dice is not None and row.split != "test" and dice.random() < VOTES:
            self._vote(interaction, row, user, likes=right != (dice.random() < MISTAKEN), right=right, dice=dice)

    def _answer(self, row: Row, user: str, *, stream: bool) -> tuple[str, str]:
        messages = [message.to_dict() for message in row.messages]
        asked = time.monotonic()
        create: Any = self._client.chat.completions.with_raw_response.create
        raw = create(model=self._model, messages=messages, user=user, stream=stream, temperature=0, max_tokens=64)
        interaction = str(raw.headers["x-ciranda-interaction"])
        with self._lock:
            self.count.began.append((raw.headers["x-ciranda-version"], asked, time.monotonic()))
        if not stream:
            return raw.parse().choices[0].message.content or "", interaction
        pieces = [chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices]
        return "".join(pieces), interaction

    def _vote(self, interaction: str, row: Row, user: str, *, likes: bool, right: bool, dice: random.Random) -> None:
        body: dict[str, object] = {"interaction": interaction, "thumb": "up" if likes else "down", "user": user}
        corrects = not likes and not right and dice.random() < CORRECTS
        if corrects:
            body["correction"] = row.completion
        try:
            self._http.post("/v1/feedback", json=body).raise_for_status()
        except httpx.HTTPError as error:
            with self._lock:
                self.count.errors.append(f"feedback: {error}"[:300])
            return
        with self._lock:
            self.count.up += likes
            self.count.down += not likes
            self.count.corrected += corrects
