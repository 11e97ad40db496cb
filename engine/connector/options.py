"""The options that all sinks have in common: buffer, batch, retry, health probes, lanes and time limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.language.template.option import templated


class BufferConfig(Model):
    """The buffer of a sink: its limits, and the policy when it is full."""

    max_bytes: Size = 1 << 30
    """Limit of bytes that wait for this sink."""
    max_events: Annotated[int, Field(ge=0)] = 0
    """Limit of records that wait for this sink; 0 is no limit."""
    memory_bytes: Size = 16 << 20
    """Bytes of waiting records that are also kept in memory; the rest is read from disk in its turn."""
    when_full: Literal["refuse", "drop_oldest", "drop_newest"] = "refuse"
    """Policy of a full buffer. `refuse` answers the publisher with an error (MQTT 5: 0x97; 3.1.1: the connection is
    closed without an acknowledgement); the others drop records and count them."""
    retain: Duration = 86400.0
    """Time that delivered records stay on disk for replay."""
    retain_bytes: Size = 1 << 30
    """Limit of bytes of delivered records that stay on disk for replay."""


class BatchConfig(Model):
    """Limits of a batch. The first one reached sends it."""

    size: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Maximum number of records in a batch."""
    bytes: Size = 1 << 20
    """Maximum size of a batch, as stored in the journal; a larger record is sent alone."""
    time: Duration = 0.02
    """Longest wait for a batch to fill."""


class RetryConfig(Model):
    """Exponential back-off after a failure: it doubles from `initial` to `max`, with full jitter."""

    initial: Annotated[Duration, Field(gt=0)] = 0.5
    """First back-off."""
    max: Annotated[Duration, Field(gt=0)] = 30.0
    """Longest back-off."""
    max_attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts after which a record becomes a dead letter; 0 is no limit."""
    max_unknown: Annotated[int, Field(ge=1)] = 10
    """Attempts after an unknown error. Then the batch is bisected, and the record at fault becomes a dead letter."""


class HealthConfig(Model):
    """Probes of a held or disconnected sink."""

    interval: Annotated[Duration, Field(gt=0)] = 15.0
    """Pause between probes of a held sink."""
    timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """Longest wait for one probe."""


class ConnectorConfig(Model):
    """Options of every sink. A kind adds its own."""

    type: str
    """The kind of sink."""
    enable: bool = True
    """A disabled sink accepts no records; its backlog stays."""
    description: str = ""
    """Free text, shown by `status` and the API."""
    buffer: BufferConfig = BufferConfig()
    """The sink's buffer."""
    batch: BatchConfig = BatchConfig()
    """Limits of a batch."""
    retry: RetryConfig = RetryConfig()
    """Back-off after a failure."""
    health: HealthConfig = HealthConfig()
    """Probes of a held or disconnected sink."""
    lanes: Annotated[int, Field(ge=1, le=64)] = 4
    """Ordered lanes that deliver in parallel. Records of one lane key always take the same lane."""
    lane_key: Annotated[str, templated("text")] | None = None
    """Template of the key whose records stay in order. Default: the client id."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """Time limit of connecting."""
    request_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Time limit of one write. After it the outcome is unknown, and the batch is sent again."""
