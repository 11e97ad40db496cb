"""Publishers based on client libraries; each keeps a ledger of acknowledged messages.

A `PahoPublisher` continues after a lost connection: paho sends unacknowledged messages again, in order, as MQTT
requires. It runs its client in one thread without paho's own, which races new publishes with the re-sending and so
breaks the order before the server sees it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import aiomqtt
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from support.ledger import Ledger, temperature
from support.wait import wait_until

Port = Callable[[], int]
"""Returns the server's current port; raises `ConnectionError` while it is not running."""


def payload(client: str, number: int) -> bytes:
    """Return the JSON of one message."""
    return json.dumps({"device": client, "seq": number, "temp": temperature(number)}).encode()


class PahoPublisher:
    """One paho client that publishes numbered messages on ``sensors/<client>/temp`` until all are acknowledged."""

    def __init__(
        self,
        client_id: str,
        port: Port,
        messages: int,
        *,
        qos: int = 1,
        window: int = 200,
        version: int = MQTTProtocolVersion.MQTTv311,
        rate: float | None = None,
        deadline_s: float = 120.0,
        body: Callable[[str, int], bytes] = payload,
    ) -> None:
        self.ledger = Ledger(client_id)
        self.error: BaseException | None = None
        self.reconnects = -1
        self._port = port
        self._messages = messages
        self._qos = qos
        self._window = window
        self._rate = rate
        self._deadline_s = deadline_s
        self._body = body
        self._topic = f"sensors/{client_id}/temp"
        self._in_flight: dict[int, int] = {}
        self._again: list[int] = []
        self._is_connected = False
        self._is_cancelled = False
        self._thread = threading.Thread(target=self._run, name=client_id, daemon=True)
        self._client = self._make_client(client_id, version)

    def _make_client(self, client_id: str, version: int) -> Client:
        clean = None if version == MQTTProtocolVersion.MQTTv5 else False
        client = Client(CallbackAPIVersion.VERSION2, client_id, clean, protocol=MQTTProtocolVersion(version))
        client.max_inflight_messages_set(self._window)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def start(self) -> PahoPublisher:
        """Start in the background."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Stop publishing; messages in flight are still waited for."""
        self._is_cancelled = True

    def join(self) -> Ledger:
        """Wait until all messages are acknowledged and return the ledger. Raises the error of the publisher."""
        self._thread.join(self._deadline_s + 10)
        if self.error is not None:
            raise self.error
        return self.ledger

    def _run(self) -> None:
        try:
            self._publish_all()
        except BaseException as error:
            self.error = error

    def _publish_all(self) -> None:
        started = time.monotonic()
        while not self._is_done():
            if time.monotonic() > started + self._deadline_s:
                raise AssertionError(f"{self.ledger.client} waits for {len(self._in_flight)} acknowledgements")
            if not self._is_connected:
                self._connect()
            elif not self._publish_some(started):
                self._loop(0.01)
            else:
                self._loop(0)
        self._client.disconnect()

    def _is_done(self) -> bool:
        return (self._is_cancelled or self.ledger.published >= self._messages) and not (self._in_flight or self._again)

    def _connect(self) -> None:
        """Connect and wait for the CONNACK, on which paho sends again what was not acknowledged."""
        try:
            self._client.connect("127.0.0.1", self._port(), keepalive=30)
        except OSError:
            time.sleep(0.05)
            return
        self.reconnects += 1
        for _ in range(500):
            if self._is_connected or self._client.loop(0.01) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _publish_some(self, started: float) -> bool:
        """Fill the window, as the rate allows; return whether anything was sent."""
        room = self._window - len(self._in_flight)
        left = self._messages - self.ledger.published
        if self._rate is not None:
            left = min(left, int((time.monotonic() - started) * self._rate) - self.ledger.published)
        count = 0 if self._is_cancelled else min(room, left, 50)
        for _ in range(count):
            self._publish(self.ledger.published)
            self.ledger.published += 1
        while self._again and len(self._in_flight) < self._window:
            self._publish(self._again.pop(0))
        return count > 0

    def _publish(self, number: int) -> None:
        info = self._client.publish(self._topic, self._body(self.ledger.client, number), self._qos)
        if self._qos:
            self._in_flight[info.mid] = number
        else:
            # QoS 0 is not acknowledged; data written before an orderly close arrives.
            self.ledger.acknowledged.add(number)

    def _loop(self, timeout_s: float) -> None:
        if self._client.loop(timeout_s) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._is_connected = False

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            raise ConnectionError(f"the server refused the connection: {reason}")
        self._is_connected = True
        self._window = min(self._window, getattr(properties, "ReceiveMaximum", self._window))

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._is_connected = False

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        number = self._in_flight.pop(mid, None)
        if number is None:
            return
        if reason.is_failure:
            self.ledger.refused.append(number)
            self._again.append(number)
        else:
            self.ledger.acknowledged.add(number)


def publish_with_paho(
    port: Port, clients: int, messages: int, *, prefix: str = "paho", **options: Any
) -> list[PahoPublisher]:
    """Start `clients` publishers of `messages` each."""
    return [PahoPublisher(f"{prefix}-{number}", port, messages, **options).start() for number in range(clients)]


def acknowledged(publishers: list[PahoPublisher]) -> int:
    """Return the number of acknowledged messages. Raises the error of a publisher."""
    for publisher in publishers:
        if publisher.error is not None:
            raise publisher.error
    return sum(len(publisher.ledger.acknowledged) for publisher in publishers)


def wait_for_acknowledged(publishers: list[PahoPublisher], count: int, deadline_s: float = 120.0) -> None:
    """Wait until this many messages are acknowledged, with others in flight."""
    wait_until(lambda: acknowledged(publishers) >= count, deadline_s, f"{count} are acknowledged", pause_s=0.001)


def ledgers(publishers: list[PahoPublisher]) -> list[Ledger]:
    """Wait for all publishers and return their ledgers."""
    return [publisher.join() for publisher in publishers]


async def publish_with_aiomqtt(port: int, client_id: str, messages: int, *, qos: int = 1, window: int = 10) -> Ledger:
    """Publish numbered messages with aiomqtt, a window at a time, in order."""
    ledger = Ledger(client_id)
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier=client_id, max_inflight_messages=window, max_concurrent_outgoing_calls=window
    ) as client:
        while ledger.published < messages:
            numbers = range(ledger.published, min(ledger.published + window, messages))
            ledger.published = numbers.stop
            topic = f"sensors/{client_id}/temp"
            await asyncio.gather(*[client.publish(topic, payload(client_id, n), qos, timeout=30) for n in numbers])
            ledger.acknowledged.update(numbers)
    return ledger
