"""Rows in tokens, laid into sequences without padding.

The rows of a step lie one after another in a single sequence. Each sees itself and the prefix that all prompts share (the
system prompt), by an owner number for each token and by positions that start again for each row. So the prefix costs its
tokens once for a step and not once for a row, no padding is computed, and every row gets exactly the logits it would get alone.

Everything here is plain numbers: `engines.peft` turns a `Pack` into tensors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PACK_TOKENS = 1024  # beyond, the mask's square costs more than padding would; a step is then summed over several packs
SHARED = -1


@dataclass(frozen=True)
class Tokens:
    """One example in tokens: what is given and what must come, its end included."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Pack:
    """One sequence.

    Args:
        tokens: What the model reads.
        positions: Each token's place in its own row.
        owners: The row of each token, `SHARED` for the prefix: a token sees its own row and the prefix, never the future.
        judged: Places whose next token is part of an answer.
        targets: Those next tokens.
        spans: The (start, end) of each row's answer within `judged`.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    owners: tuple[int, ...]
    judged: tuple[int, ...]
    targets: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def packs(rows: Sequence[Tokens], limit: int = PACK_TOKENS) -> Iterator[Pack]:
    """As few packs as hold `limit` tokens each, rows in order; a longer row is a pack of its own."""
    shared = prefix(rows)
    some: list[Tokens] = []
    size = shared
    for row in rows:
        if some and size + len(row) - shared > limit:
            yield pack(some, shared)
            some, size = [], shared
        some.append(row)
        size += len(row) - shared
    if some:
        yield pack(some, shared)


def prefix(rows: Sequence[Tokens]) -> int:
    """How many tokens all prompts begin with; each row keeps at least one prompt token of its own."""
    if not rows:
        return 0
    first, last = min(row.prompt for row in rows), max(row.prompt for row in rows)  # they differ earliest of all pairs
    shortest = min(len(row.prompt) for row in rows)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), shortest)
    return max(0, min(same, shortest - 1))


def pack(rows: Sequence[Tokens], shared: int) -> Pack:
    """The first `shared` tokens once, then the rest of each row; an answer's last token is due, never read."""
    tokens = list(rows[0].prompt[:shared])
    positions, owners = list(range(shared)), [SHARED] * shared
    judged: list[int] = []
    targets: list[int] = []
    spans: list[tuple[int, int]] = []
    for number, row in enumerate(rows):
        read = row.prompt[shared:] + row.answer[:-1]
        first = len(tokens) + len(row.prompt) - shared - 1
        spans.append((len(judged), len(judged) + len(row.answer)))
        judged.extend(range(first, first + len(row.answer)))
        targets.extend(row.answer)
        tokens.extend(read)
        positions.extend(range(shared, shared + len(read)))
        owners.extend([number] * len(read))
    return Pack(tuple(tokens), tuple(positions), tuple(owners), tuple(judged), tuple(targets), tuple(spans))


def batch(count: int, size: int, step: int, seed: int) -> list[int]:
    """The rows of a step: endless epochs, each shuffled by its own seed, so that the step alone decides."""
    return [_order(count, seed, n // count)[n % count] for n in range(step * size, step * size + size)]


def _order(count: int, seed: int, epoch: int) -> list[int]:
    order = list(range(count))
    random.Random(seed * 1_000_003 + epoch).shuffle(order)  # noqa: S311 - an order, not a secret
    return order
