"""The codec against the named wire cases: whole, split at every byte, and followed by other packets."""

from __future__ import annotations

import pytest

from broker.codec.packets import Connect, PingReq, Publish, PubRel
from broker.codec.parser import PacketParser
from broker.codec.wire import VARINT_MAX, FieldReader, varint
from broker.errors import MalformedPacket, WireError
from broker.topics import TopicNames
from support.mqtt_packets import MalformedCase, ValidCase, malformed_cases, valid_cases

valid = pytest.mark.parametrize("case", valid_cases(), ids=lambda case: case.name)
malformed = pytest.mark.parametrize("case", malformed_cases(), ids=lambda case: case.name)


def parser_for(case: ValidCase | MalformedCase) -> PacketParser:
    is_connect = isinstance(case, ValidCase) and isinstance(case.packet, Connect)
    return PacketParser(TopicNames(), version=0 if is_connect else case.version)


@valid
def test_packet_decodes(case: ValidCase) -> None:
    """Bytes that the specification describes decode to the packet that it describes."""
    parser = parser_for(case)
    assert parser.feed(case.data).packets == [case.packet]
    assert parser.error is None


@valid
def test_packet_encodes(case: ValidCase) -> None:
    """Packets encode to the bytes of the specification."""
    if not case.decode_only:
        assert case.packet.encode(case.version) == case.data


@valid
def test_packet_decodes_split_at_every_byte(case: ValidCase) -> None:
    """TCP may split the bytes anywhere."""
    for cut in range(1, len(case.data)):
        parser = parser_for(case)
        assert parser.feed(case.data[:cut]).packets == []
        assert parser.feed(case.data[cut:]).packets == [case.packet]
        assert parser.error is None


@valid
def test_packet_decodes_byte_by_byte(case: ValidCase) -> None:
    """The slowest possible sender."""
    parser = parser_for(case)
    packets = [packet for byte in case.data for packet in parser.feed(bytes((byte,))).packets]
    assert packets == [case.packet]


@valid
def test_packet_leaves_the_bytes_behind_it(case: ValidCase) -> None:
    """The end of a packet is exact: the next one is complete, and half of a third waits for its rest."""
    parser = parser_for(case)
    assert parser.feed(case.data + b"\xc0\x00\x62\x02").packets == [case.packet, PingReq()]
    assert parser.feed(b"\x00\x09").packets == [PubRel(9)]


@malformed
def test_malformed_packet_is_refused_with_its_reason(case: MalformedCase) -> None:
    """Each error has its reason code, and no exception but `WireError` is raised."""
    parser = parser_for(case)
    assert parser.feed(case.data).packets == []
    assert isinstance(parser.error, WireError)
    assert parser.error.reason_code == case.code


@malformed
def test_malformed_packet_is_refused_byte_by_byte(case: MalformedCase) -> None:
    """The result is the same in whatever pieces the bytes arrive."""
    parser = parser_for(case)
    assert [packet for byte in case.data for packet in parser.feed(bytes((byte,))).packets] == []
    assert parser.error is not None
    assert parser.error.reason_code == case.code


@malformed
def test_packets_before_a_malformed_one_count(case: MalformedCase) -> None:
    """The packets in front of an error are served, those behind it are not."""
    if case.version == 0:
        return
    good = Publish("t", b"x", 1, packet_id=1)
    parser = parser_for(case)
    assert parser.feed(good.encode(case.version) + case.data + good.encode(case.version)).packets == [good]
    assert parser.error is not None
    assert parser.feed(good.encode(case.version)).packets == []


def test_malformed_publish_is_not_completed_by_the_next_packet() -> None:
    """Fields that are read past a packet's end must not make it valid."""
    parser = PacketParser(TopicNames(), version=4)
    assert parser.feed(bytes.fromhex("32 03 00 01 74") + b"\x00\x01\x02\x03").packets == []
    assert isinstance(parser.error, MalformedPacket)


def test_packet_too_large_is_refused_from_its_header() -> None:
    """No body that will be refused is waited for or stored."""
    parser = PacketParser(TopicNames(), packet_size_max=100, version=4)
    assert parser.feed(b"\x30" + varint(99)).packets == []
    assert parser.error is not None
    assert parser.error.reason_code == 0x95


def test_packet_of_the_largest_size_is_accepted() -> None:
    """The limit is for the whole packet, header included, and is inclusive."""
    packet = Publish("t", b"x" * 95)
    assert len(packet.encode(4)) == 100
    assert PacketParser(TopicNames(), packet_size_max=100, version=4).feed(packet.encode(4)).packets == [packet]


def test_connect_of_100_mb_is_refused_from_its_header() -> None:
    """The first packet of an unknown peer must not cost memory."""
    parser = PacketParser(TopicNames(), connect_size_max=1000)
    assert parser.feed(b"\x10" + varint(100_000_000)).packets == []
    assert parser.error is not None
    assert parser.error.reason_code == 0x95


def test_limit_of_connect_does_not_apply_to_later_packets() -> None:
    """A PUBLISH in the same read as CONNECT may be as large as any other."""
    parser = PacketParser(TopicNames(), packet_size_max=2000, connect_size_max=50)
    large = Publish("t", b"x" * 1000)
    assert parser.feed(Connect("a").encode(4) + large.encode(4)).packets == [Connect("a"), large]


def test_plain_is_true_only_for_new_publishes_without_properties() -> None:
    """The connection skips its checks for such reads, so it must be right about them."""
    parser = PacketParser(TopicNames(), version=5)
    plain = Publish("t", b"x", 1, packet_id=1).encode(5)
    parsed = parser.feed(plain + plain)
    assert len(parsed.packets) == 2
    assert parsed.plain
    assert parsed.size == 2 * len(plain)
    for other in (
        PingReq(),
        Publish("t", b"", 2, packet_id=1),
        Publish("t", b"", 1, dup=True, packet_id=1),
        Publish("t", b"", properties={"topic_alias": 1}),
    ):
        assert not parser.feed(plain + other.encode(5) + plain).plain


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (2_097_152, "80808001"), (VARINT_MAX, "ffffff7f")],
)
def test_variable_byte_integer_has_its_shortest_form(value: int, encoded: str) -> None:
    """[1.5.5-1] At the values where one more byte is needed."""
    raw = bytes.fromhex(encoded)
    assert varint(value) == raw
    assert FieldReader(raw, 0, len(raw)).varint() == value


def test_variable_byte_integer_has_at_most_four_bytes() -> None:
    """A number that does not fit is a bug of the caller and must not be encoded as another number."""
    with pytest.raises(ValueError, match="268435456"):
        varint(VARINT_MAX + 1)
