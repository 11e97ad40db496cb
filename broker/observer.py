"""The interface through which changes of a session are recorded, by a store on disk for instance."""

from __future__ import annotations

from typing import Protocol

from broker.codec.packets import Will
from broker.hooks import ClientInfo
from broker.receipt import Hold
from broker.subscriber import Delivery, Subscribed


class SessionObserver(Protocol):
    """Receives every change of one session, in order, each directly after it was made.

    The calls are sufficient to rebuild the session. They are made on the event loop, must not block and must not raise.
    An answered `Hold` is done once the change is stored: the publisher's acknowledgement waits for it.
    """

    def attached(self, info: ClientInfo) -> None:
        """A client has opened the session: its expiry interval is that of `info`, and a pending will is cancelled."""

    def detached(self, will: Will | None, disconnected_at: int) -> None:
        """The client has left at `disconnected_at` (milliseconds since 1970); `will` is to be published for it."""

    def expiry_changed(self, expiry_interval: int) -> None:
        """DISCONNECT has changed the session expiry interval."""

    def will_taken(self) -> None:
        """The pending will was taken out to be published."""

    def subscribed(self, subscribed: Subscribed) -> None:
        """A subscription was made, or replaced the one with the same filter."""

    def unsubscribed(self, topic_filter: str) -> None:
        """A subscription has ended."""

    def enqueued(self, delivery: Delivery) -> Hold | None:
        """`delivery` was appended to the queue."""

    def dequeued(self) -> None:
        """The first delivery was taken off the queue: to be sent, or dropped."""

    def sent(self, packet_id: int, delivery: Delivery) -> Hold | None:
        """`delivery` (QoS 1 or 2) was sent and is in flight under `packet_id`."""

    def acknowledged(self, packet_id: int) -> None:
        """PUBACK: a QoS 1 delivery is no longer in flight."""

    def received(self, packet_id: int) -> None:
        """PUBREC: the QoS 2 message has arrived, and only PUBCOMP is waited for."""

    def completed(self, packet_id: int) -> None:
        """A flow has ended otherwise: by PUBCOMP, by a PUBREC with an error, or as too large for the client."""

    def qos2_received(self, packet_id: int) -> Hold | None:
        """A QoS 2 publish of the client was accepted; another one with its id is a duplicate until it is released."""

    def qos2_released(self, packet_id: int) -> None:
        """PUBREL, or the publish was not accepted after all: the id stands for a new message."""
