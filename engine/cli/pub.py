"""``headgate pub``: publish messages."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from engine.cli.mqtt import (
    ClientIdOption,
    ClientOptions,
    HostOption,
    MqttClient,
    PasswordOption,
    PortOption,
    QosOption,
    UserOption,
    VersionOption,
    check_text,
)
from engine.cli.report import EXIT_UNREACHABLE, EXIT_USAGE, CommandError

IN_FLIGHT_MAX = 100
HEAD_BYTES_MAX = 10
"""Bytes of a PUBLISH beside topic and payload: fixed header, length of the topic, packet id, no properties."""
PROGRESS_TIMEOUT_S = 30.0
"""Longest wait for any acknowledgement, in seconds."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pub")(pub)


def pub(
    topic: str = typer.Option(..., "--topic", "-t", help="The topic."),
    message: str = typer.Option(None, "--message", "-m", help="The payload."),
    lines: bool = typer.Option(False, "--lines", "-l", help="One message for each line of standard input."),
    file: Path = typer.Option(None, "--file", "-f", help="A file whose content is the payload."),
    null: bool = typer.Option(False, "--null", "-n", help="An empty payload; with -r it clears a retained message."),
    qos: int = QosOption,
    retain: bool = typer.Option(
        False, "--retain", "-r", help="Let the broker retain the message for later subscribers."
    ),
    host: str = HostOption,
    port: int = PortOption,
    client_id: str = ClientIdOption,
    username: str = UserOption,
    password: str = PasswordOption,
    version: str = VersionOption,
) -> None:
    """Publish messages. With QoS 1 and 2 the command ends when all are acknowledged.

    Exits with 1 if a message is refused, and with 3 if the broker is not reachable.

    Examples:

      headgate pub -t sensors/kitchen/climate -m '{"temp": 31.5}'

      headgate pub -t lamp/1 -m on -q 1 -r

      cat readings.jsonl | headgate pub -t sensors/all -l -q 1

      headgate pub -h broker.example -p 1884 -V 311 -t a/b -n
    """
    given = [message is not None, lines, file is not None, null]
    if sum(given) != 1:
        raise CommandError("give the payload with one of -m, -l, -f and -n", exit_code=EXIT_USAGE)
    if not topic or "+" in topic or "#" in topic:
        raise CommandError(
            f"{topic!r} is not a topic name: it must not be empty and has no wildcards", exit_code=EXIT_USAGE
        )
    check_text(topic, "the topic")
    payloads = _lines() if lines else iter([_payload(message, file)])
    client = MqttClient(ClientOptions(host, port, client_id, username, password, version))
    publisher = Publisher(client)
    client.connect()
    try:
        publisher.publish_all(topic, payloads, qos, retain)
    finally:
        client.close()


class Publisher:
    """Publishes with a bounded number of messages in flight. To be created before the client connects."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self._mqtt = client.mqtt
        self._closed: str | None = None
        self._room = threading.Semaphore(IN_FLIGHT_MAX)
        self._refused: list[str] = []
        self._mqtt.max_inflight_messages_set(IN_FLIGHT_MAX)
        self._mqtt.on_publish = self._on_publish
        client.on_closed = self._on_closed

    def publish_all(self, topic: str, payloads: Iterator[bytes], qos: int, retain: bool) -> None:
        """Publish all payloads. Raises `CommandError` if one is refused or acknowledgements stop."""
        for payload in payloads:
            if self._is_too_large(topic, payload):
                self._refused.append(f"larger than the {self._client.packet_bytes_max:,} bytes that the broker takes")
                continue
            self._take_room()
            self._mqtt.publish(topic, payload, qos, retain)
        for _ in range(IN_FLIGHT_MAX):
            self._take_room()
        if self._refused:
            reasons = ", ".join(sorted(set(self._refused)))
            raise CommandError(f"{len(self._refused)} refused: {reasons}")

    def _take_room(self) -> None:
        if not self._room.acquire(timeout=PROGRESS_TIMEOUT_S):
            message = f"nothing was acknowledged for {PROGRESS_TIMEOUT_S:.0f} s"
            raise CommandError(message, exit_code=EXIT_UNREACHABLE)
        if self._closed is not None:
            raise CommandError(self._closed)

    def _is_too_large(self, topic: str, payload: bytes) -> bool:
        """Whether the broker would close the connection because of the packet's size, which QoS 0 would not notice."""
        size_max = self._client.packet_bytes_max
        return size_max is not None and len(payload) + len(topic.encode()) + HEAD_BYTES_MAX > size_max

    def _on_closed(self, reason: str) -> None:
        self._closed = reason
        self._room.release(IN_FLIGHT_MAX)

    def _on_publish(self, client: Any, userdata: Any, message_id: int, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused.append(str(reason).lower())
        self._room.release()


def _payload(message: str | None, file: Path | None) -> bytes:
    if file is not None:
        return file.read_bytes()
    # The bytes that were typed, whatever their encoding.
    return b"" if message is None else os.fsencode(message)


def _lines() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n")
