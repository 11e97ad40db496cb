"""Addresses of PostgreSQL servers: the form of a `dsn`, its hosts, and their name in messages."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

_HOST = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?")


def is_address(dsn: str) -> bool:
    """Whether `dsn` is well formed. An unescaped / in a password, for one, makes a database name of what follows."""
    try:
        parts = urlsplit(dsn)
        parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    hosts = [_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    are_hosts = all(host is not None and 0 < int(host[1] or 1) < 65536 for host in hosts)
    return parts.scheme in ("postgresql", "postgres") and are_hosts and not parts.fragment and "@" not in parts.path


def server_name(dsn: str | None, host: str | None, port: int | None, database: str | None) -> str:
    """Return the server as messages name it; never with a password."""
    parts = urlsplit(dsn or "")
    hosts = host or parts.netloc.rpartition("@")[2] or "localhost"
    place = hosts if host is None or port is None else f"{hosts}:{port}"
    return f"PostgreSQL at {place}/{database or parts.path.lstrip('/')}".rstrip("/")


def rotated(dsn: str | None, turn: int) -> str | None:
    """Return `dsn` with another of its hosts first in each `turn`: one that hangs takes the whole time of a connect."""
    parts = urlsplit(dsn or "")
    user, at, text = parts.netloc.rpartition("@")
    hosts = text.split(",")
    if len(hosts) == 1:
        return dsn
    first = turn % len(hosts)
    return parts._replace(netloc=f"{user}{at}{','.join(hosts[first:] + hosts[:first])}").geturl()
