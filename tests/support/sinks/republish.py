"""A broker that records messages, and that can be full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.connector import Publication, SinkContext
from engine.errors import DeliveryError, HoldError, RetryableError
from engine.model import jsontext
from engine.model.record import Row
from support.sinks.harness import Harness


class RepublishHarness(Harness):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.published: list[Publication] = []
        self._trouble: DeliveryError | None = None

    def context(self) -> SinkContext:
        context = super().context()
        return SinkContext(context.sink_id, context.base_dir, context.data_dir, publish=self._publish)

    def options(self) -> dict[str, Any]:
        return {"type": "republish", "topic": "again/${client}"}

    async def rows(self) -> list[Row]:
        return [jsontext.decode(publication.payload) for publication in self.published]

    def spoiled(self, row: Row) -> Row:
        return {**row, "client": "no/+/topic"}

    async def break_off(self) -> None:
        self._trouble = RetryableError("a sink that takes it is full")

    async def mend(self) -> None:
        self._trouble = None

    async def misconfigure(self) -> None:
        self._trouble = HoldError("the broker is closed for maintenance")

    async def put_right(self) -> None:
        self._trouble = None

    async def _publish(self, publications: Sequence[Publication]) -> Mapping[int, DeliveryError]:
        if isinstance(self._trouble, HoldError):
            raise self._trouble
        if self._trouble is not None:
            return dict.fromkeys(range(len(publications)), self._trouble)
        self.published += publications
        return {}


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return RepublishHarness(folder)
