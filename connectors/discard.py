"""Discards every row, for measuring the path up to a sink and as a placeholder for a sink to come.

Rows pass through the journal and count as delivered, as with any other sink.
"""

from __future__ import annotations

from typing import ClassVar

from engine.connector import ALL_STORED, ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import NotConnectedError
from engine.model.record import Batch


class DiscardConfig(ConnectorConfig):
    """Options of the `discard` sink."""


class DiscardSink(Sink):
    """Sink that discards rows."""

    kind: ClassVar[str] = "discard"
    Config: ClassVar[type[ConnectorConfig]] = DiscardConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = ("type: discard\n",)

    def __init__(self, config: DiscardConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._is_open = False

    async def connect(self) -> None:
        self._is_open = True

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if not self._is_open:
            raise NotConnectedError("the sink is closed")
        return ALL_STORED

    async def close(self) -> None:
        self._is_open = False
