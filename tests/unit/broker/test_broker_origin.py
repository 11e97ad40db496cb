"""The origin of clients and the addresses in it."""

from __future__ import annotations

import pytest

from broker.origin import INTERNAL, Address, Origin


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 40000), "192.0.2.1:40000"),
        (("2001:db8::1", 40000, 0, 0), "[2001:db8::1]:40000"),
        ("/run/broker.sock", None),
        ("", None),
        (None, None),
    ],
)
def test_socket_names_become_addresses_where_they_hold_one(name: object, address: str | None) -> None:
    """A Unix socket has a path or nothing for a name, and its clients have no address."""
    found = Address.of_socket(name)
    assert (None if found is None else str(found)) == address


def test_origin_shows_both_ends() -> None:
    """Rules and events have them as text."""
    origin = Origin("tcp:[::1]:1883", Address("::1", 5), Address("::1", 1883))
    assert (origin.peername, origin.sockname) == ("[::1]:5", "[::1]:1883")
    assert (INTERNAL.peername, INTERNAL.sockname) == (None, None)
