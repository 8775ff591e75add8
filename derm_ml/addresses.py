"""Which network addresses only this machine can reach: every server asks before it listens without a token."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine. A name other than `localhost` cannot be told: no."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
