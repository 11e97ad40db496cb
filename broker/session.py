"""The state of one client id that outlives its connection. MQTT 5.0 section 4.1.

Invariants:

- Nothing but the methods of `Session` and of its `ReceivedIds` changes a session; each change is told to its observer.
- A message is in the queue or in flight, never in both. While a message waits in the queue, no QoS 1 or 2 message is
  sent ahead of it [MQTT-4.6.0-6].
- At most ``window`` messages are in flight, but for those that an earlier connection with a larger window has left.
- A packet id in flight is used for no other message [MQTT-2.2.1-4].
- The queue holds at most ``queue_max`` messages; the oldest makes room for the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from broker.codec.outgoing import OutgoingPublish
from broker.codec.packets import Will
from broker.hooks import ClientInfo
from broker.observer import SessionObserver
from broker.qos2 import ReceivedIds
from broker.receipt import Hold
from broker.subscriber import QUEUED, SENT, Availability, Delivery, OfferOutcome, Subscribed

NEVER: Final = 0xFFFFFFFF
"""The session expiry interval that means: no expiry."""
_PACKET_ID_MAX: Final = 65_535
"""Packet identifiers have two bytes, and 0 is not one of them [MQTT-2.2.1-3]."""


class Outlet(Protocol):
    """The connected client of a session, as its senders see it."""

    writable: bool
    """False while too much of what was sent waits unread."""

    def send_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        """Send a PUBLISH, `packet_id` 0 for QoS 0; return False when the client accepts no packet of its size."""


class MessageQueue(Protocol):
    """Messages that wait for one session, first in first out. The default is a deque in memory."""

    def __len__(self) -> int: ...
    def append(self, delivery: Delivery, /) -> None: ...
    def popleft(self) -> Delivery: ...
    def __getitem__(self, index: int, /) -> Delivery: ...


class Session:
    """The session of one client id: subscriptions, queue, messages in flight, packet ids, expiry, will.

    It is a `broker.subscriber.Subscriber`. Of a client's CONNECT it keeps its `ClientInfo` (client id, user name,
    addresses, protocol version, bridge flag, attributes, times), which delivery events and the will of an absent client
    need, and the will; not the password and not the properties, which may have 384 KB.
    """

    __slots__ = (
        "__weakref__", "_expiry_interval", "_in_flight", "_info", "_last_packet_id", "_observer", "_outlet", "_queue",
        "_queue_max", "_store_qos0", "_subscriptions", "_will", "_window", "key", "received",
    )  # fmt: skip

    def __init__(
        self,
        info: ClientInfo,
        *,
        queue: MessageQueue | None = None,
        queue_max: int = 1000,
        store_qos0: bool = True,
        observer: SessionObserver | None = None,
    ) -> None:
        """`queue_max` 0 is no limit; `store_qos0`: QoS 0 messages are queued for an absent client."""
        self.key: Final = info.client_id
        self.received: Final = ReceivedIds(observer)
        self._info = info
        self._observer = observer
        self._expiry_interval = info.session_expiry_interval
        self._subscriptions: dict[str, Subscribed] = {}
        self._in_flight: dict[int, Delivery | None] = {}
        self._queue: MessageQueue = deque() if queue is None else queue
        self._queue_max = queue_max
        self._store_qos0 = store_qos0
        self._window = 0
        self._outlet: Outlet | None = None
        self._will: Will | None = None
        self._last_packet_id = 0

    # Reading

    @property
    def info(self) -> ClientInfo:
        """The client that is connected, or was connected last."""
        return self._info

    @property
    def expiry_interval(self) -> int:
        """Seconds that the session is kept after its client has left."""
        return self._expiry_interval

    @property
    def subscriptions(self) -> Mapping[str, Subscribed]:
        """Subscriptions by their full topic filter (``$share/name/`` included)."""
        return self._subscriptions

    @property
    def in_flight(self) -> Mapping[int, Delivery | None]:
        """Messages sent and not yet acknowledged, oldest first. None: PUBREC was received, PUBCOMP is waited for."""
        return self._in_flight

    @property
    def queue_length(self) -> int:
        """The number of messages that wait to be sent."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether the next message that is queued makes the oldest one be dropped."""
        return 0 < self._queue_max <= len(self._queue)

    def window_left(self, unsent: int = 0) -> int:
        """Return how many more QoS 1 and 2 messages may be sent; `unsent` of those in flight do not count."""
        return self._window + unsent - len(self._in_flight)

    # The client comes and leaves

    def attach(self, info: ClientInfo) -> None:
        """Give the session to a client that was accepted; a pending will is cancelled [MQTT-3.1.3-9]."""
        self._info = info
        self._expiry_interval = info.session_expiry_interval
        self._will = None
        if self._observer is not None:
            self._observer.attached(info)

    def start_sending(self, outlet: Outlet, window: int) -> None:
        """Send to `outlet` from now on, with at most `window` QoS 1 and 2 messages in flight."""
        self._outlet = outlet
        self._window = window

    def detach(self, will: Will | None, now_ms: int) -> None:
        """Take the session from its client, which has left `will` to be published."""
        self._outlet = None
        self._will = will
        if self._observer is not None:
            self._observer.detached(will, now_ms)

    def change_expiry(self, expiry_interval: int) -> None:
        """Keep the session for `expiry_interval` seconds after its client has left."""
        self._expiry_interval = expiry_interval
        if self._observer is not None:
            self._observer.expiry_changed(expiry_interval)

    def take_will(self) -> Will | None:
        """Take out the will that was not published yet."""
        will, self._will = self._will, None
        if will is not None and self._observer is not None:
            self._observer.will_taken()
        return will

    # Subscriptions

    def subscribe(self, subscribed: Subscribed) -> bool:
        """Add or replace a subscription; return whether it is new."""
        topic_filter = subscribed.subscription.topic_filter
        is_new = topic_filter not in self._subscriptions
        self._subscriptions[topic_filter] = subscribed
        if self._observer is not None:
            self._observer.subscribed(subscribed)
        return is_new

    def unsubscribe(self, topic_filter: str) -> Subscribed | None:
        """Remove a subscription and return it; None where there was no such subscription."""
        subscribed = self._subscriptions.pop(topic_filter, None)
        if subscribed is not None and self._observer is not None:
            self._observer.unsubscribed(topic_filter)
        return subscribed

    # Messages to the client

    def offer(self, delivery: Delivery, outgoing: OutgoingPublish) -> OfferOutcome:
        """Send `delivery` at once where window and send buffer have room, else queue or drop it.

        QoS 0 is not queued for a connected client that does not read: it is dropped.
        """
        outlet = self._outlet
        if outlet is None:
            if not delivery.qos and not self._store_qos0:
                return OfferOutcome(dropped=delivery, reason="qos0_msg")
        elif not delivery.qos:
            if not outlet.writable:
                return OfferOutcome(dropped=delivery, reason="queue_full")
            if outlet.send_publish(outgoing, delivery, 0):  # `send` in line: most copies of all are sent here
                return SENT
            return OfferOutcome(dropped=delivery, reason="too_large")
        elif outlet.writable and len(self._in_flight) < self._window and not self._queue:
            return self.send(delivery, outgoing)
        return self.enqueue(delivery)

    def availability(self, qos: int) -> Availability:
        outlet = self._outlet
        if outlet is None:
            return Availability.AWAY
        if outlet.writable and (not qos or (len(self._in_flight) < self._window and not self._queue)):
            return Availability.READY
        return Availability.FULL

    def send(self, delivery: Delivery, outgoing: OutgoingPublish) -> OfferOutcome:
        """Send `delivery` to the connected client, with QoS 1 and 2 under a packet id that is not in flight."""
        outlet = self._outlet
        assert outlet is not None
        if not delivery.qos:
            if outlet.send_publish(outgoing, delivery, 0):
                return SENT
            return OfferOutcome(dropped=delivery, reason="too_large")
        packet_id = self._last_packet_id
        in_flight = self._in_flight
        while True:
            packet_id = packet_id + 1 if packet_id < _PACKET_ID_MAX else 1
            if packet_id not in in_flight:
                break
        if not outlet.send_publish(outgoing, delivery, packet_id):
            return OfferOutcome(dropped=delivery, reason="too_large")
        in_flight[packet_id] = delivery
        self._last_packet_id = packet_id
        if self._observer is not None:
            hold = self._observer.sent(packet_id, delivery)
            if hold is not None:
                return OfferOutcome(sent=True, hold=hold)
        return SENT

    def enqueue(self, delivery: Delivery) -> OfferOutcome:
        """Append `delivery` to the queue, for which the oldest message is dropped where it is full."""
        dropped = self._dequeue() if self.is_full else None
        self._queue.append(delivery)
        hold: Hold | None = None if self._observer is None else self._observer.enqueued(delivery)
        if dropped is None and hold is None:
            return QUEUED
        return OfferOutcome(dropped=dropped, reason="" if dropped is None else "queue_full", hold=hold)

    def next_delivery(self) -> Delivery | None:
        """Take the next queued message that may be sent now: QoS 0 always, others while the window has room."""
        if not self._queue:
            return None
        if self._queue[0].qos and len(self._in_flight) >= self._window:
            return None
        return self._dequeue()

    def acknowledge(self, packet_id: int) -> Delivery | None:
        """Process PUBACK: return the delivered message, None for an id that is not in flight with QoS 1."""
        delivery = self._in_flight.get(packet_id)
        if delivery is None or delivery.qos != 1:
            return None
        del self._in_flight[packet_id]
        if self._observer is not None:
            self._observer.acknowledged(packet_id)
        return delivery

    def receive(self, packet_id: int, *, refused: bool) -> tuple[bool, Delivery | None]:
        """Process PUBREC: return whether the id is known, and the message where this is the first answer to it.

        `refused` (reason code 0x80 and up) ends the flow, otherwise PUBREL is due and PUBCOMP is waited for.
        """
        if packet_id not in self._in_flight:
            return False, None
        delivery = self._in_flight[packet_id]
        if delivery is not None and delivery.qos != 2:
            return False, None
        if refused:
            self.abandon(packet_id)
        else:
            self._in_flight[packet_id] = None
            if self._observer is not None:
                self._observer.received(packet_id)
        return True, delivery

    def complete(self, packet_id: int) -> bool:
        """Process PUBCOMP: return False for an id that no PUBCOMP is waited for."""
        if self._in_flight.get(packet_id, packet_id) is not None:  # an unknown id stands for itself: it is not None
            return False
        self.abandon(packet_id)
        return True

    def abandon(self, packet_id: int) -> None:
        """End the flow of a message in flight without (further) acknowledgement."""
        del self._in_flight[packet_id]
        if self._observer is not None:
            self._observer.completed(packet_id)

    def _dequeue(self) -> Delivery:
        delivery = self._queue.popleft()
        if self._observer is not None:
            self._observer.dequeued()
        return delivery
