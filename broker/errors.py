"""The broker's exception tree.

    BrokerError
    ├── WireError            what a peer sent cannot be accepted: the connection ends with ``reason_code``
    │   ├── MalformedPacket      the bytes are no packet
    │   └── ProtocolError        the packet is well-formed and not allowed here
    │       └── ReceiveMaximumExceeded
    └── InvalidTopic         a topic name or filter breaks the rules of section 4.7

Garbage from the network raises `WireError` and nothing else.
"""

from __future__ import annotations

from typing import Any, Self


class BrokerError(Exception):
    """Everything the broker raises on purpose."""


class WireError(BrokerError):
    """A peer broke the protocol; ``reason_code`` is what a DISCONNECT or CONNACK says of it."""

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
    """The bytes do not form a packet."""

    def __init__(self, message: str, reason_code: int = 0x81) -> None:
        super().__init__(message, reason_code)


class ProtocolError(WireError):
    """A well-formed packet that the specification does not allow here."""

    def __init__(self, message: str, reason_code: int = 0x82) -> None:
        super().__init__(message, reason_code)


class ReceiveMaximumExceeded(ProtocolError):
    """A client has more publishes under way than it may; ``publish`` is the one too many."""

    def __init__(self, publish: Any) -> None:
        super().__init__("more publishes under way than allowed", 0x93)
        self.publish = publish


class InvalidTopic(BrokerError):
    """A topic name or topic filter is not valid."""
