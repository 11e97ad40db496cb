"""The origin of a client: the listener it came through and the two ends of its network connection."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, Self


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than ``localhost`` counts as reachable from outside."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of_socket(cls, name: Any) -> Self | None:
        """Return the address in a socket name of IPv4 or IPv6 as the operating system gives it; None for any other."""
        return cls(name[0], name[1]) if isinstance(name, (tuple, list)) and len(name) >= 2 else None


@dataclass(frozen=True, slots=True)
class Origin:
    """The place a client comes from. Its listener makes it; access control, hooks and rules read it.

    A listener that knows more of its clients (a certificate, the address behind a proxy, the headers of a WebSocket
    upgrade) has a field with a default here.
    """

    listener: str = ""
    """``type:address`` of the listener; empty for messages of the application's own."""
    peer: Address | None = None
    """The client's end of the network connection; None where the transport has no addresses."""
    socket: Address | None = None
    """The broker's end."""

    @property
    def peername(self) -> str | None:
        """``address:port`` of the client, with IPv6 in brackets."""
        return None if self.peer is None else str(self.peer)

    @property
    def sockname(self) -> str | None:
        """``address:port`` of the broker's end, with IPv6 in brackets."""
        return None if self.socket is None else str(self.socket)


INTERNAL: Final = Origin()
"""The origin of messages that the application publishes itself."""
