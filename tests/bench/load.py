"""A publisher that costs less than any server: QoS 1 publishes, encoded beforehand and sent by the window.

Each connection owns a ring of encoded PUBLISH packets of one size. Sending is a slice of that ring, and an
acknowledgement advances the window; no object is created per message. It runs as a process of its own, so that its CPU
is not counted for the server::

    python -m bench.load --port 1883 --connections 50 --messages 400000

prints a JSON object with the acknowledged messages and the time.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import time
from dataclasses import asdict, dataclass

from support.packets import PUBACK, open_connection, publish

PAYLOAD_BYTES = 80
RING_PACKETS = 8192
"""Distinct packets of a connection; also its highest packet id, so no id is in flight twice."""
REST_S = 0.0005


@dataclass(frozen=True)
class Load:
    """The messages to publish. ``topic`` has ``{connection}`` for the number of the connection."""

    port: int
    connections: int = 1
    messages: int = 400_000
    """Of all connections together."""
    window: int = 2000
    """Unacknowledged publishes of one connection."""
    version: int = 4
    """4 is MQTT 3.1.1, 5 is MQTT 5."""
    topic: str = "sensors/bench-{connection}/temp"
    client: str = "bench-{connection}"
    deadline_s: float = 60.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Result of a load; ``cpu_s`` is CPU time of the publisher."""

    acknowledged: int
    refused: int
    seconds: float
    cpu_s: float
    complete: bool


def payload(connection: int, number: int) -> bytes:
    """80 bytes of JSON; even numbers are warm (above 30), so that a rule `payload.temp > 30` passes half."""
    temperature = "41.5" if number % 2 == 0 else "21.5"
    text = f'"device":"bench-{connection:03}","temp":{temperature},"humidity":55.2,"seq":{number:>4},"at":1700000000000'
    return b"{%s}" % text.encode()


def count_acknowledgements(data: bytes) -> tuple[int, int, bytes]:
    """Return the number of PUBACKs in `data`, the number that refuse, and the remaining bytes."""
    for stride in (4, 5, 6):
        whole = len(data) // stride
        if (
            whole
            and data[::stride][:whole] == b"\x40" * whole
            and data[1::stride][:whole] == bytes([stride - 2]) * whole
        ):
            end = whole * stride
            refused = sum(1 for code in data[4:end:stride] if code >= 0x80) if stride > 4 else 0
            return whole, refused, data[end:]
    return _count_one_by_one(data)


def _count_one_by_one(data: bytes) -> tuple[int, int, bytes]:
    count = refused = at = 0
    while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
        length = data[at + 1]
        if data[at] == PUBACK:
            count += 1
            refused += length > 2 and data[at + 4] >= 0x80
        elif data[at] & 0xF0 != 0xD0:
            raise ConnectionError(f"the server sent packet 0x{data[at]:02x}: {data[at : at + 2 + length].hex()}")
        at += 2 + length
    return count, refused, data[at:]


class Publisher:
    """One connection, from CONNECT to the last PUBACK."""

    def __init__(self, load: Load, number: int, messages: int) -> None:
        self.messages = messages
        self.acknowledged = 0
        self.refused = 0
        self._rest = b""
        self._sent_bytes = 0
        self._socket, answer = open_connection(load.port, load.client.format(connection=number), version=load.version)
        self.window = min(load.window, RING_PACKETS, _receive_maximum(answer[3:]) if load.version == 5 else 65535)
        topic = load.topic.format(connection=number)
        ring = [
            publish(topic, payload(number, index), index + 1, version=load.version) for index in range(RING_PACKETS)
        ]
        self._size = len(ring[0])
        self._ring = memoryview(b"".join(ring))
        self._socket.setblocking(False)

    @property
    def done(self) -> bool:
        return self.acknowledged >= self.messages

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self) -> bool:
        """Send as much as the window allows. Return False if the socket's buffer is full."""
        limit = min(self.acknowledged + self.window, self.messages) * self._size
        ring_bytes = len(self._ring)
        while self._sent_bytes < limit:
            start = self._sent_bytes % ring_bytes
            end = min(start + limit - self._sent_bytes, ring_bytes)
            try:
                self._sent_bytes += self._socket.send(self._ring[start:end])
            except BlockingIOError:
                return False
        return True

    def receive(self) -> None:
        """Read and count acknowledgements."""
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        count, refused, self._rest = count_acknowledgements(self._rest + data)
        self.acknowledged += count
        self.refused += refused

    def close(self) -> None:
        self._socket.close()


_PROPERTY_SIZES = {0x11: 4, 0x21: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x22: 2, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2}


def _receive_maximum(properties: bytes) -> int:
    at = 0
    while at < len(properties):
        name = properties[at]
        if name == 0x21:
            return int.from_bytes(properties[at + 1 : at + 3], "big")
        size = _PROPERTY_SIZES.get(name)
        if size is None:
            size = 2 + int.from_bytes(properties[at + 1 : at + 3], "big")
            if name == 0x26:
                size += 2 + int.from_bytes(properties[at + 1 + size : at + 3 + size], "big")
        at += 1 + size
    return 65535


def run(load: Load) -> LoadResult:
    """Publish `load` and wait for the acknowledgements, or for the deadline."""
    share, more = divmod(load.messages, load.connections)
    publishers = [Publisher(load, number, share + (number < more)) for number in range(load.connections)]
    try:
        started, cpu_started = time.monotonic(), time.process_time()
        complete = _pump(publishers, started + load.deadline_s)
        return LoadResult(
            acknowledged=sum(publisher.acknowledged for publisher in publishers),
            refused=sum(publisher.refused for publisher in publishers),
            seconds=time.monotonic() - started,
            cpu_s=time.process_time() - cpu_started,
            complete=complete,
        )
    finally:
        for publisher in publishers:
            publisher.close()


def _pump(publishers: list[Publisher], deadline: float) -> bool:
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for publisher in publishers:
            selector.register(publisher, both, publisher)
        busy = len(publishers)
        rest_s = _rest(publishers)
        while busy and (left := deadline - time.monotonic()) > 0:
            for key, events in selector.select(left):
                publisher = key.data
                if events & selectors.EVENT_READ:
                    publisher.receive()
                if publisher.done:
                    selector.unregister(publisher)
                    busy -= 1
                    continue
                wanted = selectors.EVENT_READ if publisher.send() else both
                if key.events != wanted:
                    selector.modify(publisher, wanted, publisher)
            time.sleep(rest_s)
    return busy == 0


def _rest(publishers: list[Publisher]) -> float:
    """Return the time to wait for more acknowledgements: a wake-up for each would cost the server a context switch.

    It is small compared with the time in which the windows drain, or else 0.
    """
    return REST_S if sum(publisher.window for publisher in publishers) >= RING_PACKETS // 8 else 0.0


def main(arguments: list[str] | None = None) -> int:
    """Run the load of the command line; print its `LoadResult` as JSON."""
    parser = argparse.ArgumentParser(description="Publishes QoS 1 messages as fast as the server takes them.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=Load.connections)
    parser.add_argument("--messages", type=int, default=Load.messages)
    parser.add_argument("--window", type=int, default=Load.window)
    parser.add_argument("--version", type=int, choices=(4, 5), default=Load.version)
    parser.add_argument("--topic", default=Load.topic)
    parser.add_argument("--client", default=Load.client)
    parser.add_argument("--deadline-s", type=float, default=Load.deadline_s)
    outcome = run(Load(**vars(parser.parse_args(arguments))))
    print(json.dumps(asdict(outcome)))
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    sys.exit(main())
