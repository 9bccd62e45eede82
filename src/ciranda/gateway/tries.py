"""Who answers, first and when that fails: the arm that chance or the user's place chose, its siblings, then the fallbacks.

Nothing here happens after the first byte of an answer has reached the client. Tries are bounded twice: per request by the model's
file, and over all requests by the gateway's stock, so that a dead engine does not double the load of the living. A version whose
replicas are all left out by their circuit is passed over while a fallback can answer; one probe at a time brings it back. What
stood in is recorded under the arm `fallback` and is no evidence in a rollout; each failed try leaves a note under the version that
failed, which must not look healthy because somebody else answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING

from ciranda.errors import CirandaError, Unavailable
from ciranda.gateway import limits, route
from ciranda.gateway.answers import UpstreamFailed, UpstreamSlow
from ciranda.gateway.record import Event, encode
from ciranda.gateway.snapshot import Arm
from ciranda.gateway.upstream import Upstream
from ciranda.interactions.spool import EVENT
from ciranda.store import clock, ids

if TYPE_CHECKING:
    from ciranda.gateway.relay import Relay

RETRIED = frozenset({429, 502, 503, 504})  # answers of an engine that another replica may better
HIDDEN = frozenset({401, 403, 404, 405})  # about the gateway's own request, none of the client's business
FALLEN = RETRIED | HIDDEN | {500}  # answers that a fallback may better


def first(relay: Relay) -> Arm:
    """The arm that a request goes to. Raises Unavailable when nobody is ready."""
    if relay.arm is not None:
        return relay.arm
    record, model = relay.record, relay.model
    if not model.fallbacks:
        return route.choose(model, route.point(record.rollout, record.user or record.conversation))
    now = monotonic()
    try:
        arm = route.choose(model, route.point(record.rollout, record.user or record.conversation))
    except Unavailable:
        if found := next((one for one in model.fallbacks if one.replicas), None):
            return found
        raise
    if any(replica.ready(now) for replica in arm.replicas):
        return arm
    return next((one for one in model.fallbacks if any(replica.ready(now) for replica in one.replicas)), arm)


def better(relay: Relay, status: int) -> bool:
    """Whether an engine's error is passed over for another try, which is then under way."""
    if status not in FALLEN or not _left(relay):
        return False
    fallbacks = () if relay.pinned else relay.model.fallbacks
    arm = _untried(relay, (_arm(relay), *fallbacks) if status in RETRIED else fallbacks)
    if arm is None or not relay.gateway.may_retry():
        return False
    if relay.replica is not None and status in RETRIED:
        relay.replica.failed(decisive=False)
    give_up(relay, f"answered {status}")
    _retry(relay, arm)
    return True


def again(relay: Relay, call: Upstream, reason: str) -> None:
    """The engine died before a byte of its answer reached the client: nobody but the records needs to know."""
    if not call.stale:
        give_up(relay, reason)
    try:
        if not _left(relay) or not relay.gateway.may_retry():
            raise UpstreamFailed(f"{_arm(relay).version} failed: {reason}", remedy="send the request again")
        _retry(relay, _arm(relay) if call.stale else _next_arm(relay, reason), fresh=call.stale)
    except UpstreamFailed as error:
        hold(relay, error, since=relay.replica.failed_at if relay.replica else 0.0)
    except CirandaError as error:
        relay.refuse(error)


def slow(relay: Relay, silent: float) -> bool:
    """Whether a try without a first byte is over; the next one is then under way, or the client knows."""
    bound = relay.model.limits.try_timeout_s
    if silent <= bound or relay.sent_at == 0.0:
        return False
    if relay.replica is not None:
        relay.replica.failed(decisive=False)
    give_up(relay, f"silent for {bound:g} s")
    try:
        if not _left(relay) or not relay.gateway.may_retry():
            raise UpstreamSlow(f"no first byte within {bound:g} s", remedy="send the request again")
        _retry(relay, _next_arm(relay, f"silent for {bound:g} s"))
    except UpstreamFailed:
        relay.refuse(UpstreamSlow(f"no first byte within {bound:g} s", remedy="send the request again"))
    except CirandaError as error:
        relay.refuse(error)
    return True


def hold(relay: Relay, error: CirandaError, *, since: float) -> None:
    """Wait for new routing while what is missing is missing only since a moment; else say so at once."""
    now = relay.waits_since = monotonic()
    relay.held_at = relay.held_at or now
    if not _left(relay) or now - min(since, relay.held_at) > limits.HOLD_SECONDS:
        relay.refuse(error)
    else:
        relay.held = error


def rerouted(relay: Relay) -> None:
    """Try again under new routing, if somebody new is there."""
    try:
        relay.model, relay.arm = route.find(relay.gateway.snapshot(), relay.key, relay.seen.model)
        relay.record.rollout = (
            "" if relay.pinned else relay.model.rollout
        )  # what it is evidence of may have changed too
        relay.arm = first(relay)
        arm = _next_arm(relay, "gone")
        relay.held, now = None, monotonic()
        relay.waited, relay.waits_since = relay.waited + now - relay.waits_since, now
        if relay.sent_at:
            _retry(relay, arm)
        else:
            relay.dispatch(arm)
    except (Unavailable, UpstreamFailed) as error:
        relay.held = error
    except CirandaError as error:
        relay.refuse(error)


def give_up(relay: Relay, reason: str) -> None:
    """Close this try, and leave a note of it: a version whose processes die must not look healthy."""
    relay.drop_call()
    record = relay.record
    if relay.replica is not None:
        relay.tried.append(relay.replica)
    note = Event(
        str(ids.uuid7()), clock.now_ms(), "try_failed", record.id, record.model, record.version, record.arm,
        record.rollout, record.deployment, record.replica, reason,
    )  # fmt: skip
    relay.gateway.try_to_write(EVENT, encode(note))


def _arm(relay: Relay) -> Arm:
    assert relay.arm is not None
    return relay.arm


def _left(relay: Relay) -> bool:
    return relay.record.retry_count + 1 < relay.model.limits.tries


def _next_arm(relay: Relay, reason: str) -> Arm:
    """The same version while it has another replica; else, unless pinned, any that has: a dead process is no verdict."""
    others = () if relay.pinned else chain(relay.model.arms, relay.model.fallbacks)
    arm = _untried(relay, chain((_arm(relay),), others))
    if arm is None:
        raise UpstreamFailed(f"{_arm(relay).version} failed: {reason}", remedy="send the request again in a moment")
    return arm


def _untried(relay: Relay, arms: Iterator[Arm] | tuple[Arm, ...]) -> Arm | None:
    """The first arm with a replica that this request has not been to."""
    now = relay.replica
    for arm in arms:
        if any(one is not now and one not in relay.tried for one in arm.replicas):
            return arm
    return None


def _retry(relay: Relay, arm: Arm, *, fresh: bool = False) -> None:
    relay.record.retry_count += 1
    relay.gateway.metrics.counters["retries"] += 1
    relay.dispatch(arm, fresh=fresh)
