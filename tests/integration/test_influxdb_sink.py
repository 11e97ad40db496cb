"""The InfluxDB sink with real servers: InfluxDB 1 and VictoriaMetrics."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.influxdb import InfluxdbSink
from connectors.influxdb.options import InfluxdbConfig
from engine.connector import SinkContext
from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.model.record import Batch, Chunk, Row
from servers.influxdb import PASSWORD, USER, Influxdb, Point
from servers.victoriametrics import Victoriametrics
from support.sinks import harness
from support.sinks.harness import batch_of

TIME_MS = 1_700_000_000_000


class Target:
    """One database, and sinks that write to it."""

    def __init__(self, server: Influxdb, database: str, folder: Path) -> None:
        self.server = server
        self.database = database
        self._folder = folder
        self._sinks: list[InfluxdbSink] = []

    def sink(self, **options: Any) -> InfluxdbSink:
        given = {
            "type": "influxdb", "url": self.server.url, "database": self.database, "username": USER,
            "password": PASSWORD, "connect_timeout": 2, **options,
        }  # fmt: skip
        if "write_syntax" not in options:
            given = {"measurement": "m", "tags": {"device": "${device}"}, **given}
        sink = InfluxdbSink(InfluxdbConfig.model_validate(given), SinkContext("s", self._folder, self._folder))
        self._sinks.append(sink)
        return sink

    async def connected(self, **options: Any) -> InfluxdbSink:
        sink = self.sink(**options)
        await sink.connect()
        return sink

    async def points(self, measurement: str = "m") -> list[Point]:
        return await asyncio.to_thread(self.server.points, measurement, self.database)

    async def execute(self, statement: str) -> None:
        await asyncio.to_thread(self.server.execute, statement, database=self.database)

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()


@pytest.fixture
async def target(influxdb_server: Influxdb, influxdb_database: str, tmp_path: Path) -> AsyncIterator[Target]:
    target = Target(influxdb_server, influxdb_database, tmp_path)
    yield target
    await target.close()


async def write(sink: InfluxdbSink, *rows: Row) -> dict[int, DeliveryError]:
    return dict(await harness.write(sink, batch_of(list(rows))))


async def deliver(sink: InfluxdbSink, batch: Batch) -> None:
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
                except (NotConnectedError, RetryableError):
                    continue


async def test_values_keep_their_types_and_digits(target: Target) -> None:
    """Integers above 2^53, floats, booleans, text with everything that needs an escape, JSON of nested values."""
    row: Row = {
        "device": "hall 1, west=ön\\x", "large": 2**62 + 1, "float": 0.1, "tiny": 5e-324, "yes": True, "null": None,
        "text": 'say "hi", a\\b\n🌡\0 = end\\', "empty": "", "map": {"a": [1, None]},
    }  # fmt: skip
    fields = {name: f"${{{name}}}" for name in row if name != "device"} | {"large": "${large}i"}
    assert await write(await target.connected(fields=fields, measurement="a b,c=d"), row) == {}
    (point,) = await target.points("a b,c=d")
    assert point.pop("time") == 1_700_000_000_001 * 10**6 + 1
    assert point == {**{k: v for k, v in row.items() if v is not None}, "map": '{"a":[1,null]}'}
    assert type(point["large"]) is int


async def test_timestamps_of_every_precision(target: Target) -> None:
    """The same moment in each unit is the same point."""
    times: dict[str, Any] = {"s": 1_700_000_000, "ms": TIME_MS, "us": TIME_MS * 1000, "ns": TIME_MS * 10**6}
    for precision, at in times.items():
        sink = await target.connected(timestamp="${at}", precision=precision)
        assert await write(sink, {"device": "a", precision: 1, "at": at}) == {}
        assert await write(sink, {"device": "a", f"{precision}_text": 1, "at": "2023-11-14T23:13:20+01:00"}) == {}
    (point,) = await target.points()
    assert point == {
        "time": TIME_MS * 10**6, "device": "a", **dict.fromkeys(times, 1),
        **{f"{precision}_text": 1 for precision in times},
    }  # fmt: skip


async def test_emqx_write_syntax(target: Target) -> None:
    """A line of EMQX's with all types."""
    sink = await target.connected(
        write_syntax='climate,device=${device} temp=${temp},n=${n}i,ok=${ok},note="${note}" ${timestamp}'
    )
    row = {"device": "a", "temp": 21, "n": 2**53 + 1, "ok": False, "note": "x", "timestamp": TIME_MS}
    assert await write(sink, row, {**row, "temp": 21.5, "n": None, "timestamp": TIME_MS + 1}) == {}
    first, second = await target.points("climate")
    assert first == {
        "time": TIME_MS * 10**6, "device": "a", "temp": 21, "n": 2**53 + 1, "ok": False, "note": "x",
    }  # fmt: skip
    assert (second["temp"], "n" in second) == (21.5, False)


