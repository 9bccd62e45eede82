"""What a request may use: the bounds of its key, its tenant and its model, promised before it runs and settled when it ends.

A request counts as one at once. Tokens and money are promised by a guess (a token per three bytes of the body, and as many for the
answer as the client allows), so that requests in progress cannot together go over; when the answer is recorded the guess is
replaced by the real usage. A request that reached no engine used nothing; one whose answer was cut before the engine said
what it took is charged as promised, or leaving early would be free. An answer longer than its guess is charged in full, and those
after it pay: who wants a bound to the token sends `max_tokens`.

A worker whose snapshot holds no bounds never opens the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from ciranda.errors import CirandaError, LimitReached, Unavailable
from ciranda.gateway import answers
from ciranda.gateway.beside import Beside
from ciranda.gateway.ledger import Bucket, Kind, Ledger, Use, Verdict
from ciranda.gateway.snapshot import Bounds, Price, Snapshot

if TYPE_CHECKING:
    from ciranda.gateway.noting import Notes
    from ciranda.gateway.relay import Relay

BYTES_PER_TOKEN = 3
ANSWER_TOKENS = 512  # for an answer that its client does not bound
NANO = 1_000_000_000
WAIT_SECONDS = 2.0  # how long a request waits for a larger share of a bound
RECLAIM_SECONDS = 1.0

# Field of Bounds -> how it is counted, what is counted, and how it is named in an error.
SHAPES: Mapping[str, tuple[Kind, str, str]] = {
    "requests_per_minute": ("count", "requests", "requests per minute"),
    "tokens_per_minute": ("rate", "tokens", "tokens per minute"),
    "concurrent": ("parallel", "concurrent", "requests at the same time"),
    "tokens_per_day": ("day", "tokens", "tokens per day"),
    "tokens_per_month": ("month", "tokens", "tokens per month"),
    "cost_per_day": ("day", "cost", "cost per day"),
    "cost_per_month": ("month", "cost", "cost per month"),
}


class Allowed(msgspec.Struct, frozen=True):
    """How much answer a client allows."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


_allowed = msgspec.json.Decoder(Allowed)


class Guess(msgspec.Struct, frozen=True):
    """What a request is expected to use at most."""

    requests: int
    concurrent: int
    tokens: int
    cost: int


class Promise:
    """What one request holds, until it is settled."""

    __slots__ = ("_held", "_quotas", "headers")

    def __init__(self, quotas: Quotas, held: list[tuple[Bucket, int]], verdict: Verdict) -> None:
        self._quotas, self._held = quotas, held
        self.headers = headers_of(verdict.uses)

    def settle(self, record: Notes, *, asked: bool) -> None:
        """Put in the real usage. `asked`: an engine was, so tokens that nobody counted are charged as promised."""
        tokens = record.prompt_tokens + record.completion_tokens
        partly = bool(record.counted) and record.status != 200  # an estimate of what came before it broke off
        counted = (bool(tokens) and not partly) or not asked or bool(record.cached)
        real = {"tokens": 0 if record.cached else tokens, "cost": round((record.cost or 0.0) * NANO)}
        self._quotas.settle(
            [
                (bucket, amount, real.get(unit_of(bucket), amount) if counted else amount)
                for bucket, amount in self._held
            ]
        )


