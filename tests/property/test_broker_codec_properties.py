"""The codec with any packets, split anywhere, and with any other bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.codec.acks import encode_acks
from broker.codec.packets import (
    Auth,
    ConnAck,
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
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.codec.parser import PacketParser
from broker.codec.properties import PROPERTIES
from broker.errors import MalformedPacket, ProtocolError
from broker.topics import TopicNames
from support.mqtt_packets import malformed_cases, valid_cases

text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
names = st.text(st.characters(exclude_characters="\0+#", codec="utf-8"), min_size=1, max_size=12)
data = st.binary(max_size=40)
packet_ids = st.integers(1, 65535)
qos = st.integers(0, 2)
u16 = st.integers(0, 65535)
u32 = st.integers(0, 2**32 - 1)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "payload_format_indicator": st.integers(0, 1),
    "message_expiry_interval": u32,
    "content_type": text,
    "response_topic": names,
    "correlation_data": data,
    "subscription_identifier": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3),
    "session_expiry_interval": u32,
    "assigned_client_identifier": text,
    "server_keep_alive": u16,
    "authentication_method": text,
    "authentication_data": data,
    "request_problem_information": st.integers(0, 1),
    "will_delay_interval": u32,
    "request_response_information": st.integers(0, 1),
    "response_information": text,
    "server_reference": text,
    "reason_string": text,
    "receive_maximum": st.integers(1, 65535),
    "topic_alias_maximum": u16,
    "topic_alias": st.integers(1, 65535),
    "maximum_qos": st.integers(0, 1),
    "retain_available": st.integers(0, 1),
    "user_property": st.lists(st.tuples(text, text), min_size=1, max_size=3),
    "maximum_packet_size": st.integers(1, 2**32 - 1),
    "wildcard_subscription_available": st.integers(0, 1),
    "subscription_identifier_available": st.integers(0, 1),
    "shared_subscription_available": st.integers(0, 1),
}


def properties(packet: str, version: int) -> st.SearchStrategy[dict[str, Any] | None]:
    """Any properties that `packet` may have; {} before MQTT 5."""
    if version < 5:
        return st.none()
    allowed = {entry.name: VALUES[entry.name] for entry in PROPERTIES if packet in entry.packets}
    if packet == "subscribe":
        allowed["subscription_identifier"] = st.lists(st.integers(1, 268_435_455), min_size=1, max_size=1)
    return st.fixed_dictionaries({}, optional=allowed).map(lambda found: _with_method(found) or None)


def _with_method(found: dict[str, Any]) -> dict[str, Any]:
    if "authentication_data" in found:
        found.setdefault("authentication_method", "m")
    return found


def wills(version: int) -> st.SearchStrategy[Will]:
    return st.builds(Will, names, data, qos, st.booleans(), properties("will", version))


@st.composite
def connects(draw: st.DrawFn, version: int) -> Connect:
    username = draw(st.none() | text)
    password = draw(st.none() | data) if version == 5 or username is not None else None
    return Connect(
        draw(text), draw(st.booleans()), draw(u16), username, password, draw(st.none() | wills(version)),
        draw(properties("connect", version)), version, draw(st.booleans()),
    )  # fmt: skip


@st.composite
def publishes(draw: st.DrawFn, version: int) -> Publish:
    quality = draw(qos)
    return Publish(
        draw(names), draw(data), quality, draw(st.booleans()), bool(quality) and draw(st.booleans()),
        draw(packet_ids) if quality else 0, draw(properties("publish", version)),
    )  # fmt: skip


def subscriptions(version: int) -> st.SearchStrategy[Subscription]:
    if version < 5:
        return st.builds(Subscription, text, qos)
    return st.builds(Subscription, text, qos, st.booleans(), st.booleans(), st.integers(0, 2))


def acks(kind: Any, name: str, version: int) -> st.SearchStrategy[Any]:
    if version < 5:
        return st.builds(kind, packet_ids)
    return st.builds(kind, packet_ids, st.sampled_from(sorted(kind.REASONS)), properties(name, version))


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Any packet but CONNECT."""
    codes = st.lists(st.integers(0, 255), min_size=1, max_size=4)
    kinds = [
        publishes(version),
        acks(PubAck, "puback", version),
        acks(PubRec, "pubrec", version),
        acks(PubRel, "pubrel", version),
        acks(PubComp, "pubcomp", version),
        st.builds(
            Subscribe, packet_ids, st.lists(subscriptions(version), min_size=1, max_size=3),
            properties("subscribe", version),
        ),
        st.builds(
            Unsubscribe,
            packet_ids,
            st.lists(text.filter(bool), min_size=1, max_size=3),
            properties("unsubscribe", version),
        ),
        st.builds(UnsubAck, packet_ids, codes if version == 5 else st.just([]), properties("unsuback", version)),
        st.just(PingReq()),
        st.just(PingResp()),
    ]  # fmt: skip
    if version == 5:
        kinds += [
            st.builds(SubAck, packet_ids, codes, properties("suback", version)),
            st.builds(ConnAck, st.booleans(), st.integers(0, 255), properties("connack", version)),
            st.builds(Disconnect, st.integers(0, 255), properties("disconnect", version)),
            st.builds(Auth, st.sampled_from((0, 0x18, 0x19)), properties("auth", version)),
        ]
    return st.one_of(kinds)


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[Packet]]:
    """Input of a client: CONNECT and arbitrary bytes after it."""
    version = draw(st.sampled_from((3, 4, 5)))
    return version, [draw(connects(version)), *draw(st.lists(packets(version), max_size=8))]


