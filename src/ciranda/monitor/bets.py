"""PairBet: has this stream of messages changed? Valid at every moment, with a bound on false alarms that needs no tuning.

The reference is split once: a quarter to learn from, the rest to bet against. Each new message y stands in a line-up with r
reference messages x_1..x_r of its stratum that were not used in this epoch. A score s, learned from the past only, gives

    e = (1 + r) exp s(y) / (exp s(y) + sum_j exp s(x_j))

If nothing has changed, y is any member of the line-up with the same chance, so E[e | past] = 1 whatever s is. Several
scores (experts) bet side by side: mean shift and density ratio over four look-backs, and the share of the message's label
(its language) over two. The wealth of each restarts at every step (Shiryaev-Roberts) and over an epoch of L messages is
dominated by a martingale of mean 1, so the chance of an alarm in an epoch is at most alpha (Ville): at most
alpha * 100,000 / L false alarms per 100,000 messages. `Bound` says that number; a small reference means a short epoch and an
honest, larger one. Strata (an hour of the day, a tenant) turn a daily cycle into no change at all.

Messages are bet on one by one, with what was learned up to the last full block: how a stream is cut into calls makes no
difference. State goes to bytes and back exactly (no pickle), so any process can go on after any message.
It refuses a reference below 40 messages: with so few, no bet could ever win.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciranda.monitor.reference import LEAST, SHARPNESS, Ints, Matrix, Reference, density, pack, project, unit, unpack

__all__ = ["LEAST", "Bound", "Hit", "PairBet", "Reference"]

BLOCK = 10
WINDOWS = (50, 200, 800, 1600)
LABEL_WINDOWS = (50, 200)
WARM = 20  # messages to have seen before a window bets
CLIP = 6.0
RECALLED = 500  # messages that a change point is looked for in
EXPERTS = 2 * len(WINDOWS) + len(LABEL_WINDOWS)


class Bound(NamedTuple):
    """What is promised: false alarms at most with chance `alpha` in an epoch of `epoch` messages."""

    alpha: float
    epoch: int

    @property
    def per_100k(self) -> float:
        """The same as false alarms per 100,000 messages."""
        return self.alpha * 100_000 / self.epoch


class Hit(NamedTuple):
    """An alarm: the message it came with, the first message of the change (both counted from 1), and the evidence."""

    at: int
    since: int
    wealth: float
    expert: int


@dataclass
class PairBet:
    """The bet on one stream. Feed it with `update`; `copy` it first to keep the state before."""

    reference: Reference
    alpha: float = 0.01
    seed: int = 0
    seen: int = 0
    in_epoch: int = 0
    epoch: int = 0
    used: dict[int, int] = field(default_factory=dict)
    wealth: NDArray[np.float64] = field(default_factory=lambda: np.zeros(EXPERTS))
    gains: Matrix = field(default_factory=lambda: np.zeros((0, EXPERTS), np.float32))
    history: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    history_labels: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    pending: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    pending_labels: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        width = self.reference.learn.shape[1]
        self.history = self.history.reshape(-1, width)
        self.pending = self.pending.reshape(-1, width)
        self._queues = self._shuffle()
        self._known = _Known.of(self.reference, self.history, self.history_labels)

    @property
    def bound(self) -> Bound:
        """The promise on false alarms."""
        return Bound(self.alpha, self.reference.epoch)

    @property
    def e_value(self) -> float:
        """The evidence of a change so far; an alarm comes at 1 / alpha."""
        return float(self.wealth.mean())

    def update(
        self, vectors: Matrix, *, strata: Sequence[int] | None = None, labels: Sequence[int] | None = None
    ) -> Hit | None:
        """Feed messages in the order of their arrival, up to and including the first that raises an alarm.

        Returns the alarm, if any: `hit.at` is its message, so what came after it has not been taken and can be fed next.
        """
        n = len(vectors)
        flat = np.zeros(n, np.int64) if strata is None else np.asarray(strata, np.int64)
        named = np.zeros(n, np.int64) if labels is None else np.asarray(labels, np.int64)
        rows = project(np.asarray(vectors, np.float32), self.reference.centre, self.reference.axes).astype(np.float16)
        start, hit = 0, None
        while start < n and hit is None:
            if self.in_epoch >= self.reference.epoch:
                self._new_epoch()
            stop = min(n, start + BLOCK - len(self.pending), start + self.reference.epoch - self.in_epoch)
            before = self.seen
            hit = self._bet(rows[start:stop], flat[start:stop], named[start:stop])
            taken = start + self.seen - before
            self._remember(rows[start:taken], named[start:taken])
            start = taken
        return hit

    def copy(self) -> PairBet:
        """An independent state on the same reference; arrays are shared, since they are replaced and never changed."""
        twin = copy.copy(self)
        twin.used = dict(self.used)
        return twin

    def to_bytes(self) -> bytes:
        """All but the reference, as an .npz without pickle."""
        used = np.array(sorted(self.used.items()), np.int64).reshape(-1, 2)
        numbers = np.array([self.seed, self.seen, self.in_epoch, self.epoch], np.int64)
        return pack({"numbers": numbers, "alpha": np.array(self.alpha), "used": used, "history": self.history,
                      "wealth": self.wealth, "gains": self.gains, "pending": self.pending,
                      "history_labels": self.history_labels, "pending_labels": self.pending_labels})  # fmt: skip

    @classmethod
    def from_bytes(cls, reference: Reference, blob: bytes) -> PairBet:
        """What `to_bytes` wrote, on the same reference."""
        arrays = unpack(blob)
        seed, seen, in_epoch, epoch = (int(number) for number in arrays.pop("numbers"))
        used = {int(stratum): int(count) for stratum, count in arrays.pop("used")}
        return cls(reference=reference, alpha=float(arrays.pop("alpha")), seed=seed, seen=seen, in_epoch=in_epoch,
                   epoch=epoch, used=used, **arrays)  # fmt: skip

    def _shuffle(self) -> dict[int, Ints]:
        """The order in which reference messages of each stratum are used up; the same for the same epoch, anywhere."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.reference.bet))
        strata = self.reference.strata[order]
        return {int(stratum): order[strata == stratum] for stratum in np.unique(strata)}

    def _new_epoch(self) -> None:
        self.epoch += 1
        self.in_epoch, self.used = 0, {}
        self.wealth = np.zeros(EXPERTS)
        self._queues = self._shuffle()

    def _line_up(self, stratum: int) -> Ints | None:
        """r reference messages nobody has bet against in this epoch, or None when the stratum has run out of them."""
        start = self.used.get(stratum, 0)
        queue = self._queues.get(stratum)
        if queue is None or start + self.reference.r > len(queue):
            return None
        self.used[stratum] = start + self.reference.r
        return queue[start : start + self.reference.r]

    def _bet(self, rows: Matrix, strata: Ints, labels: Ints) -> Hit | None:
        """One message after the other, within one epoch, all with what was known at the last full block."""
        line_ups = [self._line_up(stratum) for stratum in strata.tolist()]
        betting = [place for place, others in enumerate(line_ups) if others is not None]
        gains = np.ones((len(rows), EXPERTS))
        if betting:
            others = np.concatenate([line_up for line_up in line_ups if line_up is not None])
            gains[betting] = self._gains(rows[betting], labels[betting], others)
        for place, line_up in enumerate(line_ups):
            self.seen += 1
            self.in_epoch += 1
            if line_up is not None:
                self.wealth = (self.wealth + 1 / self.reference.epoch) * gains[place]
                if self.e_value >= 1 / self.alpha:
                    hit = self._hit(np.log(gains[: place + 1]))
                    self._new_epoch()
                    return hit
        self.gains = np.concatenate([self.gains, np.log(gains).astype(np.float32)])[-RECALLED:]
        return None

    def _gains(self, rows: Matrix, labels: Ints, others: Ints) -> NDArray[np.float64]:
        """What a unit of wealth becomes after each line-up, by expert (columns)."""
        mine = self._known.scores(rows, labels)
        theirs = self._known.reference_scores(others).reshape(EXPERTS, len(rows), self.reference.r)
        out: NDArray[np.float64] = (1 + self.reference.r) / (1 + np.exp(theirs - mine[:, :, None]).sum(axis=2))
        return out.T

    def _hit(self, latest: NDArray[np.float64]) -> Hit:
        """The alarm, with the likeliest change point: where the winner's gains, less half their mean since, add up most."""
        expert = int(self.wealth.argmax())
        gains, start = np.concatenate([self.gains[:, expert], latest[:, expert]])[-RECALLED:].astype(np.float64), 0
        self.gains = self.gains[:0]
        for slack in (0.0, 0.5, 0.5, 0.5):
            start = int(np.cumsum((gains - slack * gains[start:].mean())[::-1])[::-1].argmax())
        return Hit(at=self.seen, since=self.seen - len(gains) + start + 1, wealth=self.e_value, expert=expert)

    def _remember(self, rows: Matrix, labels: Ints) -> None:
        """Learn only from full blocks, so that calls may be cut anywhere."""
        self.pending = np.concatenate([self.pending, rows])
        self.pending_labels = np.concatenate([self.pending_labels, labels])
        if len(self.pending) >= BLOCK:
            self.history = np.concatenate([self.history, self.pending])[-max(WINDOWS) :]
            self.history_labels = np.concatenate([self.history_labels, self.pending_labels])[-max(WINDOWS) :]
            self._known = self._known.after(self.pending, self.history_labels)
            self.pending, self.pending_labels = self.pending[:0], self.pending_labels[:0]