class Quotas:
    """The bounds of one worker's requests.

    Args:
        folder: Where the machine's ledger is.
        leased: Whether bounds hold across machines, so that this one has a share of each.
    """

    def __init__(self, folder: Path, *, leased: bool = False) -> None:
        self.folder, self.leased = folder, leased
        self.waiting: dict[Relay | Beside, float] = {}
        self.refused = 0
        self._ledger: Ledger | None = None
        self._reclaim_at = 0.0
        self._unsettled: list[list[tuple[Bucket, int, int]]] = []

    @property
    def ledger(self) -> Ledger:
        """The machine's ledger, opened at the first request that needs it."""
        if self._ledger is None:
            try:
                self._ledger = Ledger(self.folder, leased=self.leased)
            except OSError as error:
                raise Unavailable(
                    f"limits cannot be checked: {error.strerror}",
                    where=str(self.folder),
                    remedy="free space, or check its rights",
                ) from error
        return self._ledger

    def admit(self, relay: Relay, snapshot: Snapshot) -> bool:
        """Promise what the request needs; False when it has to wait for a share, and is told by `relay.admitted`.

        Raises LimitReached (429), StorageFull or Unavailable.
        """
        buckets = buckets_of(relay, snapshot)
        if not buckets:
            return True
        guess = guess_of(relay.body, relay.record.endpoint, relay.model.price)
        held = [(bucket, getattr(guess, unit_of(bucket))) for bucket in buckets]
        verdict = self._promised(relay, held)
        if verdict is not None:
            relay.promise = Promise(self, held, verdict)
        return verdict is not None

    def count(self, beside: Beside, snapshot: Snapshot) -> bool:
        """Count a request that no model answers against the requests per minute of its key and tenant; else like `admit`."""
        key = beside.key
        scopes = (f"key:{key.id}", key.bounds), (f"tenant:{key.tenant}", snapshot.tenants.get(key.tenant))
        held = [(one, 1) for scope, bounds in scopes for one in of_bounds(scope, bounds) if one.kind == "count"]
        if not held:
            return True
        verdict = self._promised(beside, held)
        if verdict is not None:
            beside.counted(headers_of(verdict.uses))
        return verdict is not None

    def _promised(self, asker: Relay | Beside, held: list[tuple[Bucket, int]]) -> Verdict | None:
        """The ledger's yes; None when it has to wait for a share."""
        verdict = self.ledger.promise(held)
        if verdict.refused is not None:
            self.refused += 1
            raise refusal(verdict.refused, dict(held)[verdict.refused.bucket], verdict.uses)
        if verdict.short:
            self.waiting.setdefault(asker, monotonic())
            return None
        return verdict

    def settle(self, held: list[tuple[Bucket, int, int]]) -> None:
        """Real usage for what was promised; when the ledger cannot be had just now, at the next sweep."""
        try:
            self.ledger.settle(held)
        except Unavailable:
            self._unsettled.append(held)

    def sweep(self, now: float) -> None:
        """Give back what dead workers held."""
        if self._ledger is None:
            return
        unsettled, self._unsettled = self._unsettled, []
        for held in unsettled:
            self.settle(held)
        if now > self._reclaim_at:
            self._reclaim_at = now + RECLAIM_SECONDS
            with suppress(Unavailable):
                self._ledger.reclaim()

    def again(self, now: float) -> None:
        """Let those in who waited for a share and have it now."""
        for asker, since in list(self.waiting.items()):
            if asker.over:
                self.waiting.pop(asker, None)
            else:
                self._again(asker, since, now)

    def _again(self, asker: Relay | Beside, since: float, now: float) -> None:
        try:
            snapshot = asker.gateway.snapshot()
            if self.count(asker, snapshot) if isinstance(asker, Beside) else self.admit(asker, snapshot):
                self.waiting.pop(asker, None)
                asker.admitted()
            elif now - since > WAIT_SECONDS:
                raise answers.Throttled(
                    "the limits of this key cannot be checked at present",
                    remedy="try again in a moment",
                    unit="requests",
                )
        except CirandaError as error:
            self.waiting.pop(asker, None)
            asker.refuse(error)

    def close(self) -> None:
        """Leave the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def buckets_of(relay: Relay, snapshot: Snapshot) -> list[Bucket]:
    """Every bound that this request is under."""
    key, model = relay.key, relay.model
    return [
        *of_bounds(f"key:{key.id}", key.bounds),
        *of_bounds(f"tenant:{key.tenant}", snapshot.tenants.get(key.tenant)),
        *of_bounds(f"model:{model.name}", model.bounds),
    ]


def of_bounds(scope: str, bounds: Bounds | None) -> list[Bucket]:
    """The buckets of one key, tenant or model. Money is counted in billionths."""
    if bounds is None:
        return []
    return [
        Bucket(f"{scope}/{name}", kind, round(limit * NANO) if unit == "cost" else int(limit))
        for name, (kind, unit, _) in SHAPES.items()
        if (limit := getattr(bounds, name)) is not None
    ]


def unit_of(bucket: Bucket) -> str:
    """What a bucket counts: requests, tokens, concurrent or cost."""
    return SHAPES[bucket.name.rpartition("/")[2]][1]


def guess_of(body: bytes, path: str, price: Price | None) -> Guess:
    """What a request may use."""
    try:
        allowed = _allowed.decode(body)
    except msgspec.MsgspecError:  # the engine will say what it thinks of such a value
        allowed = Allowed()
    bound = allowed.max_completion_tokens or allowed.max_tokens or allowed.max_output_tokens or ANSWER_TOKENS
    prompt = len(body) // BYTES_PER_TOKEN + 1
    completion = 0 if path.endswith("/embeddings") else max(1, bound) * max(1, allowed.n or 1)
    return Guess(1, 1, prompt + completion, price.nano(prompt, completion) if price else 0)


def refusal(use: Use, wanted: int, uses: Iterable[Use]) -> LimitReached:
    """Why a request is refused, with when to come back."""
    bucket = use.bucket
    scope, _, name = bucket.name.rpartition("/")
    kind, unit, told = SHAPES[name]
    what, _, who = scope.partition(":")
    scale = NANO if unit == "cost" else 1
    figures = f"limit {bucket.limit / scale:g}, used {use.used / scale:g}, requested {wanted / scale:g}"
    reason = f"{told} of the {what} {who!r}: {figures}"
    if kind in ("day", "month"):
        return answers.QuotaExceeded(
            f"you exceeded your current quota, {reason}",
            remedy=f"wait until the {kind} is over, or ask an admin to raise it", after_s=use.again_s,
        )  # fmt: skip
    if wanted > bucket.limit:
        return answers.Throttled(
            f"request too large for {reason}", remedy="send less, or lower max_tokens", unit=unit,
            lines=headers_of(uses), hopeless=True,
        )  # fmt: skip
    return answers.Throttled(
        f"rate limit reached for {reason}", remedy=f"please try again in {span(use.again_s)}", unit=unit, after_s=use.again_s,
        lines=headers_of(uses),
    )  # fmt: skip


def headers_of(uses: Iterable[Use]) -> bytes:
    """`x-ratelimit-*` for requests and tokens: of several bounds, those of the one with the least left."""
    lines = b""
    for kind, unit in (("count", "requests"), ("rate", "tokens")):
        mine = [use for use in uses if use.bucket.kind == kind]
        if mine:
            tightest = min(mine, key=lambda use: use.left)
            lines += (
                f"x-ratelimit-limit-{unit}: {tightest.bucket.limit}\r\n"
                f"x-ratelimit-remaining-{unit}: {tightest.left}\r\n"
                f"x-ratelimit-reset-{unit}: {span(tightest.again_s)}\r\n"
            ).encode()
    return lines


def span(seconds: float) -> str:
    """A time as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
