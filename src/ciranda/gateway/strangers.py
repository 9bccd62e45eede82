"""Requests from web pages of others: which page may ask, from where the request really comes, and how many a minute pass.

A browser asks first (`OPTIONS`), without a key; it is told yes when some public key names its origin, and the key's own origins
are checked when the request itself comes. Buckets are kept per worker, in memory, for as many addresses as `REMEMBERED`; the
bucket of the whole key bounds those who have more addresses than that. An IPv6 client is its /64, since it has all of it.
Behind a reverse proxy the client is who the proxy says it is, when the proxy's address is one of the setting `proxies`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from time import monotonic

from ciranda.errors import Forbidden, Invalid, LimitReached
from ciranda.gateway.server import Request
from ciranda.gateway.snapshot import Key, Snapshot
from ciranda.govern.public import ANY

REMEMBERED = 20_000
PREFLIGHT_SECONDS = 600
ALLOWED = (
    b"access-control-allow-methods: POST\r\naccess-control-allow-headers: authorization, content-type, idempotency-key\r\n"
    b"access-control-max-age: %d\r\n" % PREFLIGHT_SECONDS
)

Network = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks with commas between them. Raises Invalid."""
    try:
        return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as error:
        raise Invalid(
            f"proxies: {error}", where="setting proxies", remedy="give addresses or networks: 10.0.0.0/8, ::1"
        ) from None


def client_of(request: Request, peer: str, proxies: Sequence[Network]) -> str:
    """The client's address: the peer's, or what the nearest proxies that are ours say it is."""
    address = _address(peer)
    said = request.headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
    while address is not None and any(address in network for network in proxies) and said:
        further = _address(said.pop().strip())
        if further is None:
            break
        address = further
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False).network_address)
    return str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def origin_of(request: Request) -> str:
    """The page's origin as its browser says it; empty for a program."""
    return request.headers.get(b"origin", b"").decode("latin-1").lower()[:300]


def lines(snapshot: Snapshot, request: Request) -> bytes:
    """The header lines that let a page read the answer, when some public key names its origin. Asked for nothing, ever: cookies."""
    origin = origin_of(request)
    if not origin or not (ANY in snapshot.origins or origin in snapshot.origins):
        return b"vary: origin\r\n"
    return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin.encode("latin-1", "replace")


class Turnstile:
    """Lets so many requests of public keys through a minute."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def enter(self, key: Key, origin: str, address: str) -> None:
        """Pass, or raise Forbidden for a foreign page, LimitReached for one request too many."""
        bounds = key.public
        if bounds is None:
            return
        if not bounds.allows(origin):
            shown = repr(origin) if origin else "no origin"
            raise Forbidden(
                f"this key is not for {shown}", remedy="ask an admin for a key that names this page's origin"
            )
        self._take((key.id, address), bounds.per_minute)
        self._take((key.id, ""), bounds.total_per_minute)

    def _take(self, name: tuple[str, str], per_minute: int) -> None:
        now = monotonic()
        left, since = self._buckets.pop(name, (float(per_minute), now))
        left = min(float(per_minute), left + (now - since) * per_minute / 60)
        self._buckets[name] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = ceil((1 - left) * 60 / per_minute)
            raise LimitReached(f"over {per_minute} feedback requests a minute", remedy=f"try again in {wait} s")