class _Known:
    """What the past says: for any message, by expert, how much likelier it is now than in the reference (log)."""

    def __init__(self, reference: Reference, past: Matrix, units: Matrix, labels: Ints) -> None:
        self.reference, self.past, self.units = reference, past, units
        self.windows = [window if len(past) >= max(WARM, min(window, 50) // 2) else 0 for window in WINDOWS]
        self.shifts = [_shift(past[-window:], reference.scale) if window else None for window in self.windows]
        self.shares = [_shares(labels[-window:]) if len(past) >= WARM else None for window in LABEL_WINDOWS]

    @classmethod
    def of(cls, reference: Reference, history: Matrix, labels: Ints) -> _Known:
        """What these messages say."""
        past = history.astype(np.float32)
        return cls(reference, past, unit(past), labels)

    def after(self, rows: Matrix, labels: Ints) -> _Known:
        """What is known after some more messages; `labels` are those of all that is remembered then."""
        wide = rows.astype(np.float32)
        past = np.concatenate([self.past, wide])[-max(WINDOWS) :]
        return _Known(self.reference, past, np.concatenate([self.units, unit(wide)])[-max(WINDOWS) :], labels)

    def scores(self, rows: Matrix, labels: Ints) -> NDArray[np.float64]:
        """By expert (rows) and message (columns)."""
        wide = rows.astype(np.float32)
        return self._scores(wide, labels, density(unit(wide), self.reference.units))

    def reference_scores(self, places: Ints) -> NDArray[np.float64]:
        """The same for messages of the reference."""
        return self._scores(self.reference.bet[places], self.reference.labels[places], self.reference.density[places])

    def _scores(self, rows: Matrix, labels: Ints, usual: Matrix) -> NDArray[np.float64]:
        out = np.zeros((EXPERTS, len(rows)))
        if any(self.windows) and len(rows):
            alike = np.exp(SHARPNESS * (unit(rows) @ self.units.T - 1))
            floor = 0.3 * usual + self.reference.floor
            for place, (window, shift) in enumerate(zip(self.windows, self.shifts, strict=True)):
                if window and shift is not None:
                    out[2 * place] = np.clip(
                        (rows * self.reference.scale) @ shift - 0.5 * float(shift @ shift), -CLIP, CLIP
                    )
                    out[2 * place + 1] = np.log((alike[:, -window:].mean(axis=1) + floor) / (usual + floor))
        for place, shares in enumerate(self.shares):
            if shares is not None:
                usually = self.reference.label_share(labels)
                now = np.array([shares.get(label, 0.0) for label in labels.tolist()])
                kept = 5 / (5 + sum(shares.values()))
                rate = kept * usually + (1 - kept) * now / max(sum(shares.values()), 1e-9)
                out[2 * len(WINDOWS) + place] = np.clip(np.log(rate / usually), -CLIP, CLIP)
        return out


def _shares(labels: Ints) -> Mapping[int, float]:
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.astype(float).tolist(), strict=True))


def _shift(rows: Matrix, scale: Matrix) -> Matrix:
    """The mean of recent messages in the whitened frame, shrunk towards none at all (James-Stein)."""
    mean = rows.mean(axis=0) * scale
    kept = max(1 - len(mean) / len(rows) / max(float(mean @ mean), 1e-9), 0.0)
    out: Matrix = mean * np.float32(kept)
    return out