def feed_in_pieces(parser: PacketParser, raw: bytes, cuts: list[int]) -> list[Packet]:
    found: list[Packet] = []
    borders = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, stop in pairwise(borders):
        found += parser.feed(raw[start:stop]).packets
    return found


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 10_000), max_size=12))
def test_packets_are_parsed_alike_however_they_are_split(stream: tuple[int, list[Packet]], cuts: list[int]) -> None:
    """Decoding inverts encoding, wherever TCP splits the bytes."""
    version, sent = stream
    parser = PacketParser(TopicNames())
    assert feed_in_pieces(parser, b"".join(packet.encode(version) for packet in sent), cuts) == sent
    assert parser.error is None


KNOWN = [case.data for case in valid_cases()] + [case.data for case in malformed_cases()]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from((0, 4, 5)),
    st.lists(st.sampled_from(KNOWN) | st.binary(max_size=20), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_any_bytes_are_parsed_or_refused(
    version: int, pieces: list[bytes], damage: list[tuple[int, int]], cuts: list[int]
) -> None:
    """The result is packets, an incomplete rest, or a documented error; no other exception is raised."""
    raw = bytearray(b"".join(pieces))
    for position, value in damage:
        if raw:
            raw[position % len(raw)] = value
    parser = PacketParser(TopicNames(), packet_size_max=10_000, version=version)
    whole = PacketParser(TopicNames(), packet_size_max=10_000, version=version)
    in_pieces = feed_in_pieces(parser, bytes(raw), cuts)
    assert isinstance(parser.error, MalformedPacket | ProtocolError | None)
    assert whole.feed(bytes(raw)).packets == in_pieces
    assert repr(whole.error) == repr(parser.error)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(qos, packet_ids, st.sampled_from((0, 0x10, 0x87, 0x97))), max_size=20),
    st.sampled_from((4, 5)),
)
def test_encoding_acknowledgements_together_equals_encoding_each(
    answers: list[tuple[int, int, int]], version: int
) -> None:
    """The fast encoder of many acknowledgements writes the same bytes as one packet after the other."""
    received = [Publish("t", b"", quality, packet_id=packet_id) for quality, packet_id, _ in answers]
    codes = bytes(code for *_, code in answers)
    expected = [
        (PubAck if publish.qos == 1 else PubRec)(publish.packet_id, code if version == 5 else 0)
        for publish, code in zip(received, codes, strict=True)
        if publish.qos
    ]
    assert PacketParser(TopicNames(), version=version).feed(encode_acks(received, codes, version)).packets == expected
