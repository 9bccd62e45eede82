"""What a run tells while it trains, out of the lines of its progress: the one reader of `progress.jsonl` for people.

    {"run": {...}}                                                    who trains on what: `train.provenance`, and the environment
    {"step", "steps", "loss", "rate", "tokens_per_s"}                 each step
    {"validation": {"step", "exact_match", "loss", "n"}}              a look at rows that are not trained on
    {"sample": {"step", "prompt", "reference", "answer"}}             what it answers by now
    {"system": {"rss_bytes", "cpu_percent", "at"}}                    what it takes of the machine
    {"phase": ...}                                                    loading, validating, done

A run that was killed and went on tells some steps twice; the later word counts. Lines come from a process that may die in the
middle of one or be of another version, so what cannot be read is passed over. What is handed out is bounded, however long the run.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from ciranda.store import clock

MOST_POINTS = 400
MOST_SAMPLES = 60
FORGET_S = 60.0

One = TypeVar("One")
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One step: the loss per answer token, the learning rate, tokens trained in a second so far."""

    step: int
    loss: float
    rate: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class Validation:
    """How it did on rows that are not trained on; step 0 when the run did not say."""

    step: int
    exact_match: float | None
    loss: float | None
    n: int


@dataclass(frozen=True)
class Sample:
    """What it answered after a step to a question whose right answer is known."""

    step: int
    prompt: str
    reference: str
    answer: str

    @property
    def right(self) -> bool:
        return self.answer.strip() == self.reference.strip()


@dataclass(frozen=True)
class System:
    """What the process held and used: bytes, percent of one processor."""

    at: str
    rss_bytes: int
    cpu_percent: float


@dataclass(frozen=True)
class Telemetry:
    """Everything that a run told so far, oldest first."""

    steps: int = 0
    curve: tuple[Step, ...] = ()
    validations: tuple[Validation, ...] = ()
    samples: tuple[Sample, ...] = ()
    system: tuple[System, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    resumed: tuple[int, ...] = ()
    left_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return asdict(self)

    def without_words(self) -> Telemetry:
        """The same without what was asked and answered, for whoever may not see the rows."""
        return Telemetry(**{**self.__dict__, "samples": ()})

    @property
    def peak_rss_bytes(self) -> int:
        return max((one.rss_bytes for one in self.system), default=0)


class Told(Protocol):
    """Whoever keeps the lines of a job: `jobs.local.Executor` does."""

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]: ...


