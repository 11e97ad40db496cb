"""``headgate.yaml``: what the broker, the rules, the API and the log may be told. Every key has a default."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.service.log import LogFormat, LogLevel

LISTENER_KINDS = ("tcp",)
LISTENER_KINDS_TO_COME = ("tls", "ws", "wss", "unix")
"""Kinds that have a name already, so that a project which uses one is told so instead of being called wrong."""

_VARIABLE = re.compile(r"\$(\{\w+\}|\w+)")
"""What a shell would take from the environment."""

PARTS_TO_COME = ("authentication", "authorization")
"""Parts of the file of which the same is true."""


class Address(NamedTuple):
    """Where to listen. Port 0 means any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: Any) -> Address:
    """``127.0.0.1:1883``, ``[::1]:1883``, or a port alone for the loopback.

    Raises `ValueError` with the forms that work.
    """
    if isinstance(value, Address):
        return value
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    host, _, port = text.rpartition(":")
    if text.isdecimal():
        host, port = "127.0.0.1", text
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"{text or value!r} is not an address; write host:port, like 127.0.0.1:1883 or [::1]:1883")
    return Address(host.strip("[]"), int(port))


Bind = Annotated[
    Address,
    BeforeValidator(parse_address),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["127.0.0.1:1883"]}),
]


def is_token(text: str) -> bool:
    """Whether `text` can stand in a header as it is."""
    return text != "" and all("!" <= char <= "~" for char in text)


def _token(token: SecretStr) -> SecretStr:
    if _VARIABLE.fullmatch(token.get_secret_value()):
        raise ValueError("this is not taken from the environment; write ${env:NAME}")
    if not is_token(token.get_secret_value()):
        raise ValueError("this can't be a token; write letters, digits and signs of ASCII, without spaces")
    return token


class Listener(Model):
    """One address that devices connect to."""

    type: Literal["tcp"] = "tcp"
    """The transport."""
    bind: Bind = Address("127.0.0.1", 1883)
    """Address and port; port 0 takes a free one."""
    max_connections: Annotated[int, Field(ge=1)] = 1_024_000
    """Most connections at once; more are closed as soon as they are accepted."""


class MqttSettings(Model):
    """Limits of the protocol, for all listeners. The names are EMQX's."""

    max_packet_size: Annotated[Size, Field(ge=1, le=268_435_460)] = 1 << 20
    """Largest packet a client may send; MQTT itself has none above 256 MiB and 4 bytes."""
    max_inflight: Annotated[int, Field(ge=1, le=65535)] = 32
    """Most unacknowledged QoS 1 and 2 messages on their way to one client."""
    receive_maximum: Annotated[int, Field(ge=1, le=65535)] = 8192
    """Most QoS 1 and 2 messages of one client that wait for their acknowledgement."""
    max_mqueue_len: Annotated[int, Field(ge=1)] = 1000
    """Most messages that wait for one client; the oldest makes room for the newest."""
    mqueue_store_qos0: bool = True
    """Whether QoS 0 messages wait for a client that is away."""
    session_expiry_interval: Duration = 7200.0
    """How long the session of an MQTT 3.1.1 client with clean session off outlives its connection."""
    max_clientid_len: Annotated[int, Field(ge=23, le=65535)] = 65535
    """Longest client id, in bytes."""
    max_topic_levels: Annotated[int, Field(ge=1, le=65535)] = 128
    """Most levels of a topic name or filter."""
    max_topic_alias: Annotated[int, Field(ge=0, le=65535)] = 256
    """Most topic aliases a client may use."""
    max_subscriptions: Annotated[int, Field(ge=1)] = 100_000
    """Most subscriptions of one client."""
    max_sessions: Annotated[int, Field(ge=1)] = 1_000_000
    """Most sessions, connected and kept."""
    retain_available: bool = True
    """Whether messages may be retained."""
    max_retained_messages: Annotated[int, Field(ge=0)] = 1_000_000
    """Most retained messages."""
    max_retained_payload: Size = 1 << 20
    """Largest payload that is retained."""
    wildcard_subscription: bool = True
    """Whether topic filters may hold wildcards."""
    idle_timeout: Duration = 15.0
    """How long a new connection may take to send its CONNECT."""
    send_timeout: Duration = 15.0
    """After how long a client that reads nothing is closed."""
    keepalive_multiplier: Annotated[float, Field(ge=1.0)] = 1.5
    """After how many keep-alive intervals of silence a client is taken to be gone."""

    def options(self) -> dict[str, Any]:
        """The limits by the names they have in `broker.config.BrokerConfig`."""
        options = self.model_dump()
        options["max_client_id_len"] = options.pop("max_clientid_len")
        options["topic_alias_maximum"] = options.pop("max_topic_alias")
        options["session_expiry_interval"] = int(self.session_expiry_interval)
        return options


class RulesSettings(Model):
    """Where rules are and what they promise."""

    dir: Path = Path("rules")
    """The folder of the `*.sql` files."""
    ack: Literal["receive", "buffer"] = "buffer"
    """When a publish is acknowledged unless the rule says so itself: `buffer` once it stands in the journal of every
    sink, fsynced; `receive` at once."""


class ApiSettings(Model):
    """The admin API, which `headgate status` asks too."""

    enable: bool = True
    """Without it `headgate status` and `headgate dlq` have nobody to ask."""
    bind: Bind = Address("127.0.0.1", 18083)
    """Address and port; port 0 takes a free one."""
    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """What a request must bear (`Authorization: Bearer …`); required off loopback."""


class LogSettings(Model):
    """What the process says."""

    level: LogLevel = "info"
    """The least important events that are shown."""
    format: LogFormat = "console"
    """`console` for people, `json` for programs: one object a line."""


class Settings(Model):
    """The whole of `headgate.yaml`."""

    data_dir: Path = Path("data")
    """Where the journal is kept, and what the broker stores."""
    listeners: tuple[Listener, ...] = (Listener(),)
    """Where devices connect."""
    mqtt: MqttSettings = MqttSettings()
    allow_anonymous: bool = False
    """Needed to listen off loopback without authentication."""
    rules: RulesSettings = RulesSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
