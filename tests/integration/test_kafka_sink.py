"""The Kafka sink with a real server: messages, partitions, compression, limits, configuration errors, outages."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from connectors.kafka import KafkaSink, topics
from connectors.kafka.options import KafkaConfig
from engine.connector import SinkContext
from engine.errors import ConfigError, DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.model.record import Batch, Chunk, Row
from engine.testing import FakeClock
from servers.kafka import PASSWORD, USER, Kafka
from support.sinks import harness
from support.sinks.harness import batch_of

pytestmark = pytest.mark.server("kafka")

TIME_MS = 1_700_000_000_000


class Target:
    """One server, and sinks that write to it."""

    def __init__(self, server: Kafka, folder: Path) -> None:
        self.server = server
        self.clock = FakeClock()
        self._folder = folder
        self._sinks: list[KafkaSink] = []

    def sink(self, topic: str, **options: Any) -> KafkaSink:
        given = {"type": "kafka", "brokers": self.server.address, "topic": topic, "connect_timeout": 3, **options}
        context = SinkContext("s", self._folder, self._folder, clock=self.clock)
        sink = KafkaSink(KafkaConfig.model_validate(given), context)
        self._sinks.append(sink)
        return sink

    async def connected(self, topic: str, **options: Any) -> KafkaSink:
        sink = self.sink(topic, **options)
        await sink.connect()
        return sink

    def new_topic(self, partitions: int = 4, **options: str) -> str:
        return self.server.create_topic(f"test-{uuid.uuid4().hex[:12]}", partitions, **options)

    async def read(self, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
        return await asyncio.to_thread(self.server.read_topic, topic)

    async def rows(self, topic: str) -> list[Row]:
        return [json.loads(record.value or b"") for record in await self.read(topic)]

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()


@pytest.fixture
async def target(kafka_server: Kafka, tmp_path: Path) -> AsyncIterator[Target]:
    await asyncio.to_thread(kafka_server.start)
    target = Target(kafka_server, tmp_path)
    yield target
    await target.close()


def batch_from(clients: dict[str, list[Row]]) -> Batch:
    """Return a batch with a chunk for each client, as the journal delivers it."""
    chunks = [
        Chunk("hot", client, 0, TIME_MS + number, f"sensors/{client}", rows)
        for number, (client, rows) in enumerate(clients.items())
    ]
    rows = [row for chunk in chunks for row in chunk.rows]
    return Batch("s", 0, range(1, len(rows) + 1), rows, chunks)


async def write(sink: KafkaSink, *rows: Row) -> dict[int, DeliveryError]:
    return dict(await harness.write(sink, batch_of(list(rows))))


async def test_messages_have_the_clients_key_the_row_and_its_time(target: Target, kafka_topic: str) -> None:
    """The defaults, with brokers and topic alone configured."""
    sink = await target.connected(kafka_topic)
    assert not await harness.write(sink, batch_from({"a": [{"n": 1, "t": 2.5}], "b": [{"n": 2, "s": "grüße"}]}))
    found = {record.key: record for record in await target.read(kafka_topic)}
    assert {key: json.loads(record.value or b"") for key, record in found.items()} == {
        b"a": {"n": 1, "t": 2.5}, b"b": {"n": 2, "s": "grüße"},
    }  # fmt: skip
    assert (found[b"a"].timestamp, found[b"b"].timestamp) == (TIME_MS, TIME_MS + 1)
    assert found[b"a"].headers == ()


async def test_keys_go_to_the_partitions_of_other_clients(target: Target, kafka_topic: str) -> None:
    """A join of two topics by key needs equal partitions for equal keys, whatever client wrote them."""
    sink = await target.connected(kafka_topic)
    clients = [f"device-{n}" for n in range(200)] + ["", "ü", "x" * 301]
    await harness.write(sink, batch_from({client: [{"client": client}] for client in clients}))
    found = await target.read(kafka_topic)
    partitions = list(range(4))
    assert len(found) == len(clients)
    for record in found:
        assert record.partition == DefaultPartitioner()(record.key, partitions, partitions)
    assert {record.partition for record in found} == set(partitions)


async def test_each_client_stays_in_order_over_batches_and_lanes(target: Target, kafka_topic: str) -> None:
    """Small batches make many requests for each partition; four lanes write at once."""
    sink = await target.connected(kafka_topic, batch_bytes=2000)

    async def lane(number: int) -> None:
        for start in range(0, 600, 150):
            rows = {f"c{number}-{k}": [{"n": n} for n in range(start, start + 150)] for k in range(3)}
            assert not await harness.write(sink, batch_from(rows))

    await asyncio.gather(*(lane(number) for number in range(4)))
    order: dict[bytes | None, list[int]] = defaultdict(list)
    for record in await target.read(kafka_topic):
        order[record.key].append(json.loads(record.value or b"")["n"])
    assert len(order) == 12
    assert all(numbers == list(range(600)) for numbers in order.values())


async def test_templates_make_topic_key_value_headers_and_time(target: Target) -> None:
    """Every part of a message can come from the row."""
    name = f"plant-{uuid.uuid4().hex[:8]}"
    for area in ("north", "south"):
        target.server.create_topic(f"{name}-{area}")
    sink = await target.connected(
        f"{name}-${{area}}",
        key="${device}",
        value='{"t": ${temp}, "from": "${_client}"}',
        headers={"rule": "${_rule}", "unit": "°${unit}"},
        timestamp="${at}",
    )
    north = {"area": "north", "device": "d1", "temp": 1.5, "unit": "C", "at": 1234567890123}
    south = {"area": "south", "device": None, "temp": None, "unit": "F", "at": "1234567890124"}
    odd = {"area": "no/such", "device": "d3", "temp": 1, "unit": "C", "at": 5}
    late = {"area": "south", "device": "d4", "temp": 1, "unit": "C", "at": "noon"}
    failures = await write(sink, north, south, odd, late)
    assert sorted(failures) == [2, 3]
    assert all(isinstance(error, RejectError) for error in failures.values())
    assert "milliseconds" in failures[3].message
    (first,) = await target.read(f"{name}-north")
    (second,) = await target.read(f"{name}-south")
    assert (first.key, json.loads(first.value or b""), first.timestamp) == (
        b"d1",
        {"t": 1.5, "from": "c0"},
        1234567890123,
    )
    assert first.headers == (("rule", b"hot"), ("unit", "°C".encode()))
    assert (second.key, json.loads(second.value or b""), second.timestamp) == (
        None,
        {"t": None, "from": "c0"},
        1234567890124,
    )


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_compression(target: Target, kafka_topic: str, compression: str) -> None:
    """Every codec can be read back, and is noted in the batch."""
    sink = await target.connected(kafka_topic, compression=compression)
    rows = [{"n": n, "label": "x" * 50} for n in range(300)]
    assert await write(sink, *rows) == {}
    assert await target.rows(kafka_topic) == rows


@pytest.mark.parametrize("options", [{"acks": 1}, {"idempotent": False}, {"acks": "all"}])
async def test_levels_of_acknowledgement(target: Target, kafka_topic: str, options: dict[str, Any]) -> None:
    """Weaker acknowledgement levels work."""
    sink = await target.connected(kafka_topic, **options)
    assert await write(sink, {"n": 1}, {"n": 2}) == {}
    assert await target.rows(kafka_topic) == [{"n": 1}, {"n": 2}]


async def test_message_over_the_sinks_limit_is_rejected_unsent(target: Target, kafka_topic: str) -> None:
    """A too large message must not stop the others."""
    sink = await target.connected(kafka_topic, max_message_bytes=2000)
    failures = await write(sink, {"n": 1}, {"n": 2, "label": "x" * 2000}, {"n": 3})
    assert list(failures) == [1]
    assert "max_message_bytes" in failures[1].message
    assert await target.rows(kafka_topic) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("idempotent", [True, False])
async def test_five_refused_messages_among_a_thousand_fail_alone(target: Target, idempotent: bool) -> None:
    """The server refuses whole batches without naming the message, which is found in order."""
    topic = target.new_topic(max_message_bytes="20000")
    sink = await target.connected(topic, idempotent=idempotent)
    bad = {3, 250, 499, 500, 999}
    clients = {
        f"c{k}": [{"k": k, "n": n, "label": "x" * (30_000 if n in bad else 60)} for n in range(k * 500, k * 500 + 500)]
        for k in range(2)
    }
    failures = await harness.write(sink, batch_from(clients))
    assert sorted(failures) == sorted(bad)
    assert {type(error) for error in failures.values()} == {RejectError}
    assert "maximum message size" in failures[3].message
    found = await target.rows(topic)
    for k in range(2):
        assert [row["n"] for row in found if row["k"] == k] == [
            n for n in range(k * 500, k * 500 + 500) if n not in bad
        ]
    assert not await harness.write(sink, batch_from({"c0": [{"k": 2, "n": 1}]}))


async def test_a_refused_batch_of_one_lane_does_not_stop_another(target: Target) -> None:
    """Replacing the producer must neither lose nor duplicate batches of other lanes."""
    topic = target.new_topic(max_message_bytes="20000")
    sink = await target.connected(topic)

    async def good(lane: int) -> None:
        for start in range(0, 1000, 50):
            await deliver(sink, batch_from({f"good{lane}": [{"lane": lane, "n": n} for n in range(start, start + 50)]}))

    async def bad() -> None:
        for n in range(5):
            failures = await harness.write(sink, batch_from({"bad": [{"n": n, "label": "x" * 30_000}]}))
            assert [type(error) for error in failures.values()] == [RejectError]

    await asyncio.gather(good(0), good(1), good(2), bad())
    found = await target.rows(topic)
    for lane in range(3):
        assert [row["n"] for row in found if row["lane"] == lane] == list(range(1000))


async def test_missing_topic_holds_until_it_is_created(target: Target) -> None:
    """No row is dropped, and no restart is needed."""
    topic = f"later-{uuid.uuid4().hex[:8]}"
    sink = target.sink(topic)
    with pytest.raises(HoldError, match=f"has no topic {topic}"):
        await sink.connect()
    target.server.create_topic(topic)
    await sink.connect()
    assert await write(sink, {"n": 1}) == {}
    assert await target.rows(topic) == [{"n": 1}]


async def test_missing_topic_is_created_where_asked_for(target: Target) -> None:
    """The topic gets the cluster's default number of partitions."""
    topic = f"made-{uuid.uuid4().hex[:8]}"
    sink = await target.connected(topic, on_unknown_topic="create")
    assert await write(sink, {"n": 1}) == {}
    assert await target.rows(topic) == [{"n": 1}]


