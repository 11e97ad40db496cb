"""The interface of a sink, and what a sink is given besides its own options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from engine.connector.deadline import Deadline
from engine.connector.failures import Failures
from engine.connector.options import ConnectorConfig
from engine.errors import DeliveryError
from engine.model.record import Batch
from engine.service.clock import Clock, SystemClock

Publish = Callable[[Sequence["Publication"]], Awaitable[Mapping[int, DeliveryError]]]
"""Publishes into the broker, in order. Returns the refused messages by index, once the others are as safe as
acknowledged publishes."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that a sink publishes into the embedded broker.

    ``trail`` names the rules that led to it, in order, up to and including the one whose output it is.
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
    """The environment of a sink: everything it is given besides its own options."""

    sink_id: str
    base_dir: Path
    """The folder of the file that configures the sink; relative paths start here."""
    data_dir: Path
    clock: Clock = field(default_factory=SystemClock)
    publish: Publish | None = None
    """None where there is no broker."""


class Sink(ABC):
    """A target of records. `write` is called by up to ``config.lanes`` tasks at once, with one batch for each lane."""

    kind: ClassVar[str]
    Config: ClassVar[type[ConnectorConfig]]
    EXAMPLES: ClassVar[tuple[str, ...]]
    """YAML of the sink's options; each is loaded by a test and shown in the documentation."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        """Compile templates and check options, without I/O. Raise `ConfigError` where options contradict each other."""
        self.config = config
        self.context = context

    @abstractmethod
    async def connect(self) -> None:
        """Make the sink ready to write: connect, log in, check the table. Raise a `DeliveryError` if it fails.

        Called before the first write, and again after `NotConnectedError` or a hold; closes an earlier connection.
        """

    @abstractmethod
    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        """Store `batch` and return the records that failed; see `engine.connector` for what each result leads to.

        A write that has no result by `deadline` is cancelled soon after, and its outcome counts as unknown.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release all resources. May be called before `connect`, and more than once."""
