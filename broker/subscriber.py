"""The interface between routing and the receivers of messages.

The router, share groups and the exchange know receivers by the `Subscriber` protocol alone. A session of this process
(`broker.session.Session`) is one kind; another process or another node that has subscribers of its own can be another.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Struct

from broker.codec.outgoing import OutgoingPublish
from broker.codec.packets import Subscription
from broker.hooks import ClientInfo, RoutedMessage
from broker.receipt import Hold


class Delivery(Struct, frozen=True):
    """One copy of a message for one subscriber: its QoS, retain flag and subscription identifiers."""

    message: RoutedMessage
    qos: int
    retain: bool
    identifiers: tuple[int, ...] = ()


class Subscribed(Struct, frozen=True):
    """A subscription with the Subscription Identifier of its SUBSCRIBE."""

    subscription: Subscription
    identifier: int | None = None


class OfferOutcome(Struct, frozen=True):
    """The result of offering a delivery.

    Without ``sent`` and ``dropped`` the delivery is queued, here or elsewhere. ``dropped`` is the offered delivery, or
    an older one that made room for it, with its ``reason`` (a word of `broker.hooks.DeliveryDropped`). ``hold`` is set
    where the delivery has to be stored or confirmed elsewhere before the publisher may be told that it is safe.
    """

    sent: bool = False
    dropped: Delivery | None = None
    reason: str = ""
    hold: Hold | None = None


SENT: Final = OfferOutcome(sent=True)
QUEUED: Final = OfferOutcome()
"""The two frequent outcomes are compared by identity, which saves an object for each copy of a message."""


class Availability(Enum):
    """Whether a member of a share group can take a message."""

    READY = auto()
    """At once."""
    FULL = auto()
    """It is connected, and the message would have to wait or be dropped."""
    AWAY = auto()
    """It is not connected."""


class Subscriber(Protocol):
    """A receiver of routed messages."""

    @property
    def key(self) -> str:
        """The identity under which subscriptions are kept. That of a session is its client id.

        Others begin with two U+0000: no client id holds one [MQTT-1.5.4-2], and the key of a share group one only.
        """

    @property
    def info(self) -> ClientInfo:
        """The receiver as delivery events name it."""

    def offer(self, delivery: Delivery, outgoing: OutgoingPublish) -> OfferOutcome:
        """Take `delivery`, now or later, or drop it. `outgoing` encodes it for sending at once. Must not raise."""

    def availability(self, qos: int) -> Availability:
        """Return whether a message can be taken that would be delivered with `qos`."""
