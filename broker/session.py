"""What outlives a connection: subscriptions, in-flight windows, packet ids, the queue, expiry. MQTT 5.0 section 4.1.

A session decides and remembers; it sends nothing. Its connected client is its ``outlet``, None while it is away.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from msgspec import Struct

from broker.codec.outgoing import OutgoingPublish
from broker.codec.packets import Subscription, Will
from broker.hooks import ClientInfo, RoutedMessage
from broker.receipt import Hold

NEVER = 0xFFFFFFFF
"""The session expiry interval that has no end."""


class Delivery(Struct, frozen=True):
    """A message on its way to one session: with which QoS, retain flag and subscription identifiers."""

    message: RoutedMessage
    qos: int
    retain: bool
    identifiers: tuple[int, ...] = ()


class Subscribed(Struct, frozen=True):
    """A subscription as the session keeps it."""

    subscription: Subscription
    identifier: int | None = None


class Outlet(Protocol):
    """The connected client of a session, as those who have something to deliver see it."""

    writable: bool
    """False while too much of what was sent waits unread."""

    def send_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        """Send a PUBLISH, `packet_id` 0 for QoS 0; False when the client does not accept packets of its size."""


class MessageQueue(Protocol):
    """Messages waiting for one session, first in first out. The embedded default is memory."""

    def __len__(self) -> int: ...
    def append(self, delivery: Delivery, /) -> None: ...
    def popleft(self) -> Delivery: ...
    def __getitem__(self, index: int, /) -> Delivery: ...


class Session:
    """The state of one client id. `queue` holds at most `queue_max` messages, 0 meaning any number."""

    __slots__ = (
        "__weakref__", "_last_packet_id", "_received", "client_id", "created_at", "disconnected_at",
        "expiry_interval", "in_flight", "info", "outlet", "queue", "queue_max", "store_qos0", "subscriptions", "will",
        "window",
    )  # fmt: skip

    def __init__(
        self, client_id: str, info: ClientInfo, *, queue: MessageQueue | None = None, queue_max: int = 1000,
        store_qos0: bool = True, created_at: int = 0,
    ) -> None:  # fmt: skip
        self.client_id = client_id
        self.info = info
        self.created_at = created_at
        self.disconnected_at: int | None = None
        self.expiry_interval = 0
        self.subscriptions: dict[str, Subscribed] = {}
        self.in_flight: dict[int, Delivery | None] = {}
        """Sent and not yet acknowledged, oldest first. None: PUBREC came, PUBREL went out, PUBCOMP is missing."""
        self._received: dict[int, Hold | None] = {}
        """QoS 2 packet ids received and not yet released, with the hold that their PUBREC waits for."""
        self.queue: MessageQueue = deque() if queue is None else queue
        self.queue_max = queue_max
        self.store_qos0 = store_qos0
        self.window = 0
        self.outlet: Outlet | None = None
        self.will: Will | None = None
        """The will of a client that went away and whose delay has not passed."""
        self._last_packet_id = 0

    @property
    def has_room(self) -> bool:
        """Whether another QoS 1 or 2 message may be sent now, and none waits in front of it."""
        return len(self.in_flight) < self.window and not self.queue

    @property
    def is_full(self) -> bool:
        """Whether the next message that is to wait lets the oldest one go."""
        return 0 < self.queue_max <= len(self.queue)

    def start_flight(self, delivery: Delivery) -> int:
        """Remember `delivery` as sent; returns the packet id to send it with."""
        packet_id = self._last_packet_id
        in_flight = self.in_flight
        while True:
            packet_id = packet_id + 1 if packet_id < 65535 else 1
            if packet_id not in in_flight:
                break
        in_flight[packet_id] = delivery
        self._last_packet_id = packet_id
        return packet_id

    def enqueue(self, delivery: Delivery) -> Delivery | None:
        """Let `delivery` wait; returns what had to make room for it."""
        dropped = None
        if self.is_full:
            dropped = self.queue.popleft()
        self.queue.append(delivery)
        return dropped

    def next_delivery(self) -> Delivery | None:
        """Take the next waiting message that may be sent now: QoS 0 always, others while the window has room."""
        if not self.queue:
            return None
        head = self.queue[0]
        if head.qos and len(self.in_flight) >= self.window:
            return None
        return self.queue.popleft()

    def acknowledge(self, packet_id: int) -> Delivery | None:
        """PUBACK came: the message is delivered. None for an id that is not in flight with QoS 1."""
        delivery = self.in_flight.get(packet_id)
        if delivery is None or delivery.qos != 1:
            return None
        del self.in_flight[packet_id]
        return delivery

    def receive(self, packet_id: int, *, refused: bool) -> tuple[bool, Delivery | None]:
        """PUBREC came. Whether the id is known, and the message where this is the first answer to it.

        `refused` (reason code 0x80 and up) ends the flow, otherwise PUBREL is due and PUBCOMP is waited for.
        """
        if packet_id not in self.in_flight:
            return False, None
        delivery = self.in_flight[packet_id]
        if delivery is not None and delivery.qos != 2:
            return False, None
        if refused:
            del self.in_flight[packet_id]
        else:
            self.in_flight[packet_id] = None
        return True, delivery

    def complete(self, packet_id: int) -> bool:
        """PUBCOMP came; False for an id that waits for none."""
        if self.in_flight.get(packet_id, packet_id) is not None:
            return False
        del self.in_flight[packet_id]
        return True

    # QoS 2 publishes of the client

    @property
    def received_count(self) -> int:
        """The number of QoS 2 publishes that were received and not yet released."""
        return len(self._received)

    def is_duplicate(self, packet_id: int) -> bool:
        """Return whether a QoS 2 publish with this id was received before and not released since.

        A publish whose hold failed was not taken over, so the next one with its id counts as new.
        """
        if packet_id not in self._received:
            return False
        hold = self._received[packet_id]
        return not (hold is not None and hold.done and hold.failed)

    def remember_received(self, packet_id: int, hold: Hold | None) -> None:
        """Remember the id of a QoS 2 publish until it is released; `hold` is the condition of its PUBREC."""
        self._received[packet_id] = hold

    def received_hold(self, packet_id: int) -> Hold | None:
        """Return the hold that the first publish with this id waits for."""
        return self._received.get(packet_id)

    def forget_received(self, packet_id: int, hold: Hold) -> None:
        """Forget an id whose `hold` failed, unless its publish has come again and waits for another hold."""
        if self._received.get(packet_id) is hold:
            del self._received[packet_id]

    def release_received(self, packet_id: int) -> bool:
        """Process PUBREL: from now on the id stands for a new message. Return False where it is not known."""
        if packet_id not in self._received:
            return False
        del self._received[packet_id]
        return True
