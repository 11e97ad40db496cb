"""The options that all sinks have in common: buffer, batch, retry, health probes, lanes and time limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.language.template.option import templated


class BufferConfig(Model):
    """What waits on disk for a sink, and what happens when that is too much."""

    max_bytes: Size = 1 << 30
    """Most bytes waiting for this sink."""
    max_events: Annotated[int, Field(ge=0)] = 0
    """Most records waiting for this sink; 0 is no limit."""
    memory_bytes: Size = 16 << 20
    """Of what waits, as much is also kept in memory; the rest is read from disk when its turn comes."""
    when_full: Literal["refuse", "drop_oldest", "drop_newest"] = "refuse"
    """`refuse` answers the publisher with an error (v5 0x97; 3.1.1: closed without an acknowledgement); the others drop
    records, and count them."""
    retain: Duration = 86400.0
    """How long delivered records stay on disk for replay."""
    retain_bytes: Size = 1 << 30
    """Most bytes of delivered records that stay on disk for replay."""


class BatchConfig(Model):
    """When a batch is sent: the first limit reached wins."""

    size: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Most records in a batch."""
    bytes: Size = 1 << 20
    """Most bytes in a batch, measured as stored; a single larger record is sent alone."""
    time: Duration = 0.02
    """Longest wait for a batch to fill."""


class RetryConfig(Model):
    """The back-off after a failure: it doubles from `initial` to `max`, each time a random part of it (full jitter)."""

    initial: Annotated[Duration, Field(gt=0)] = 0.5
    """First back-off."""
    max: Annotated[Duration, Field(gt=0)] = 30.0
    """Longest back-off."""
    max_attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts after which a record becomes a dead letter; 0 is no limit."""
    max_unknown: Annotated[int, Field(ge=1)] = 10
    """Attempts that may fail for a reason the sink doesn't know; then the batch is bisected and the record rejected."""


class HealthConfig(Model):
    """How a held or disconnected sink is tried again."""

    interval: Annotated[Duration, Field(gt=0)] = 15.0
    """Pause between probes of a held sink."""
    timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """Longest wait for one probe."""


class ConnectorConfig(Model):
    """The options all sinks have. A kind adds its own."""

    type: str
    """The kind of sink."""
    enable: bool = True
    """A disabled sink takes nothing; its backlog stays."""
    description: str = ""
    """For people."""
    buffer: BufferConfig = BufferConfig()
    """What waits for the sink."""
    batch: BatchConfig = BatchConfig()
    """How much is sent at once."""
    retry: RetryConfig = RetryConfig()
    """How long to wait after a failure."""
    health: HealthConfig = HealthConfig()
    """How a held or disconnected sink is tried again."""
    lanes: Annotated[int, Field(ge=1, le=64)] = 4
    """Parallel ordered lanes. Records of one lane key always take the same lane, in order."""
    lane_key: Annotated[str, templated("text")] | None = None
    """Template of the key whose records stay in order; the client id unless set."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """Longest wait for a connection."""
    request_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Longest wait for one write; when it passes, the outcome is unknown and the batch is sent again."""
