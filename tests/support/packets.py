"""Encoders of the few MQTT packets that tests and benchmarks send without a client library.

Independent of the broker's own codec on purpose: the two must agree.
"""

from __future__ import annotations

import socket

CONNACK = 0x20
PUBACK = 0x40
SUBACK = 0x90


def connect(client: str, *, version: int = 4, keep_alive: int = 0, clean: bool = True) -> bytes:
    """Encode a CONNECT; `version` is 4 for MQTT 3.1.1 and 5 for MQTT 5."""
    head = b"\x00\x04MQTT" + bytes((version, 0x02 if clean else 0x00)) + keep_alive.to_bytes(2, "big")
    return packet(0x10, head + _no_properties(version) + text(client))


def publish(topic: str, payload: bytes, packet_id: int = 0, *, qos: int = 1, version: int = 4) -> bytes:
    """Encode a PUBLISH; with QoS 0 the packet id is left out."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, text(topic) + number + _no_properties(version) + payload)


def subscribe(topic_filter: str, packet_id: int = 1, *, qos: int = 0, version: int = 4) -> bytes:
    """Encode a SUBSCRIBE to one filter."""
    return packet(0x82, packet_id.to_bytes(2, "big") + _no_properties(version) + text(topic_filter) + bytes([qos]))


def packet(head: int, body: bytes) -> bytes:
    """Encode a packet with its length."""
    return bytes([head]) + varint(len(body)) + body


def text(value: str) -> bytes:
    """Encode a UTF-8 string with its length."""
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def varint(value: int) -> bytes:
    """Encode a variable byte integer."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def read_packet(connection: socket.socket) -> tuple[int, bytes]:
    """Read a packet from a blocking socket: first byte and body. Raises `ConnectionError` at the end."""
    head = _read(connection, 1)[0]
    length = shift = 0
    while True:
        digit = _read(connection, 1)[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return head, _read(connection, length)


def open_connection(port: int, client: str, *, version: int = 4, clean: bool = True) -> tuple[socket.socket, bytes]:
    """Connect a client; return its blocking socket and the CONNACK's body. Raises `ConnectionError` if refused."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(connect(client, version=version, clean=clean))
        head, body = read_packet(connection)
        if head != CONNACK or body[1] != 0:
            raise ConnectionError(f"the server refused the connection: 0x{head:02x} {body.hex()}")
    except BaseException:
        connection.close()
        raise
    return connection, body


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return data


def _no_properties(version: int) -> bytes:
    return b"\x00" if version == 5 else b""