async def test_topic_of_a_template_that_stays_missing_is_rejected(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of a missing rendered topic are retried for a time, then rejected."""
    monkeypatch.setattr(topics, "FIND_TOPIC_S", 0.3)
    name = f"area-{uuid.uuid4().hex[:8]}"
    target.server.create_topic(f"{name}-north")
    sink = await target.connected(f"{name}-${{area}}")
    rows = {"area": "north", "n": 1}, {"area": "nowhere", "n": 2}
    failures = await write(sink, *rows)
    assert {place: type(error) for place, error in failures.items()} == {1: RetryableError}
    await target.clock.advance(31)
    failures = await write(sink, *rows)
    assert {place: type(error) for place, error in failures.items()} == {1: RejectError}
    assert f"{name}-nowhere" in failures[1].message
    target.server.create_topic(f"{name}-nowhere")
    await target.clock.advance(31)
    assert await write(sink, *rows) == {}


async def test_many_missing_topics_are_looked_for_at_once(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random topic names must not use up the time of every batch."""
    monkeypatch.setattr(topics, "FIND_TOPIC_S", 0.5)
    monkeypatch.setattr(topics, "MISSING_MAX", 10)
    name = f"area-{uuid.uuid4().hex[:8]}"
    target.server.create_topic(f"{name}-north")
    sink = await target.connected(f"{name}-${{area}}", request_timeout=4)
    rows = [{"area": "north", "n": 1}, *({"area": f"nowhere-{n}", "n": n} for n in range(30))]
    failures = await write(sink, *rows)
    assert {type(error) for error in failures.values()} == {RetryableError}
    assert sorted(failures) == list(range(1, 31))
    assert sink._shared is not None
    assert sink._shared.producer.client._topics == {f"{name}-north"}
    await target.clock.advance(31)
    failures = await write(sink, *rows[1:])
    assert {type(error) for error in failures.values()} == {RejectError}
    assert len(failures) == 30


async def test_record_that_the_topic_refuses_is_rejected_at_once(target: Target) -> None:
    """A compacted topic needs keys; the client does not know the broker's error code for that."""
    topic = target.new_topic(cleanup_policy="compact", partitions=1)
    sink = await target.connected(topic, key="${k}")
    failures = await write(sink, {"k": "a", "n": 1}, {"k": None, "n": 2}, {"k": "b", "n": 3})
    assert {place: type(error) for place, error in failures.items()} == {1: RejectError}
    assert "needs a key" in failures[1].message
    assert [row["n"] for row in await target.rows(topic)] == [1, 3]


async def test_missing_login_is_suggested(target: Target, kafka_topic: str) -> None:
    """The broker closes the connection of a client without a login; the reason suggests the cause."""
    with pytest.raises(NotConnectedError, match="`sasl` or `tls`"):
        await target.connected(kafka_topic, brokers=target.server.sasl_address)
    with pytest.raises(NotConnectedError, match="`sasl` or `tls`"):
        await target.connected(kafka_topic, tls={})


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_login_by_every_mechanism(target: Target, kafka_topic: str, mechanism: str) -> None:
    """The right password connects; a wrong one holds, and is not shown."""
    sasl = {"mechanism": mechanism, "username": USER, "password": PASSWORD}
    sink = await target.connected(kafka_topic, brokers=target.server.sasl_address, sasl=sasl)
    assert await write(sink, {"n": 1}) == {}
    wrong = target.sink(kafka_topic, brokers=target.server.sasl_address, sasl=sasl | {"password": "surely-wrong"})
    with pytest.raises(HoldError, match="Authentication failed") as caught:
        await wrong.connect()
    assert "surely-wrong" not in caught.value.message


async def test_password_put_right_at_the_server_resumes(target: Target, kafka_topic: str) -> None:
    """The sink resumes once the server's user is corrected."""
    sasl = {"mechanism": "SCRAM-SHA-256", "username": USER, "password": "new-one"}
    sink = target.sink(kafka_topic, brokers=target.server.sasl_address, sasl=sasl)
    with pytest.raises(HoldError):
        await sink.connect()
    await asyncio.to_thread(target.server.set_password, "new-one")
    try:
        async with asyncio.timeout(15):
            while True:
                try:
                    await sink.connect()
                    break
                except HoldError:
                    await asyncio.sleep(0.2)
        assert await write(sink, {"n": 1}) == {}
    finally:
        await asyncio.to_thread(target.server.set_password, PASSWORD)


async def test_login_at_a_listener_without_sasl_holds(target: Target, kafka_topic: str) -> None:
    """The message names the wrong listener as the cause."""
    sasl = {"mechanism": "PLAIN", "username": USER, "password": PASSWORD}
    with pytest.raises(HoldError, match="does not use SASL"):
        await target.connected(kafka_topic, sasl=sasl)


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False])
async def test_server_killed_in_the_middle_loses_no_row(target: Target, kafka_topic: str, idempotent: bool) -> None:
    """`kill -9` of the server while batches flow: every message arrives, in order per client."""
    sink = await target.connected(kafka_topic, idempotent=idempotent, request_timeout=2)
    killed: asyncio.Task[None] | None = None
    for start in range(0, 5000, 100):
        if start == 2000:
            killed = asyncio.get_running_loop().create_task(asyncio.to_thread(target.server.restart))
        await deliver(
            sink, batch_from({f"c{k}": [{"k": k, "n": n} for n in range(start, start + 100)] for k in range(2)})
        )
        await asyncio.sleep(0.01 if killed and not killed.done() else 0)
    assert killed is not None
    await killed
    found = await target.rows(kafka_topic)
    for k in range(2):
        numbers = [row["n"] for row in found if row["k"] == k]
        assert list(dict.fromkeys(numbers)) == list(range(5000))
        assert len(numbers) <= 5000 + 3 * 100


