"""What a stream is compared with: frozen arrays, made once from one vector per message.

A quarter of the messages is for learning: the frame (centre, principal axes, scale) and the usual density come from it alone,
because a score that knows what it bets against is no fair bet. The rest is what arriving messages are put in line with.
To bytes and back without pickle. It refuses fewer than 40 messages: with so few, no bet could ever win.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciranda.errors import Invalid

LEAST = 40
LARGEST = 6000
SHARPNESS = 14.0

Matrix = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Reference:
    """What the stream is compared with: frozen arrays, in a whitened frame that was learned from the learning part."""

    centre: Matrix
    axes: Matrix
    scale: Matrix
    learn: Matrix
    bet: Matrix
    strata: Ints
    labels: Ints
    label_shares: NDArray[np.float64]
    density: Matrix
    r: int

    @classmethod
    def of(
        cls,
        vectors: Matrix,
        *,
        strata: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        dimensions: int = 512,
        seed: int = 0,
    ) -> Reference:
        """A reference from one vector per message (at least 40; of more than 6,000 a random 6,000).

        Args:
            vectors: One row per message.
            strata: A small number per message; line-ups stay within one.
            labels: A small number per message, from 0, such as its language.
            dimensions: Principal axes to keep.
            seed: Of the split.
        """
        if len(vectors) < LEAST:
            raise Invalid(f"a reference of {len(vectors)} messages", where="drift reference",
                          remedy=f"give at least {LEAST}; 6,000 make the best bound")  # fmt: skip
        order = np.random.default_rng(seed).permutation(len(vectors))[:LARGEST]
        bet, learn = order[: int(0.75 * len(order))], order[int(0.75 * len(order)) :]
        centre, axes, scale = _frame(np.asarray(vectors[learn], np.float32), dimensions)
        named = np.zeros(len(vectors), np.int64) if labels is None else np.asarray(labels, np.int64)
        flat = np.zeros(len(vectors), np.int64) if strata is None else np.asarray(strata, np.int64)
        z_learn = project(np.asarray(vectors[learn], np.float32), centre, axes)
        z_bet = project(np.asarray(vectors[bet], np.float32), centre, axes)
        # From the learning part alone: a score that knows what it bets against is no fair bet.
        counts = np.bincount(named[learn], minlength=int(named.max()) + 1) + 0.5
        return cls(
            centre=centre, axes=axes, scale=scale, learn=z_learn, bet=z_bet, strata=flat[bet], labels=named[bet],
            label_shares=counts / (counts.sum() + 0.5),
            density=density(unit(z_bet), unit(z_learn)), r=_companions(len(bet)),
        )  # fmt: skip

    @cached_property
    def units(self) -> Matrix:
        """The learning part, each row of length one."""
        return unit(self.learn)

    @cached_property
    def floor(self) -> float:
        """A density so small that nothing is thought rarer."""
        return 0.02 * float(np.median(self.density))

    @property
    def size(self) -> int:
        """Messages in it."""
        return len(self.learn) + len(self.bet)

    @property
    def epoch(self) -> int:
        """Messages in one epoch: each uses r of the reference messages to bet against, none twice."""
        return len(self.bet) // self.r

    def label_share(self, labels: Ints) -> NDArray[np.float64]:
        """The share of each label in the reference; what was never seen there has half a message's."""
        shares = self.label_shares
        unseen = float(shares.min())
        return np.where(labels < len(shares), shares[np.minimum(labels, len(shares) - 1)], unseen)

    def to_bytes(self) -> bytes:
        """As an .npz without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {name: arrays[name].astype(np.float16) for name in ("learn", "bet")}  # rounded so already
        return pack({**arrays, "r": np.array(self.r)})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Reference:
        """What `to_bytes` wrote."""
        arrays = unpack(blob)
        arrays |= {name: arrays[name].astype(np.float32) for name in ("learn", "bet")}
        return cls(**{name: arrays[name] for name in _ARRAYS}, r=int(arrays["r"]))


_ARRAYS = ("centre", "axes", "scale", "learn", "bet", "strata", "labels", "label_shares", "density")


def _frame(learn: Matrix, dimensions: int) -> tuple[Matrix, Matrix, Matrix]:
    """Centre, principal axes, and the scale that whitens them (shrunk, so that small axes are not blown up)."""
    centre = learn.mean(axis=0)
    _, sizes, axes = np.linalg.svd(learn - centre, full_matrices=False)
    kept = min(dimensions, len(sizes))
    variance = sizes[:kept] ** 2 / len(learn)
    scale = 1 / np.sqrt(variance + 0.2 * variance.mean() + 1e-12)
    return centre, axes[:kept].T.astype(np.float32), scale.astype(np.float32)


def project(vectors: Matrix, centre: Matrix, axes: Matrix) -> Matrix:
    """Vectors in the frame of a reference."""
    # Rounded as history is, so that what is bet against and what is bet on went the same way.
    return ((vectors - centre) @ axes).astype(np.float16).astype(np.float32)


def unit(rows: Matrix) -> Matrix:
    """Each row at length one."""
    out: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return out


def density(units: Matrix, among: Matrix) -> Matrix:
    """How crowded it is around each row."""
    out: Matrix = np.exp(SHARPNESS * (units @ among.T - 1)).mean(axis=1)
    return out


def _companions(size: int) -> int:
    """More in a line-up decide sooner, fewer make a longer epoch: three for a large reference, one for a small one."""
    return 3 if size >= 1800 else 2 if size >= 600 else 1


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as an .npz, in which nothing can be executed."""
    target = io.BytesIO()
    np.savez(target, allow_pickle=False, **arrays)
    return target.getvalue()


def unpack(blob: bytes) -> dict[str, Any]:
    """What `pack` wrote."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
