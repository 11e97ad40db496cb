"""The MQTT client of ``headgate pub`` and ``headgate sub``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import typer
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from engine.cli.process import read_run_file
from engine.cli.report import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from engine.config.project import locate

TEXT_BYTES_MAX = 65535
CONNECT_TIMEOUT_S = 10.0
DEFAULT_PORT = 1883

_VERSIONS = {
    "5": MQTTProtocolVersion.MQTTv5, "mqttv5": MQTTProtocolVersion.MQTTv5,
    "311": MQTTProtocolVersion.MQTTv311, "3.1.1": MQTTProtocolVersion.MQTTv311,
    "mqttv311": MQTTProtocolVersion.MQTTv311,
    "31": MQTTProtocolVersion.MQTTv31, "3.1": MQTTProtocolVersion.MQTTv31, "mqttv31": MQTTProtocolVersion.MQTTv31,
}  # fmt: skip

_PASSING = (0x89, 0x8B, 0x8D)
"""Reason codes after which reconnecting can succeed: server busy, server shutting down, keep-alive timeout."""

HostOption = typer.Option(None, "--host", "-h", help="The broker.", show_default="of the project here, else 127.0.0.1")
PortOption = typer.Option(
    None,
    "--port",
    "-p",
    min=1,
    max=65535,
    help="Its port.",
    show_default=f"of the project here, else {DEFAULT_PORT}",
)
ClientIdOption = typer.Option("", "--id", "-i", help="Client id.", show_default="assigned by the broker")
UserOption = typer.Option(None, "--username", "-u", help="User name.")
PasswordOption = typer.Option(None, "--password", "-P", help="Password.", envvar="HEADGATE_MQTT_PASSWORD")
VersionOption = typer.Option("5", "--protocol-version", "-V", help="5, 311 or 31.")
QosOption = typer.Option(0, "--qos", "-q", min=0, max=2, help="Quality of service.")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The options of a connection."""

    host: str | None
    port: int | None
    client_id: str
    username: str | None
    password: str | None
    version: str
    keep_session: bool = False


class MqttClient:
    """A connection to a broker. Callbacks run in a thread of their own, which lives until `close`.

    `on_closed` is called with the reason, a sentence, when the broker has closed the connection for good.
    """

    def __init__(self, options: ClientOptions) -> None:
        version = _VERSIONS.get(options.version.lower())
        if version is None:
            raise CommandError(f"{options.version!r} is not a version of MQTT: 5, 311 or 31", exit_code=EXIT_USAGE)
        check_text(options.client_id, "the client id")
        self.host, self.port = _broker(options)
        self._keep_session = options.keep_session
        clean = None if version == MQTTProtocolVersion.MQTTv5 else not options.keep_session
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, options.client_id, clean_session=clean, protocol=version)
        self.mqtt.username_pw_set(options.username, options.password)
        self.mqtt.on_disconnect = self._on_disconnect
        self.is_v5 = version == MQTTProtocolVersion.MQTTv5
        self.packet_bytes_max: int | None = None
        """The largest packet that the broker accepts, if it has announced one."""
        self.on_closed: Callable[[str], None] = lambda reason: None
        self._answered = threading.Event()
        self._refusal: str | None = None

    def connect(self) -> None:
        """Connect and wait for the broker's answer. Raises `CommandError`."""
        self.mqtt.on_connect = self._on_first_connect
        try:
            self.mqtt.connect(self.host, self.port, keepalive=60, **self._connect_options())
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        self.mqtt.loop_start()
        answered = self._answered.wait(CONNECT_TIMEOUT_S)
        if self._refusal is not None or not answered:
            self.close()
            if self._refusal is None:
                raise self._unreachable(f"no answer within {CONNECT_TIMEOUT_S:.0f} s")
            raise CommandError(f"the broker refused the connection: {self._refusal}", exit_code=EXIT_FAILED)

    def close(self) -> None:
        """Send the queued packets and disconnect."""
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def _connect_options(self) -> dict[str, Any]:
        if not self.is_v5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        if self._keep_session:
            properties.SessionExpiryInterval = 0xFFFFFFFF
        return {"clean_start": not self._keep_session, "properties": properties}

    def _on_first_connect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason).lower()
            # Without this paho would reconnect for ever.
            client.disconnect()
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", None)
        self._answered.set()

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server and reason.value not in _PASSING:
            # As above. After a takeover both clients would reconnect for ever, each closing the other.
            client.disconnect()
            self.on_closed(f"the broker closed the connection: {str(reason).lower()}")

    def _unreachable(self, reason: str) -> CommandError:
        return CommandError(
            f"no broker at {self.host}:{self.port}: {reason.lower()}",
            exit_code=EXIT_UNREACHABLE,
            remedy="start Headgate with headgate run, or name another broker with -h and -p",
        )


def check_text(text: str, name: str) -> None:
    """Raise `CommandError` unless `text`, called `name`, is valid in a packet."""
    try:
        is_short = len(text.encode()) <= TEXT_BYTES_MAX
    except UnicodeEncodeError:
        raise CommandError(f"{name} is not UTF-8", exit_code=EXIT_USAGE) from None
    if not is_short:
        raise CommandError(f"{name} has more than {TEXT_BYTES_MAX:,} bytes", exit_code=EXIT_USAGE)


def _broker(options: ClientOptions) -> tuple[str, int]:
    """Return the broker of the options, else that of the running project in this folder, else the default."""
    if options.host is None:
        running = read_run_file(locate(Path("."), os.environ).data_dir)
        for host, port in running.listeners if running is not None else ():
            if options.port in (None, port):
                return host, port
    return options.host or "127.0.0.1", options.port or DEFAULT_PORT
