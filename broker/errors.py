"""The broker's exception tree.

    BrokerError
    ├── WireError            a peer violates the protocol: the connection ends with ``reason_code``
    │   ├── MalformedPacket      the bytes do not form a packet
    │   └── ProtocolError        the packet is well-formed and not allowed at this point
    │       └── ReceiveMaximumExceeded
    └── InvalidTopic         a topic name or filter violates section 4.7

Garbage from the network raises `WireError` and nothing else.
"""

from __future__ import annotations

from typing import Any, Self


class BrokerError(Exception):
    """The base of all exceptions of the broker."""


class WireError(BrokerError):
    """A violation of the protocol by a peer. ``reason_code`` is that of the DISCONNECT or CONNACK that answers it."""

    def __init__(self, message: str, reason_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.reason_code = reason_code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, {self.reason_code:#04x})"

    def detach(self) -> Self:
        """Return this error, to be kept, without traceback and cause.

        Their frames refer to the parser and the connection, which refer to the error: such a cycle keeps all that a
        connection has received until the next garbage collection.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class MalformedPacket(WireError):
    """Bytes that do not form a packet."""

    def __init__(self, message: str, reason_code: int = 0x81) -> None:
        super().__init__(message, reason_code)


class ProtocolError(WireError):
    """A well-formed packet that is not allowed at this point."""

    def __init__(self, message: str, reason_code: int = 0x82) -> None:
        super().__init__(message, reason_code)


class ReceiveMaximumExceeded(ProtocolError):
    """More QoS 1 and 2 publishes in flight than the receive maximum allows; ``publish`` is the first beyond it."""

    def __init__(self, publish: Any) -> None:
        super().__init__("more publishes under way than allowed", 0x93)
        self.publish = publish


class InvalidTopic(BrokerError):
    """An invalid topic name or topic filter."""
