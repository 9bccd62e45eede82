"""Which addresses we may call: webhooks and sources must not become a way into the private network.

An address comes from a file that an engineer wrote. Its name is resolved once, every address behind it must be public, and the
caller connects to the address that was checked, since a second look-up could answer otherwise. The operator lifts that for all
(`allow_private_addresses`) or for named hosts (`allow_hosts`) in the settings.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from ciranda.errors import Refused, Unavailable


@dataclass(frozen=True)
class Door:
    """What the operator lets sources call beside public addresses."""

    private: bool = False
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, private: bool, hosts: str) -> Door:
        """From the two settings."""
        return cls(private, frozenset(one.strip().casefold() for one in hosts.split(",") if one.strip()))

    def opens(self, host: str, port: int) -> bool:
        """Whether a private address behind this host is fine."""
        return self.private or bool({host.casefold(), f"{host.casefold()}:{port}"} & self.hosts)


def address_of(host: str, port: int, *, allow_private: bool, where: str) -> str:
    """The address to connect to.

    Raises:
        Refused: one of the addresses behind the name is private.
        Unavailable: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Unavailable(f"{host} has no address: {error}", where=where, remedy="check the name") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    private = [address for address in addresses if not _public(address)]
    if private and not allow_private:
        raise Refused(
            f"{host} is the private address {private[0]}",
            where=where,
            remedy=f'use a public address, or let it through in config.toml: allow_hosts = "{host}:{port}" (sources), '
            "allow_private_addresses = true (all)",
        )
    return addresses[0]


def as_host(address: str) -> str:
    """An address as a URL writes it."""
    return f"[{address}]" if ":" in address else address


def _public(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global and not parsed.is_multicast
