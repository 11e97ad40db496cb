"""The events of one read: the packets of a connected client in order, sorted by what has to be done about them.

Packets that somebody has to decide about are events themselves. Consecutive publishes are put together in `Publishes`.
Packets that need no decision (PINGREQ, the release of a QoS 2 message) come as a `Reply`, which is their answer. An
error is the last event, `Failed`. A SUBSCRIBE or UNSUBSCRIBE separates the publishes before and behind it.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from broker.codec.packets import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
    check_client_disconnect,
)
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.errors import ProtocolError, ReceiveMaximumExceeded, WireError
from broker.qos2 import ReceivedIds

PUBLISH_OVERHEAD = 8
"""Bytes counted for a publish beside its topic and payload: fixed header, topic length, packet id."""


class Publishes(Struct):
    """Consecutive publishes of one read. ``fresh`` are handed on, ``answers`` are acknowledged.

    Both are the same list unless there are QoS 2 duplicates, which are only acknowledged. ``size`` is in bytes.
    """

    fresh: list[Publish]
    answers: list[Publish]
    new_ids: dict[int, None] | None
    """QoS 2 packet ids among ``fresh`` that no PUBREL of the same read released; None where no publish has QoS 2."""
    size: int
    refused: dict[int, int] = {}
    """QoS 2 publishes of the same read that were refused: reason codes by packet id, for duplicates of them."""


class Failed(Struct):
    """The peer broke the protocol; nothing more comes from it."""

    error: WireError


class Reply(Struct):
    """An answer that needs no decision, to be sent in its turn."""

    packet: PingResp | PubComp


Event = Reply | Connect | Publishes | PubAck | PubRec | PubComp | Subscribe | Unsubscribe | Disconnect | Failed


class HeldIds(Protocol):
    """The part of `broker.held.HeldAcks` that sorting asks."""

    def held_ids(self) -> set[int]:
        """Return the packet ids of the QoS 1 publishes that wait for their PUBACK."""


class Read:
    """One read of a connected client while its packets are sorted. Lives as long as the call that sorts it.

    `aliases` are the connection's topic aliases. `room` is the number of QoS 1 and 2 publishes that the client may have
    under way beside those that the session remembers; `held` knows which QoS 1 publishes wait for their PUBACK.
    The session is read and released (PUBREL), but new ids are only noted in the events: they are remembered together
    with the receipt of their publish, so that a failure on the way to it leaves nothing behind.
    """

    __slots__ = (
        "_aliases", "_config", "_held", "_held_ids", "_new_ids", "_received", "_refused", "_room", "_run", "_under_way",
        "events",
    )  # fmt: skip

    def __init__(
        self, config: BrokerConfig, received: ReceivedIds, aliases: dict[int, str], room: int, held: HeldIds
    ) -> None:
        self.events: list[Event] = []
        self._config = config
        self._received = received
        self._aliases = aliases
        self._room = room
        self._held = held
        self._held_ids: set[int] | None = None
        self._run: Publishes | None = None
        self._new_ids: dict[int, Publishes] = {}
        """QoS 2 ids that came for the first time in this read and were not released since, with their run."""
        self._under_way = 0
        self._refused: dict[int, int] = {}

    def sort(self, packets: list[Packet]) -> None:
        """Turn `packets` into ``events``. Raises `WireError` behind the events of those in front of the wrong one."""
        append = self.events.append
        for packet in packets:
            kind = type(packet)
            if kind is Publish:
                self._take_publish(packet)  # type: ignore[arg-type]
            elif kind is PubAck or kind is PubRec or kind is PubComp:
                append(packet)  # type: ignore[arg-type]
            elif kind is PubRel:
                append(Reply(self._release(packet.packet_id)))  # type: ignore[union-attr]
            elif kind is PingReq:
                append(Reply(PingResp()))
            elif kind is Subscribe or kind is Unsubscribe:
                self._run = None
                append(packet)  # type: ignore[arg-type]
            elif kind is Disconnect:
                check_client_disconnect(packet)  # type: ignore[arg-type]
                append(packet)  # type: ignore[arg-type]
                return
            else:
                raise _unexpected(packet)

    def _take_publish(self, publish: Publish) -> None:
        if publish.properties:
            self._take_properties(publish)
        if publish.retain and not self._config.retain_available:
            raise ProtocolError("retained messages are not available", Reason.RETAIN_NOT_SUPPORTED)
        qos = publish.qos
        run = self._run
        if run is None:
            publishes: list[Publish] = []
            run = self._run = Publishes(publishes, publishes, None, 0, self._refused)
            self.events.append(run)
        if qos == 2 and self._is_duplicate(publish.packet_id):
            self._add_answer(run, publish)
            return
        if qos == 1 and publish.dup and self._is_held(publish.packet_id):
            return  # its acknowledgement is on the way: handing it on again would only make a duplicate
        if qos == 2:
            self._received.release(publish.packet_id)  # known and yet new: its hold failed, and it must count once
        if qos:
            self._under_way += 1
            if self._under_way > self._room - len(self._received):
                raise ReceiveMaximumExceeded(publish)  # [MQTT-3.3.4-7]
        if qos == 2:
            if run.new_ids is None:
                run.new_ids = {}
            run.new_ids[publish.packet_id] = None
            self._new_ids[publish.packet_id] = run
        run.fresh.append(publish)
        run.size += len(publish.topic) + len(publish.payload) + PUBLISH_OVERHEAD
        # One list serves as both until the first duplicate comes; the hot path never makes a second one.
        if run.answers is not run.fresh:
            run.answers.append(publish)

    def _add_answer(self, run: Publishes, duplicate: Publish) -> None:
        """Have a QoS 2 duplicate acknowledged and not handed on."""
        if run.answers is run.fresh:
            run.answers = run.fresh.copy()
        if run.new_ids is None:
            run.new_ids = {}
        run.answers.append(duplicate)

    def _is_duplicate(self, packet_id: int) -> bool:
        return packet_id in self._new_ids or self._received.is_duplicate(packet_id)

    def _is_held(self, packet_id: int) -> bool:
        if self._held_ids is None:
            self._held_ids = self._held.held_ids()
        return packet_id in self._held_ids

    def _release(self, packet_id: int) -> PubComp:
        """The peer is done with a QoS 2 id: from now on it stands for a new message."""
        run = self._new_ids.pop(packet_id, None)
        if run is not None and run.new_ids is not None:
            del run.new_ids[packet_id]
            self._under_way -= 1
        elif not self._received.release(packet_id):
            return PubComp(packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND)
        return PubComp(packet_id)

    def _take_properties(self, publish: Publish) -> None:
        properties = publish.properties
        assert properties is not None
        if "subscription_identifier" in properties:
            raise ProtocolError("a client's PUBLISH with a subscription identifier")  # [MQTT-3.3.4-6]
        alias = properties.pop("topic_alias", None)
        if alias is not None:
            self._resolve_alias(publish, alias)
            publish.properties = properties or None

    def _resolve_alias(self, publish: Publish, alias: int) -> None:
        if alias > self._config.max_topic_alias:
            raise ProtocolError(f"topic alias {alias} is above the maximum", Reason.TOPIC_ALIAS_INVALID)
        if publish.topic:
            self._aliases[alias] = publish.topic
            return
        topic = self._aliases.get(alias)
        if topic is None:
            raise ProtocolError(f"topic alias {alias} is not known")
        publish.topic = topic


def _unexpected(packet: Packet) -> ProtocolError:
    if isinstance(packet, Auth):
        return ProtocolError("AUTH without an authentication method")  # [MQTT-4.12.0-6]
    return ProtocolError(f"{type(packet).__name__.upper()} from a client")
