"""A real Kafka: away while its process is killed, misconfigured while the topic is deleted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from servers.kafka import Kafka
from support.sinks.harness import Harness

MESSAGE_BYTES_MAX = 10_000


class KafkaHarness(Harness):
    def __init__(self, folder: Path, server: Kafka, topic: str) -> None:
        super().__init__(folder)
        self._server = server
        self._topic = topic
        self._read_before: list[Row] = []

    def options(self) -> dict[str, Any]:
        return {
            "type": "kafka", "brokers": self._server.address, "topic": self._topic,
            "max_message_bytes": MESSAGE_BYTES_MAX, "connect_timeout": "2s", "request_timeout": "5s",
        }  # fmt: skip

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def rows(self) -> list[Row]:
        return self._read_before + await self._read()

    def spoiled(self, row: Row) -> Row:
        return {**row, "label": "x" * MESSAGE_BYTES_MAX}

    async def break_off(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def misconfigure(self) -> None:
        # Deleting is the one mistake that can be made while the server runs; what is stored goes with the topic.
        self._read_before = await self._read()
        await asyncio.to_thread(self._server.delete_topic, self._topic)

    async def put_right(self) -> None:
        await asyncio.to_thread(self._server.create_topic, self._topic)

    async def _read(self) -> list[Row]:
        records = await asyncio.to_thread(self._server.read_topic, self._topic)
        return [json.loads(record.value or b"") for record in records]


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return KafkaHarness(folder, request.getfixturevalue("kafka_server"), request.getfixturevalue("kafka_topic"))
