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
    """SASL authentication."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Mechanism that the server requires. `PLAIN` sends the password itself: use it with `tls`."""
    username: str
    """User name."""
    password: SecretStr
    """Password."""


class KafkaConfig(ConnectorConfig):
    """Options of the `kafka` sink."""

    brokers: Annotated[tuple[str, ...], BeforeValidator(_split_brokers), Field(min_length=1)]
    """Some brokers of the cluster as `host:port`; the others are discovered through them."""
    topic: Annotated[str, templated("kafka_topic")]
    """Template of the topic. It must begin with fixed text unless `allow_unconfined` is set."""
    key: Annotated[str, templated("text")] | None = None
    """Template of the key. Default: the client id. A single placeholder without a value gives no key."""
    value: Annotated[str, templated("payload")] | None = None
    """Template of the value. Default: the whole row as JSON."""
    headers: dict[str, Annotated[str, templated("header")]] = Field(default_factory=dict)
    """Templates of headers by name."""
    timestamp: Annotated[str, templated("text")] | None = None
    """Template of the timestamp in milliseconds. Default: the time the message arrived."""
    acks: Literal["all", 1] = "all"
    """Replicas that must have a batch before it counts as delivered: all in-sync replicas, or the leader alone."""
    idempotent: bool | None = None
    """Store a batch once that the connection has to send twice. Default: on with `acks: all`, which it needs."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """Compression of batches."""
    batch_bytes: Size = 896 << 10
    """Limit of bytes in a batch of one partition; it must be below the brokers' `max.message.bytes`."""
    max_message_bytes: Size = 1 << 20
    """Limit of bytes in a message. A larger one is rejected without being sent."""
    metadata_max_age: Duration = 300.0
    """Interval at which new brokers and partitions are discovered."""
    on_unknown_topic: Literal["hold", "reject", "create"] | None = None
    """Policy for records of a missing topic. Default: a fixed topic holds the sink; records of a rendered topic are
    retried for 30 s and then rejected. `create` creates it with the cluster's defaults."""
    allow_unconfined: bool = False
    """Allow a topic that begins with a placeholder, so that a message can choose any topic."""
    client_id: str = "headgate"
    """Client id in the brokers' logs and quotas."""
    sasl: SaslConfig | None = None
    """SASL authentication. Default: none."""
    tls: TlsConfig | None = None
    """TLS of the connections. Default: none."""

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
