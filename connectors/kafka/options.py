"""Options of the `kafka` sink."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from connectors._shared.tls import TlsConfig
from connectors.kafka.message import Composer
from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig
from engine.errors import ConfigError
from engine.language.template import Template
from engine.language.template.option import templated

_BROKER = re.compile(r"[^\s/@]+:\d{1,5}")


def _split_brokers(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class SaslConfig(Model):
    """How the sink logs in."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """What the server asks for; `PLAIN` sends the password itself, so use it with `tls`."""
    username: str
    """Name of the user."""
    password: SecretStr
    """Password of the user."""


class KafkaConfig(ConnectorConfig):
    """Options of the `kafka` sink."""

    brokers: Annotated[tuple[str, ...], BeforeValidator(_split_brokers), Field(min_length=1)]
    """Some brokers of the cluster, `host:port`; the others are found through them."""
    topic: Annotated[str, templated("kafka_topic")]
    """Template of the topic; it must begin with text of its own unless `allow_unconfined` is set."""
    key: Annotated[str, templated("text")] | None = None
    """Template of the key; the client's id unless set. A lone placeholder without a value gives no key."""
    value: Annotated[str, templated("payload")] | None = None
    """Template of the value; the whole row as JSON unless set."""
    headers: dict[str, Annotated[str, templated("header")]] = Field(default_factory=dict)
    """Templates of headers by name."""
    timestamp: Annotated[str, templated("text")] | None = None
    """Template of the time in milliseconds; the time the message came unless set."""
    acks: Literal["all", 1] = "all"
    """Who must have a batch before it counts as delivered: all replicas in sync, or the leader alone."""
    idempotent: bool | None = None
    """Store once what the connection had to send twice; unless set, on with `acks: all`, which it needs."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """How batches are compressed."""
    batch_bytes: Size = 896 << 10
    """Most bytes in a batch of one partition, below what the brokers take (`max.message.bytes`)."""
    max_message_bytes: Size = 1 << 20
    """A larger message is rejected without being sent."""
    metadata_max_age: Duration = 300.0
    """How long it may take to notice new brokers and partitions."""
    on_unknown_topic: Literal["hold", "reject", "create"] | None = None
    """What happens to records of a topic that is not there. Unless set, a fixed topic holds the sink, and a rendered
    one is tried for 30 s before its records are rejected. `create` makes it with the cluster's defaults."""
    allow_unconfined: bool = False
    """Allow a topic that is decided by the message alone."""
    client_id: str = "headgate"
    """Name shown in the brokers' logs and quotas."""
    sasl: SaslConfig | None = None
    """How to log in; not at all unless set."""
    tls: TlsConfig | None = None
    """How the connection is secured; not at all unless set."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        if self.idempotent and self.acks != "all":
            raise ConfigError("`idempotent` needs `acks: all`", remedy="leave one of the two out")
        for broker in self.brokers:
            if not _BROKER.fullmatch(broker) or not 0 < int(broker.rpartition(":")[2]) < 65536:
                raise ConfigError(f"{broker!r} is not the address of a broker", remedy="write host:port")
        if self.tls is not None and self.tls.server_name is not None:
            raise ConfigError(
                "`tls.server_name` does not work for Kafka", remedy="list the brokers by the names they have"
            )

    def composer(self) -> Composer:
        """Return the composer of these templates."""

        def optional(text: str | None, kind: Literal["text", "payload"]) -> Template | None:
            return None if text is None else Template.compile(text, kind=kind)

        return Composer(
            topic=Template.compile(self.topic, kind="kafka_topic", allow_unconfined=self.allow_unconfined),
            key=optional(self.key, "text"),
            value=optional(self.value, "payload"),
            headers={name: Template.compile(text, kind="header") for name, text in self.headers.items()},
            timestamp=optional(self.timestamp, "text"),
            message_bytes_max=self.max_message_bytes,
        )

    def producer_options(self) -> dict[str, Any]:
        """Return what a producer needs besides `client_options`."""
        return {
            "acks": self.acks,
            "enable_idempotence": self.idempotent is not False and self.acks == "all",
            "compression_type": None if self.compression == "none" else self.compression,
            "max_batch_size": self.batch_bytes,
        }

    def client_options(self, base_dir: Path) -> dict[str, Any]:
        """Return what a producer and an administrative client both need to reach the cluster. Reads files."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.brokers),
            "client_id": self.client_id,
            "request_timeout_ms": max(1, round(self.request_timeout * 1000)),
            "metadata_max_age_ms": max(1, round(self.metadata_max_age * 1000)),
            "security_protocol": f"{'SASL_' if self.sasl else ''}{'SSL' if self.tls else 'PLAINTEXT'}",
        }
        if self.sasl is not None:
            options["sasl_mechanism"] = self.sasl.mechanism
            options["sasl_plain_username"] = self.sasl.username
            options["sasl_plain_password"] = self.sasl.password.get_secret_value()
        if self.tls is not None:
            options["ssl_context"] = self.tls.context(base_dir)
        return options