async def test_points_of_one_millisecond_are_all_kept(target: Target) -> None:
    """Without a timestamp of their own they would overwrite each other."""
    rows: list[Row] = [{"device": "a", "n": n} for n in range(500)]
    batch = Batch("s", 0, range(1, 501), rows, [Chunk("r", "c", 0, TIME_MS, "t", rows)])
    sink = await target.connected()
    for _ in range(2):  # sent twice, stored once
        assert await harness.write(sink, batch) == {}
    assert [point["n"] for point in await target.points()] == list(range(500))


async def test_five_bad_records_among_a_thousand_fail_alone(target: Target) -> None:
    """Three that the sink refuses, two that the server does: 995 are stored once, and each reason names the field."""
    sink = await target.connected(fields={"temp": "${temp}", "n": "${n}i"}, timestamp="${at}")
    bad: dict[int, Row] = {3: {"n": 2**63}, 250: {"temp": float("nan")}, 499: {"temp": "warm"}, 500: {"temp": True},
                           999: {"n": "many"}}  # fmt: skip
    rows = [{"device": "a", "temp": n / 2, "n": n, "at": TIME_MS + n} | bad.get(n, {}) for n in range(1000)]
    failures = await write(sink, *rows)
    assert sorted(failures) == sorted(bad)
    assert {type(error) for error in failures.values()} == {RejectError}
    said = {index: error.message for index, error in failures.items()}
    assert "field n" in said[3]
    assert "field temp" in said[250]
    assert 'input field "temp" on measurement "m" is type string, already exists as type float' in said[499]
    assert "is type boolean" in said[500]
    assert "field n" in said[999]
    assert [point["n"] for point in await target.points()] == [n for n in range(1000) if n not in bad]


async def test_points_outside_the_retention_policy_are_rejected(target: Target) -> None:
    """The server drops them, and says only how many."""
    await target.execute(f'CREATE RETENTION POLICY "hour" ON "{target.database}" DURATION 1h REPLICATION 1')
    sink = await target.connected(retention_policy="hour", timestamp="${at}", precision="s")
    failures = await write(sink, {"device": "a", "n": 1, "at": 1_700_000_000})
    assert "retention policy" in failures[0].message
    assert isinstance(failures[0], RejectError)


async def test_wrong_password_holds_until_it_is_right(target: Target) -> None:
    """Connect finds it, also when it is tried again; the password is not shown."""
    sink = target.sink(password="surely-wrong")
    for _ in range(3):
        with pytest.raises(HoldError, match="check `username` and `password`") as caught:
            await sink.connect()
        assert "surely-wrong" not in caught.value.message
    await asyncio.to_thread(target.server.execute, "CREATE USER late WITH PASSWORD 'x'")
    sink = target.sink(username="late", password="x")
    with pytest.raises(HoldError, match="right to write to"):
        await sink.connect()
    await target.execute(f'GRANT WRITE ON "{target.database}" TO late')
    await sink.connect()
    assert await write(sink, {"device": "a", "n": 1}) == {}
    await target.execute("DROP USER late")


async def test_missing_database_holds_until_it_is_created(target: Target) -> None:
    """Connect finds it, so that the sink does not flap."""
    name = f"{target.database}_late"
    sink = target.sink(database=name)
    for _ in range(3):
        with pytest.raises(HoldError, match="create the database"):
            await sink.connect()
    await target.execute(f'CREATE DATABASE "{name}"')
    await sink.connect()
    assert await write(sink, {"device": "a", "n": 1}) == {}
    await target.execute(f'DROP DATABASE "{name}"')


async def test_missing_retention_policy_holds(target: Target) -> None:
    """InfluxDB 1 answers 500, which would otherwise be retried for ever."""
    sink = target.sink(retention_policy="week")
    with pytest.raises(HoldError, match="correct `retention_policy`"):
        await sink.connect()
    await target.execute(f'CREATE RETENTION POLICY "week" ON "{target.database}" DURATION 7d REPLICATION 1')
    await sink.connect()
    await target.execute(f'DROP RETENTION POLICY "week" ON "{target.database}"')
    with pytest.raises(HoldError, match="correct `retention_policy`"):
        await write(sink, {"device": "a", "n": 1})


