"""``headgate.yaml``: what the broker, the rules, the API and the log may be told. Every key has a default."""

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
"""Types that a later version has: a project that uses one is told so instead of being called wrong."""

_VARIABLE = re.compile(r"\$(\{\w+\}|\w+)")
"""What a shell would take from the environment."""

PARTS_TO_COME = ("authentication", "authorization")
"""Keys of which the same is true."""

if TYPE_CHECKING:  # a type checker cannot run what makes these two models
    MqttSettings = MqttOptions
    Listener = ListenerOptions
else:
    MqttSettings = mqtt_model()
    Listener = any_listener()


def is_token(text: str) -> bool:
    """Whether `text` can stand in a header as it is."""
    return text != "" and all("!" <= char <= "~" for char in text)


def _token(token: SecretStr) -> SecretStr:
    if _VARIABLE.fullmatch(token.get_secret_value()):
        raise ValueError("this is not taken from the environment; write ${env:NAME}")
    if not is_token(token.get_secret_value()):
        raise ValueError("this can't be a token; write letters, digits and signs of ASCII, without spaces")
    return token


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
    listeners: tuple[Listener, ...] = (default_listener(Listener),)
    """Where devices connect."""
    mqtt: MqttSettings = MqttSettings()
    allow_anonymous: bool = False
    """Needed to listen off loopback without authentication."""
    rules: RulesSettings = RulesSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()

    def broker_config(self) -> BrokerConfig:
        """Return the configuration of the broker."""
        return self.mqtt.config(tuple(listener.config() for listener in self.listeners))
