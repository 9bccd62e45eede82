"""Rows in tokens, laid into sequences without padding.

The rows of a step lie one after another in a single sequence. Each sees itself and the prefix that all prompts share (the
system prompt), by an owner number for each token and by positions that start again for each row. So the prefix costs its
tokens once for a step and not once for a row, no padding is computed, and every row gets exactly the logits it would get alone.

Everything here is plain numbers: `engines.peft` turns a `Pack` into tensors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PACK_TOKENS = 1024  # beyond, the mask's square costs more than padding would; a step is then summed over several packs
SHARED = -1
OFTEN = 4  # epochs over the rows of a small group


@dataclass(frozen=True)
class Tokens:
    """One example in tokens: what is given and what must come, its end included; and the group it is drawn with."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    group: str = ""

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


def schedule(groups: Sequence[str], draws: int, seed: int) -> tuple[int, ...]:
    """The rows of a whole run in their order, so that the step alone decides what it sees.

    Each group (a row's language) is drawn equally often, or the few new rows of a language would drown among the many old ones; but
    a small group's rows at most `OFTEN` times each. Within a group every row is seen before any is seen again.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    dice = random.Random(seed)  # noqa: S311 - an order, not a secret
    shares = _shares({group: len(rows) for group, rows in members.items()}, draws)
    drawn = [n for group in sorted(members) for n in _epochs(members[group], shares[group], dice)]
    dice.shuffle(drawn)
    return tuple(drawn)


def _shares(sizes: Mapping[str, int], draws: int) -> dict[str, int]:
    """How often each group is drawn: small groups first get what they may, the others share what is left."""
    bound = max(OFTEN, -(-draws // sum(sizes.values())))  # fewer rows than draws: all are seen more often
    shares, left = {}, draws
    order = sorted(sizes, key=lambda group: (sizes[group], group))
    for place, group in enumerate(order):
        shares[group] = min(left // (len(order) - place), sizes[group] * bound)
        left -= shares[group]
    return shares


def _epochs(rows: Sequence[int], count: int, dice: random.Random) -> list[int]:
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += dice.sample(rows, min(len(rows), count - len(drawn)))
    return drawn