class Listener:
    """What jobs told so far. It goes on where it was when it is asked again soon, since a page asks every second.

    What it remembers of a job is forgotten after `FORGET_S`, so that what was taken out of the lines (a person was erased) is gone
    here too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, int, Reading]] = {}

    def of(self, executor: Told, key: str) -> Telemetry:
        """What a job told; nothing when it never began."""
        now = time.monotonic()
        with self._lock:
            self._known = {name: one for name, one in self._known.items() if now - one[0] < FORGET_S}
            since, offset, reading = self._known.pop(key, (now, 0, Reading()))
            while True:
                lines, after = executor.progress(key, offset)
                for line in lines:
                    reading.add(line)
                if after == offset:
                    break
                offset = after
            self._known[key] = since, offset, reading
            return reading.whole()


def read(lines: Iterable[Line]) -> Telemetry:
    """Make a whole of lines."""
    reading = Reading()
    for line in lines:
        reading.add(line)
    return reading.whole()


class Reading:
    """Lines as they come, bounded."""

    def __init__(self) -> None:
        self._curve: dict[int, Step] = {}
        self._validations: dict[int, Validation] = {}
        self._samples: dict[tuple[int, str], Sample] = {}
        self._system: list[System] = []
        self._run: Mapping[str, Any] = {}
        self._phase, self._steps, self._last = "", 0, 0
        self._resumed: list[int] = []
        self._since: tuple[int, datetime | None] = (0, None)
        self._until: tuple[int, datetime | None] = (0, None)

    def add(self, line: Line) -> None:
        """One line of progress; what cannot be read changes nothing."""
        if (one := _step(line)) is not None:
            self._trained(one, int(_number(line.get("steps")) or 0), _moment(line.get("at")))
        elif (seen := _validation(line)) is not None:
            self._validations[seen.step] = seen
        elif (said := _sample(line)) is not None:
            self._samples[said.step, said.prompt] = said
        elif (held := _system(line)) is not None:
            self._system.append(held)
        elif isinstance(line.get("run"), dict):
            self._run = _sound(line["run"])
        elif isinstance(line.get("phase"), str):
            self._phase = line["phase"]
        self._bound()

    def _trained(self, one: Step, steps: int, at: datetime | None) -> None:
        if one.step <= self._last:
            self._resumed.append(one.step)
        if one.step <= self._last or not self._last:
            self._since = one.step, at
        self._until = one.step, at
        self._curve[one.step], self._last = one, one.step
        self._steps = max(self._steps, steps)

    def _bound(self) -> None:
        """Forget the details of what is long past: twice as much is kept as is ever shown."""
        if len(self._curve) > 4 * MOST_POINTS:
            kept = thin(_ordered(self._curve), 2 * MOST_POINTS)
            self._curve = {one.step: one for one in kept}
        if len(self._system) > 4 * MOST_POINTS:
            self._system = list(thin(self._system, 2 * MOST_POINTS))
        while len(self._samples) > MOST_SAMPLES:
            self._samples.pop(next(iter(self._samples)))
        self._resumed = self._resumed[-20:]

    def whole(self) -> Telemetry:
        """What was told so far."""
        return Telemetry(
            self._steps,
            thin(_ordered(self._curve)),
            thin(_ordered(self._validations)),
            tuple(self._samples.values()),
            thin(self._system),
            self._run,
            self._phase,
            tuple(self._resumed),
            self._left_s(),
        )

    def _left_s(self) -> float | None:
        """Until the last step, at the pace since this attempt began; None where nothing is known or left."""
        (first, since), (last, until) = self._since, self._until
        if since is None or until is None or last <= first or self._steps <= last:
            return None
        return round((until - since).total_seconds() / (last - first) * (self._steps - last), 1)


def thin(values: Sequence[One], most: int = MOST_POINTS) -> tuple[One, ...]:
    """At most so many, evenly, the first and the last among them."""
    if len(values) <= most:
        return tuple(values)
    return tuple(values[round(place * (len(values) - 1) / (most - 1))] for place in range(most))


def _ordered(found: Mapping[int, One]) -> list[One]:
    return [found[step] for step in sorted(found)]


def _step(line: Line) -> Step | None:
    step, loss = _number(line.get("step")), _number(line.get("loss"))
    if step is None or loss is None:
        return None
    return Step(int(step), loss, _number(line.get("rate")), _number(line.get("tokens_per_s")))


def _validation(line: Line) -> Validation | None:
    told = line.get("validation")
    if not isinstance(told, dict):
        return None
    step, n = _number(told.get("step")) or 0, _number(told.get("n")) or 0
    return Validation(int(step), _number(told.get("exact_match")), _number(told.get("loss")), int(n))


def _sample(line: Line) -> Sample | None:
    told = line.get("sample")
    if not isinstance(told, dict):
        return None
    step = _number(told.get("step")) or 0
    return Sample(int(step), *(str(told.get(name) or "")[:4000] for name in ("prompt", "reference", "answer")))


def _system(line: Line) -> System | None:
    told = line.get("system")
    if not isinstance(told, dict):
        return None
    rss, cpu = _number(told.get("rss_bytes")), _number(told.get("cpu_percent"))
    return System(str(told.get("at") or line.get("at") or ""), int(rss or 0), cpu or 0.0) if rss is not None else None


def _moment(value: Any) -> datetime | None:
    try:
        return clock.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _sound(value: Any) -> Any:
    """The same without NaN and the infinities, which no JSON carries: they become None."""
    if isinstance(value, dict):
        return {key: _sound(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_sound(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
