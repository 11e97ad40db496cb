"""The liveness of a peer: its keep-alive interval, and whether it reads what it is sent."""

from __future__ import annotations

from math import inf
from typing import Protocol

from broker.config import BrokerConfig
from broker.connection import Connection
from broker.readgate import ReadGate


class Unsent(Protocol):
    """The part of a transport that tells how much the peer has not read yet."""

    def get_write_buffer_size(self) -> int: ...


class Liveness:
    """The deadlines of a connected client; `broker.deadlines` says when to look at them again."""

    __slots__ = ("_connection", "_gate", "_multiplier", "_send_timeout", "_stalled_at", "_stalled_bytes", "_transport")

    def __init__(self, config: BrokerConfig, connection: Connection, gate: ReadGate, transport: Unsent) -> None:
        self._multiplier = config.keepalive_multiplier
        self._send_timeout = config.send_timeout
        self._connection = connection
        self._gate = gate
        self._transport = transport
        self._stalled_at: float | None = None
        self._stalled_bytes = 0

    def stall(self, now: float) -> None:
        """Note that the send buffer is full."""
        self._stalled_at = now
        self._stalled_bytes = self._transport.get_write_buffer_size()

    def unstall(self) -> None:
        """Note that the peer has read enough of the send buffer."""
        self._stalled_at = None

    def next_deadline(self, now: float) -> float:
        """Return when to check again; infinity where nothing can expire."""
        return min(self._keep_alive_end(now), self._stall_end())

    def has_stopped_reading(self, now: float) -> bool:
        """Return whether the peer has read nothing at all for as long as it may; any progress starts the time anew."""
        if self._stall_end() > now:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._stalled_bytes:
            self._stalled_at, self._stalled_bytes = now, unsent
            return False
        return True

    def is_silent(self, now: float) -> bool:
        """Return whether the peer has sent nothing for longer than its keep-alive interval allows [MQTT-3.1.2-22]."""
        return self._keep_alive_end(now) <= now

    def _keep_alive_end(self, now: float) -> float:
        connection, gate = self._connection, self._gate
        if not connection.keep_alive:
            return inf
        # A peer that is not read from may have sent any number of PINGREQs: its time starts when it is read from again.
        last = now if gate.reasons else max(connection.last_received, gate.resumed_at)
        return last + connection.keep_alive * self._multiplier

    def _stall_end(self) -> float:
        return inf if self._stalled_at is None else self._stalled_at + self._send_timeout
