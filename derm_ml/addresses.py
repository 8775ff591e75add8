"""Network addresses: which of them only this machine can reach, and how a database is written.

Every server asks before it listens without a token.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine. A name other than `localhost` cannot be told: no."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def database_url(url: str) -> str:
    """A Postgres URL with its driver: what leaves it out is psycopg2's, where SQLAlchemy 2.1 would take psycopg 3.

    Everything else is as it was.
    """
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if separator and scheme in ("postgres", "postgresql") else url
