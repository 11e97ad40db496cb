"""``headgate sub``: print messages as they are published."""

from __future__ import annotations

import sys
import threading
from typing import Any

import paho.mqtt.client as mqtt
import typer

from broker.errors import InvalidTopic
from broker.topics import check_topic_filter, split_shared
from engine.cli.mqtt import (
    TEXT_BYTES_MAX,
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
from engine.cli.report import EXIT_FAILED, EXIT_USAGE, CommandError
from engine.model.jsontext import encode


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sub")(sub)


def sub(
    topic: list[str] = typer.Option(..., "--topic", "-t", help="A topic filter; may be given several times."),
    qos: int = QosOption,
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Print the topic before each message."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a message: topic, payload, qos, retain."),
    count: int = typer.Option(0, "--count", "-C", min=0, help="End after this many messages.", show_default="never"),
    timeout: float = typer.Option(
        0.0,
        "--timeout",
        "-W",
        min=0,
        help="End after this many seconds; with exit code 1 if -C was not reached.",
        show_default="never",
    ),
    keep_session: bool = typer.Option(
        False, "--keep-session", "-c", help="Keep the session when this command ends; needs -i."
    ),
    host: str = HostOption,
    port: int = PortOption,
    client_id: str = ClientIdOption,
    username: str = UserOption,
    password: str = PasswordOption,
    version: str = VersionOption,
) -> None:
    """Print messages as they are published, until Ctrl-C.

    Examples:

      headgate sub -t 'sensors/#' -v

      headgate sub -t 'alarms/+' --json | jq .payload

      headgate sub -t a/b -C 1 -W 5

      headgate sub -t a/b -q 1 -c -i my-session
    """
    if keep_session and not client_id:
        raise CommandError("--keep-session needs a client id: -i", exit_code=EXIT_USAGE)
    client = MqttClient(ClientOptions(host, port, client_id, username, password, version, keep_session))
    for topic_filter in topic:
        check_text(topic_filter, "the topic filter")
        try:
            check_topic_filter(split_shared(topic_filter)[1], TEXT_BYTES_MAX)
        except InvalidTopic as error:
            raise CommandError(str(error), exit_code=EXIT_USAGE) from error
    subscriber = Subscriber(client, topic, qos, Printer(as_json, verbose), count)
    try:
        subscriber.start()
        is_complete = subscriber.wait(timeout or None)
    except KeyboardInterrupt:
        is_complete = True
    finally:
        client.close()
    if subscriber.refusal is not None:
        raise CommandError(subscriber.refusal)
    if not is_complete and count:
        raise typer.Exit(EXIT_FAILED)


class Printer:
    """Writes messages to standard output, as bytes, since a payload need not be text."""

    def __init__(self, as_json: bool, verbose: bool) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._out = sys.stdout.buffer

    def print(self, message: mqtt.MQTTMessage) -> None:
        """Write a message as one line."""
        self._out.write(self._line(message) + b"\n")
        self._out.flush()

    def _line(self, message: mqtt.MQTTMessage) -> bytes:
        payload = bytes(message.payload)
        if self._as_json:
            fields = {"topic": message.topic, "payload": payload, "qos": message.qos, "retain": message.retain}
            return encode(fields)
        return message.topic.encode() + b" " + payload if self._verbose else payload


class Subscriber:
    """Subscribes, again after each reconnect, and prints messages until their number is reached."""

    def __init__(self, client: MqttClient, topics: list[str], qos: int, printer: Printer, count: int) -> None:
        self.refusal: str | None = None
        self._client = client
        self._topics = topics
        self._qos = qos
        self._printer = printer
        self._left = count or None
        self._done = threading.Event()

    def start(self) -> None:
        """Connect and subscribe. Raises `CommandError`."""
        handle = self._client.mqtt
        handle.on_message = self._on_message
        handle.on_subscribe = self._on_subscribe
        self._client.on_closed = self._end
        self._client.connect()
        handle.on_connect = self._on_reconnect
        self._subscribe()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the number of messages is reached or the connection has ended. Return False after `timeout_s`."""
        return self._done.wait(timeout_s)

    def _subscribe(self) -> None:
        self._client.mqtt.subscribe([(topic, self._qos) for topic in self._topics])

    def _on_reconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._end(f"the broker refused the connection: {str(reason).lower()}")
        else:
            self._subscribe()

    def _on_subscribe(self, client: Any, userdata: Any, message_id: int, reasons: Any, properties: Any) -> None:
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                self._end(f"the subscription to {topic} was refused: {str(reason).lower()}")

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if self._done.is_set():
            return
        try:
            self._printer.print(message)
        except BrokenPipeError:
            # The reader of the pipe has ended. Python would report that again when it closes the stream.
            sys.stdout = None
            self._end(None)
            return
        except OSError as error:
            sys.stdout = None
            self._end(f"the messages can't be written: {error.strerror or error}")
            return
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._end(None)

    def _end(self, refusal: str | None) -> None:
        self.refusal = self.refusal or refusal
        self._done.set()
