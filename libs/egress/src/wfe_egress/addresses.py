"""Which addresses are inside: the deny list, and the ways an inside address dresses up as an outside one.

`ipaddress.is_global` alone lies for multicast, NAT64, 6to4, v4-compatible and site-local addresses, and
differs between Python versions, so there is a list of our own; an address must pass both.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DENIED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
        "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip

#: Cloud machines answer here with credentials. No allow-list opens these by a network; see `Guard`.
METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192",
                 "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
)  # fmt: skip

_V4_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_V4_COMPATIBLE = ipaddress.ip_network("::/96")
_V4_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_TEREDO = ipaddress.ip_network("2001::/32")
_LAST_32 = 0xFFFFFFFF

# What inet_aton takes for an address: one to four numbers, decimal, octal or hexadecimal.
_NUMBER = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)\Z")


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address carries inside; the address itself when it carries none.

    Knows v4-mapped, v4-compatible, v4-translated, NAT64 (well-known prefix), 6to4 and Teredo.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    number = int(address)
    if address in _V4_COMPATIBLE and number < 2:
        return address
    if any(address in network for network in (_V4_MAPPED, _V4_COMPATIBLE, _V4_TRANSLATED, _NAT64)):
        return ipaddress.IPv4Address(number & _LAST_32)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((number >> 80) & _LAST_32)
    if address in _TEREDO:
        return ipaddress.IPv4Address((number & _LAST_32) ^ _LAST_32)
    return address


def literal(host: str) -> Address | None:
    """The address a host text stands for, in every spelling the system's resolver takes; None for a name.

    0x7f000001, 2130706433, 127.1 and 0177.0.0.1 are all 127.0.0.1. A zone (fe80::1%eth0) is cut off.

    Raises:
        ValueError: It looks like an address and is none, e.g. 1.2.3.256.
    """
    text = host.strip("[]").split("%", 1)[0]
    if ":" in text:
        return ipaddress.IPv6Address(text)
    parts = text.removesuffix(".").split(".")
    if not all(_NUMBER.match(part) for part in parts):
        if _NUMBER.match(parts[-1]):
            raise ValueError(f"{host} is neither a name nor an address")
        return None
    return ipaddress.IPv4Address(_aton(parts))


def _aton(parts: list[str]) -> int:
    numbers = [_number(part) for part in parts]
    limits = [256] * (len(parts) - 1) + [256 ** (5 - len(parts))] if len(parts) <= 4 else []
    if not limits or any(number >= limit for number, limit in zip(numbers, limits, strict=True)):
        raise ValueError(f"{'.'.join(parts)[:64]} is not an address")
    value = numbers[-1]
    for place, number in enumerate(numbers[:-1]):
        value += number << (8 * (3 - place))
    return value


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)


def why_denied(address: Address) -> str | None:
    """Why an address is not on the open internet, as the end of a sentence; None when it is."""
    inner = unwrapped(address)
    if inner != address:
        why = why_denied(inner)
        if why is not None:
            return f"carries {inner}, which {why}"
    if address in METADATA:
        return "is a cloud metadata service"
    if isinstance(address, ipaddress.IPv6Address) and address in _V4_MAPPED:
        return None  # the address that counts is the one inside, and it passed
    for network in DENIED:
        if address.version == network.version and address in network:
            return f"is in {network}, which is not on the open internet"
    if not address.is_global or address.is_multicast or address.is_reserved:
        return "is not on the open internet"
    return None