async def test_server_killed_in_the_middle_loses_and_doubles_nothing(target: Target) -> None:
    """`kill -9` while batches flow: repeated points overwrite themselves."""
    sink = await target.connected(request_timeout=5)
    killed: asyncio.Task[None] | None = None
    for start in range(0, 5000, 100):
        if start == 2000:
            killed = asyncio.get_running_loop().create_task(asyncio.to_thread(target.server.restart))
        rows: list[Row] = [{"device": f"d{n % 3}", "n": n} for n in range(start, start + 100)]
        await deliver(sink, batch_of(rows, first_seq=start + 1))
        await asyncio.sleep(0.01 if killed and not killed.done() else 0)
    assert killed is not None
    await killed
    assert [point["n"] for point in await target.points()] == list(range(5000))


async def test_hanging_server_is_given_up_in_time(target: Target) -> None:
    """The outcome is unknown, and the batch is sent again."""
    sink = await target.connected(request_timeout=1)
    await asyncio.to_thread(target.server.pause)
    try:
        with pytest.raises(RetryableError, match="did not answer in time"):
            await write(sink, {"device": "a", "n": 1})
    finally:
        await asyncio.to_thread(target.server.resume)
    await deliver(sink, batch_of([{"device": "a", "n": 1}]))
    assert [point["n"] for point in await target.points()] == [1]


@pytest.fixture
async def metrics(victoriametrics_server: Victoriametrics, tmp_path: Path) -> AsyncIterator[Metrics]:
    victoriametrics_server.start()
    metrics = Metrics(victoriametrics_server, tmp_path)
    yield metrics
    await metrics.sink.close()


class Metrics:
    """A sink for VictoriaMetrics, which is not connected."""

    def __init__(self, server: Victoriametrics, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self.sink = self.new()

    def new(self, **options: Any) -> InfluxdbSink:
        given = {
            "type": "influxdb", "url": self.server.url, "version": "victoriametrics", "measurement": "m",
            "tags": {"device": "${device}"}, "timestamp": "${at}", "connect_timeout": 2, **options,
        }  # fmt: skip
        return InfluxdbSink(InfluxdbConfig.model_validate(given), SinkContext("s", self._folder, self._folder))

    async def samples(self, metric: str) -> dict[str, dict[int, float]]:
        return await asyncio.to_thread(self.server.samples, metric)


async def test_victoriametrics_stores_numbers_and_booleans(metrics: Metrics) -> None:
    """Integers, unsigned ones and booleans; text is left out, and so is a record of text alone."""
    fields = {"a_f": "${f}", "a_i": "${i}i", "a_u": "${u}u", "a_b": "${b}", "a_t": "${t}"}
    sink = metrics.new(fields=fields)
    await sink.connect()
    failures = await write(
        sink,
        {"device": "d 1,=", "f": 1.5, "i": -7, "u": 2**40, "b": True, "t": "x\ny", "at": TIME_MS},
        {"device": "d 1,=", "t": "text", "at": TIME_MS},
    )
    assert list(failures) == [1]
    assert "VictoriaMetrics stores no text" in failures[1].message
    found = {name: await metrics.samples(f"m_{name}") for name in fields}
    at = {"d 1,=": {TIME_MS: 1.5}}
    assert found == {
        "a_f": at, "a_i": {"d 1,=": {TIME_MS: -7.0}}, "a_u": {"d 1,=": {TIME_MS: float(2**40)}},
        "a_b": {"d 1,=": {TIME_MS: 1.0}}, "a_t": {},
    }  # fmt: skip
    await sink.close()


@pytest.mark.parametrize("version", ["1", "2", "victoriametrics"])
async def test_victoriametrics_takes_every_write_api(metrics: Metrics, version: str) -> None:
    """Also by the paths of InfluxDB 1 and 2, compressed."""
    name = f"api_{version}"
    target = {"1": {"database": "d"}, "2": {"bucket": "b", "org": "o"}}.get(version, {})
    sink = metrics.new(version=version, fields={name: "${n}"}, **target)
    await sink.connect()
    assert await write(sink, *({"device": "a", "n": n, "at": TIME_MS + n} for n in range(1000))) == {}
    samples = await metrics.samples(f"m_{name}")
    assert samples["a"] == {TIME_MS + n: float(n) for n in range(1000)}
    await sink.close()


async def test_victoriametrics_outage_delays_rows(metrics: Metrics) -> None:
    """A batch is sent again until the server is back. What it confirmed seconds before `kill -9` it may lose itself."""
    sink = metrics.new(fields={"outage": "${n}"})
    await sink.connect()
    await asyncio.to_thread(metrics.server.kill)
    with pytest.raises((NotConnectedError, RetryableError)):
        await write(sink, {"device": "a", "n": 2, "at": TIME_MS})
    await asyncio.to_thread(metrics.server.start)
    await deliver(sink, batch_of([{"device": "a", "n": 2, "at": TIME_MS}]))
    assert await metrics.samples("m_outage") == {"a": {TIME_MS: 2.0}}
    await sink.close()
