"""The read gate of a connection: whether its peer is read from, and the reasons why not."""

from __future__ import annotations

from typing import Final, Protocol

UNREAD: Final = 1
"""The peer does not read what it is sent, so that its answers would pile up."""
HELD: Final = 2
"""Too many of its publishes wait to be acknowledged."""
DECIDING: Final = 4
"""Its CONNECT is being decided on."""
ASKING: Final = 8
"""A permission it needs is being asked for."""
REFUSING: Final = 16
"""It is about to be disconnected for a publish that was refused."""
STOPPING: Final = 32
"""The broker stops."""


class Readable(Protocol):
    """The part of a transport that a read gate needs."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class ReadGate:
    """Pauses reading while there is any reason to.

    The reasons are the bits of an integer: they are looked at after every read of a connection.
    """

    __slots__ = ("_transport", "reasons", "resumed_at")

    def __init__(self, transport: Readable) -> None:
        self._transport: Readable | None = transport
        self.reasons = 0
        self.resumed_at = 0.0
        """When reading was last resumed."""

    def pause(self, reason: int) -> None:
        """Do not read from the peer until `reason` is gone."""
        if not self.reasons and self._transport is not None:
            self._transport.pause_reading()
        self.reasons |= reason

    def resume(self, reason: int, now: float) -> None:
        """Read from the peer again, unless there are other reasons than `reason` not to."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        if not self.reasons and self._transport is not None:
            self.resumed_at = now
            self._transport.resume_reading()

    def close(self) -> None:
        """Leave the transport alone from now on: it is being closed."""
        self._transport = None
