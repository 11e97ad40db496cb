"""What a connector is: the interface of a sink, its options, and what it is given.

A sink is ``connect``, ``write``, ``close``; everything else (queueing, batching, lanes, order, retries, back-off,
holding, bisecting, dead letters, counting) belongs to `engine.delivery`. A kind is one file or folder in
``connectors/`` with a `ConnectorConfig` and a `Sink`, and one line in ``connectors/__init__.py``.

What `Sink.write` answers is an instruction, see `engine.errors`:

- returns None: every record is stored, as durably as the sink's documentation says;
- returns a mapping of batch index to `DeliveryError`: those records failed so, all others are stored;
- raises a `DeliveryError`: nothing is known to be stored, and this is why;
- raises anything else: unknown; retried with a bound, then bisected, then rejected with the exception as reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.errors import DeliveryError
from engine.language.template.field import templated
from engine.model.record import Batch
from engine.service.clock import Clock, SystemClock


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


Publish = Callable[[Sequence["Publication"]], Awaitable[Mapping[int, DeliveryError]]]
"""Publishes into the broker, in order; answers what was refused once the rest is as safe as acknowledged publishes."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What a sink publishes into the embedded broker.

    ``trail`` names the rules that led here, the last one, whose output it is, included.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Mapping[str, Any]
    rule_id: str
    trail: tuple[str, ...]
    dup: ClassVar[bool] = False
    message_id: ClassVar[None] = None
    is_will: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is given besides its own options."""

    sink_id: str
    base_dir: Path
    """The folder of the file that configures the sink; relative paths start here."""
    data_dir: Path
    clock: Clock = field(default_factory=SystemClock)
    publish: Publish | None = None
    """None where there is no broker."""


class Sink(ABC):
    """One place records go to. `write` is called from up to ``config.lanes`` tasks at once, one batch per lane."""

    kind: ClassVar[str]
    Config: ClassVar[type[ConnectorConfig]]
    EXAMPLES: ClassVar[tuple[str, ...]]
    """YAML of the sink's options; each is loaded by a test and shown in the documentation."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        """Compile what can be compiled. Raises `ConfigError` for options that contradict each other; does no I/O."""
        self.config = config
        self.context = context

    @abstractmethod
    async def connect(self) -> None:
        """Make the sink ready to write: connect, log in, look at the table. Raises a `DeliveryError` saying why not.

        Called before the first write, and again after `NotConnectedError` or a hold; an old connection is given up.
        """

    @abstractmethod
    async def write(self, batch: Batch) -> Mapping[int, DeliveryError] | None:
        """Store `batch`; see the module's docstring for the answer. Cancelled when ``request_timeout`` passes."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back. Fine before `connect`, and twice."""
