"""The model of ``headgate.yaml``: options of broker, rules, API and log. Every key has a default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, SecretStr

from broker.config import BrokerConfig
from broker.listeners import TYPES
from broker.origin import Address
from engine.config.address import Bind
from engine.config.brokeroptions import (
    ListenerOptions,
    MqttOptions,
    any_listener,
    default_listener,
    mqtt_model,
)
from engine.config.model import Model
from engine.service.log import LogFormat, LogLevel

LISTENER_TYPES_TO_COME = tuple(name for name in ("tls", "ws", "wss", "unix") if name not in TYPES)
"""Types of a later version, reported as not available yet instead of unknown."""

_VARIABLE = re.compile(r"\$(\{\w+\}|\w+)")
"""A variable in the syntax of a shell."""

PARTS_TO_COME = ("authentication", "authorization")
"""Keys of a later version, reported in the same way."""

if TYPE_CHECKING:  # a type checker cannot run what makes these two models
    MqttSettings = MqttOptions
    Listener = ListenerOptions
else:
    MqttSettings = mqtt_model()
    Listener = any_listener()


def is_token(text: str) -> bool:
    """Whether `text` is valid in an HTTP header."""
    return text != "" and all("!" <= char <= "~" for char in text)


def _token(token: SecretStr) -> SecretStr:
    if _VARIABLE.fullmatch(token.get_secret_value()):
        raise ValueError("this is not taken from the environment; write ${env:NAME}")
    if not is_token(token.get_secret_value()):
        raise ValueError("this can't be a token; write letters, digits and signs of ASCII, without spaces")
    return token


class RulesSettings(Model):
    """Options of rules."""

    dir: Path = Path("rules")
    """The folder of the `*.sql` files."""
    ack: Literal["receive", "buffer"] = "buffer"
    """Time of the acknowledgement of a publish, unless the rule has its own: `buffer` acknowledges when the publish is
    on disk in the journal of every sink, `receive` at once."""


class ApiSettings(Model):
    """Options of the admin API, which `headgate status` and `headgate dlq` need."""

    enable: bool = True
    """Whether the API is served; `headgate status` and `headgate dlq` need it."""
    bind: Bind = Address("127.0.0.1", 18083)
    """Address and port of the API; port 0 takes a free one."""
    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Token that every request must carry (`Authorization: Bearer …`); required off loopback."""


class LogSettings(Model):
    """Options of the log."""

    level: LogLevel = "info"
    """Lowest level of events in the log."""
    format: LogFormat = "console"
    """`console` for people, `json` for programs: one object per line."""


class Settings(Model):
    """All options of `headgate.yaml`."""

    data_dir: Path = Path("data")
    """Folder of the journal and of all other state."""
    listeners: tuple[Listener, ...] = (default_listener(Listener),)
    """Addresses that devices connect to."""
    mqtt: MqttSettings = MqttSettings()
    allow_anonymous: bool = False
    """Whether to accept devices without authentication; needed to listen off loopback."""
    rules: RulesSettings = RulesSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()

    def broker_config(self) -> BrokerConfig:
        """Return the configuration of the broker."""
        return self.mqtt.config(tuple(listener.config() for listener in self.listeners))
