"""What one worker counts, in Prometheus' text format.

Labels come from the snapshot (models, versions, arms), never from a client, so nobody can make series at will: requests that
reach no model are counted under an empty one. Histograms are cumulative buckets, filled by one bisect per request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ciranda.gateway.upstream import Replica

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OWN_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts by upper bound, with sum and count."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """The series of this histogram."""
        running = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"{name}_bucket{_braces((*labels, ('le', shown)))} {running}"
        yield f"{name}_sum{_braces(labels)} {self.total:.9g}"
        yield f"{name}_count{_braces(labels)} {running}"


class Line:
    """What is counted for one version in one arm."""

    __slots__ = ("first_byte", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self.first_byte = Histogram(SECONDS)
        self.input_tokens = self.output_tokens = 0


class Metrics:
    """All counters of a worker."""

    def __init__(self) -> None:
        self.refusals: dict[int, int] = {}
        self.durations: dict[tuple[str, str, str, int], Histogram] = {}
        self.lines: dict[tuple[str, str, str], Line] = {}
        self.overhead = Histogram(OWN_SECONDS)
        self.counters = dict.fromkeys(_TOLD, 0)

    def refused(self, status: int) -> None:
        """Count an answer that reached no model."""
        self.refusals[status] = self.refusals.get(status, 0) + 1

    def answered(
        self, model: str, version: str, arm: str, status: int, *, latency: float, first_byte: float, overhead: float,
        tokens: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        """Count an answer that did; times in seconds, tokens of prompt and answer."""
        duration = self.durations.get((model, version, arm, status))
        if duration is None:
            duration = self.durations[model, version, arm, status] = Histogram(SECONDS)
            self.lines.setdefault((model, version, arm), Line())
        duration.observe(latency)
        line = self.lines[model, version, arm]
        if first_byte:
            line.first_byte.observe(first_byte)
        line.input_tokens += tokens[0]
        line.output_tokens += tokens[1]
        self.overhead.observe(overhead)

    def text(self, gauges: Iterable[tuple[str, str, float]]) -> str:
        """Everything, as a scrape shows it. `gauges` are (name, help, value); one that is called `…_total` is a counter."""
        lines = [*self._requests(), *self._times(), *self._tokens(), *self._counters()]
        for name, told, value in gauges:
            lines += [*_head(f"ciranda_gateway_{name}", kind_of(name), told), f"ciranda_gateway_{name} {value:g}"]
        return "\n".join(lines) + "\n"

    def _requests(self) -> Iterator[str]:
        name = "ciranda_gateway_requests_total"
        yield from _head(name, "counter", "Answers by model, version, arm and status.")
        for key, duration in self.durations.items():
            yield f"{name}{_braces(_labels(key))} {sum(duration.counts)}"
        for status, count in self.refusals.items():
            yield f"{name}{_braces(_labels(('', '', '', status)))} {count}"

    def _times(self) -> Iterator[str]:
        name = "ciranda_gateway_request_duration_seconds"
        yield from _head(name, "histogram", "Time from the whole request to the last byte of its answer.")
        for key, duration in self.durations.items():
            yield from duration.lines(name, _labels(key))
        name = "ciranda_gateway_time_to_first_byte_seconds"
        yield from _head(name, "histogram", "Time to the first byte of the answer; of a stream, to its first token.")
        for place, line in self.lines.items():
            yield from line.first_byte.lines(name, _labels(place))
        name = "ciranda_gateway_overhead_seconds"
        yield from _head(name, "histogram", "Our own share of the time: without the wait for an engine.")
        yield from self.overhead.lines(name, ())

    def _tokens(self) -> Iterator[str]:
        name = "ciranda_gateway_tokens_total"
        yield from _head(name, "counter", "Tokens of prompts (input) and answers (output).")
        for place, line in self.lines.items():
            for kind, count in (("input", line.input_tokens), ("output", line.output_tokens)):
                yield f"{name}{_braces((*_labels(place), ('type', kind)))} {count}"

    def _counters(self) -> Iterator[str]:
        for name, value in self.counters.items():
            full = f"ciranda_gateway_{name}_total"
            yield from (*_head(full, "counter", _TOLD[name]), f"{full} {value}")


CIRCUITS = ("closed", "half_open", "open")


def circuits(replicas: Iterable[Replica], now: float) -> str:
    """The state of each replica's circuit, and how often it opened."""
    state, opened = "ciranda_gateway_circuit", "ciranda_gateway_circuit_opened_total"
    states = _head(state, "gauge", "Circuit of a replica: 0 closed, 1 half open, 2 open.")
    counts = _head(opened, "counter", "How often a replica's circuit opened.")
    lines, more = list(states), list(counts)
    for one in replicas:
        labels = _braces((("replica", one.id),))
        lines.append(f"{state}{labels} {CIRCUITS.index(one.circuit(now))}")
        more.append(f"{opened}{labels} {one.ejections}")
    return "\n".join((*lines, *more)) + "\n"


_TOLD = {
    "retries": "Tries after the first one.",
    "shadow_sent": "Shadow copies sent.",
    "shadow_dropped": "Shadow copies dropped, because the queue or the disk was full.",
    "storage_full": "Answers withheld because they could not be recorded.",
    "feedback": "Feedback taken.",
    "tokens_counted": "Prompts whose tokens were counted before they were sent.",
    "texts_judged": "Requests to moderations that were answered.",
    "records": "Records written to the spool.",
    "spans_recorded": "Reported spans that became interactions.",
    "spans_ignored": "Reported spans that are no call of a model.",
    "spans_echoed": "Reported spans of calls that went through this gateway, which has recorded them already.",
    "spans_rejected": "Reported spans that were refused.",
}


def kind_of(name: str) -> str:
    """The type of a metric, by its name."""
    return "counter" if name.endswith("_total") else "gauge"


def _labels(key: tuple[str, str, str] | tuple[str, str, str, int]) -> Labels:
    return tuple(zip(("model", "version", "arm", "status"), map(str, key), strict=False))


def _head(name: str, kind: str, told: str) -> tuple[str, str]:
    return f"# HELP {name} {told}", f"# TYPE {name} {kind}"


def _braces(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escape(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