async def deliver(sink: KafkaSink, batch: Batch) -> None:
    """Repeat attempts until all is stored, and connect where an error asks for it."""
    async with asyncio.timeout(60):
        for attempt in itertools.count():
            try:
                failures = await harness.write(sink, batch)
                assert not failures, (attempt, failures)
                return
            except (NotConnectedError, RetryableError):
                await asyncio.sleep(0.05)
                try:
                    await sink.connect()
                except NotConnectedError:
                    continue


async def test_hanging_server_is_given_up_in_time(target: Target, kafka_topic: str) -> None:
    """An idempotent batch never expires; the sink aborts it, and repeats it with another producer."""
    sink = await target.connected(kafka_topic, request_timeout=1, connect_timeout=1)
    assert await write(sink, {"n": 1}) == {}
    await asyncio.to_thread(target.server.pause)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(NotConnectedError, match="did not confirm the batch in time"):
                await write(sink, {"n": 2})
    finally:
        await asyncio.to_thread(target.server.resume)
    await deliver(sink, batch_of([{"n": 3}]))
    assert {row["n"] for row in await target.rows(kafka_topic)} >= {1, 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"acks": 1, "idempotent": True}, "`idempotent` needs `acks: all`"),
        ({"brokers": "kafka.plant"}, "address of a broker"),
        ({"brokers": "kafka.plant:99999"}, "address of a broker"),
        ({"brokers": "kafka://kafka.plant:9092"}, "address of a broker"),
        ({"topic": "${area}"}, "."),
        ({"topic": "sensors/temp"}, "expected a Kafka topic"),
        ({"value": "${"}, "expected a placeholder that ends with }"),
        ({"tls": {"server_name": "x"}}, "server_name"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Options are checked at load time, when file and line are known."""
    given = {"type": "kafka", "brokers": "kafka:9092", "topic": "readings", **options}
    with pytest.raises((ConfigError, ValidationError), match=words):
        KafkaSink(KafkaConfig.model_validate(given), SinkContext("s", tmp_path, tmp_path))
