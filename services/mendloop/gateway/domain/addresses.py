"""Which addresses a webhook may reach: public ones, and those that the configuration names. Resolves nothing."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_REFUSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata at 100.100.100.200
        "168.63.129.16/32",  # a cloud's host agent, on a public address
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible, deprecated
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "100::/64",
        "fec0::/10",
        "fc00::/7",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks of their texts. Raises ValueError for one that is none, naming it."""
    return tuple(ip_network(text) for text in texts)


def may_reach(text: str, *, allowed: Iterable[Network]) -> bool:
    """Whether an address may be connected to. What an IPv6 address carries inside (IPv4-mapped, NAT64) counts.

    Raises ValueError for what is no address.
    """
    address = _plain(ip_address(text.partition("%")[0]))
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_link_local)


def _plain(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address, where one is."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
