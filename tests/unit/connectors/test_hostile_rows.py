"""Hostile values where templates and statements of the user's use them: each is stored, or its row rejected alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors._shared.isolation import shown
from connectors.kafka.options import KafkaConfig
from engine.errors import RejectError
from engine.model.record import Row
from support.http_server import RecordingServer
from support.sinks.harness import NewSink, batch_of, write
from support.sinks.hostile import HOSTILE_NAMES, hostile_values


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RecordingServer]:
    server = RecordingServer(tmp_path / "records.jsonl")
    await server.start()
    yield server
    await server.stop()


def mixed_rows() -> list[Row]:
    """A good row before each hostile one."""
    return [row for value in hostile_values() for row in ({"v": "good"}, {"v": value})]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("file", {"path": "by-value/v-${v}.jsonl"}),
        ("file", {"path": "lines.txt", "format": "template", "template": "value: ${v}"}),
        ("sqlite", {"path": "plant.db", "table": "t"}),
        ("sqlite", {"path": "plant.db", "sql": "INSERT INTO t (v) VALUES (${v})"}),
        ("http", {"url": "{url}/in/${v}"}),
        ("http", {"url": "{url}/in", "headers": {"X-Value": "${v}"}}),
        ("http", {"url": "{url}/in", "body": '{"v": ${v}}', "batch_format": "json_array"}),
        ("file", {"path": "lines.txt", "format": "template", "template": "{{ v }}"}),
    ],
    ids=["path", "line", "table", "sql", "url", "header", "json body", "jinja line"],
)
async def test_hostile_value_in_a_template_is_the_fault_of_its_own_row(
    new_sink: NewSink, server: RecordingServer, kind: str, options: dict[str, Any]
) -> None:
    """Templates render values as text, percent-encode them and convert them, each with errors of its own."""
    if "url" in options:
        options = {**options, "url": options["url"].replace("{url}", server.url)}
    sink = await new_sink(kind, is_connected=False, **options)
    if "sql" in options:
        create = await new_sink("sqlite", path="plant.db", table="t")
        await write(create, batch_of([{"v": 1}]))
    await sink.connect()
    failures = await write(sink, batch_of(mixed_rows()))
    assert {type(error).__name__ for error in failures.values() if not isinstance(error, RejectError)} == set()
    assert {index for index in failures if index % 2 == 0} == set(), "a good row failed with a hostile one"


@pytest.mark.parametrize("option", ["topic", "key", "value", "timestamp", "headers"])
def test_hostile_value_in_a_kafka_template_is_the_fault_of_its_own_row(option: str) -> None:
    """The messages are made before anything is sent, so no server is needed to see it."""
    template = {"topic": "t-${v}", "headers": {"v": "${v}"}}.get(option, "${v}")
    options = {"type": "kafka", "brokers": "localhost:9092", "topic": "t", option: template}
    composer = KafkaConfig.model_validate(options).composer()
    batch = batch_of([{"v": 1}, *({"v": value} for value in hostile_values())])
    topics, failures = composer.topics(batch) if composer.fixed_topic is None else (None, {})
    counts = {topic: 4 for topic in topics or ["t"] if topic}
    queues, unfit = composer.queues(batch, topics, counts)
    assert 0 not in {**failures, **unfit}
    assert sum(map(len, queues.values())) + len(failures) + len(unfit) == len(batch)


async def test_hostile_column_name_is_the_fault_of_its_own_row(new_sink: NewSink) -> None:
    """A table that grows by what devices send must survive all of it."""
    sink = await new_sink("sqlite", path="plant.db", table="t")
    rows: list[Row] = [row for name in HOSTILE_NAMES for row in ({"v": 1}, {name: 1})]
    failures = await write(sink, batch_of(rows))
    assert {index for index in failures if index % 2 == 0} == set()
    assert all(isinstance(error, RejectError) and len(error.message) < 1000 for error in failures.values())


def test_every_hostile_value_can_be_shown_in_a_reason() -> None:
    """The reason of a rejection must not fail for the value that it is about."""
    assert all(len(shown(value)) <= 60 for value in hostile_values())
