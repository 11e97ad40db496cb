"""The whole path: publishes through a rule that passes half of them, the journal, and each kind of sink."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.meter import IN_FLIGHT, Figure, cpu_s, load_of, measure, named, publish
from servers.install import missing
from servers.kafka import Kafka
from servers.postgresql import Postgresql
from servers.process import Server, free_port
from support.process import Headgate
from support.wait import wait_until

SETTLE_S = 60.0
DRAIN_S = 120.0

HALF = """
INSERT INTO target
SELECT payload.device AS device, payload.temp AS temp, payload.humidity AS humidity, payload.seq AS seq
FROM "sensors/+/temp"
WHERE payload.temp > 30
"""
ALL = HALF.replace("WHERE payload.temp > 30", "")
OTHER = HALF.replace("sensors/+/temp", "other/{number}/+/temp")

TABLE = "CREATE TABLE readings (device text, temp float8, humidity float8, seq integer)"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Result of draining a backlog of a million rows into a sink."""

    kind: str
    rows: int
    rss_before: int
    rss_full: int
    rss_max: int
    """The most while the rows came, waited and were drained."""
    seconds: float
    cpu_us: float

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def to_sink(
    directory: Path, kind: str, connections: int, messages: int, *, at_a_time: int = IN_FLIGHT
) -> Figure | None:
    """Measure the rule with a sink of that kind; None if its server is not installed."""
    if not has_server(kind):
        return None
    with _target(kind, directory) as sink, Headgate(directory, sinks={"target": sink}, rules={"half": HALF}) as process:
        return _measure(f"rule, journal, {kind} sink", process, connections, messages, at_a_time=at_a_time)


def one_of_many_rules(directory: Path, rules: int, connections: int, messages: int) -> Figure:
    """Measure that many rules, of which one matches, with a sink that discards."""
    others = {f"other-{number}": OTHER.format(number=number) for number in range(rules - 1)}
    with Headgate(directory, sinks={"target": {"type": "discard"}}, rules={"half": HALF, **others}) as process:
        return _measure(
            f"{rules:,} rules, one matches" if rules > 1 else "1 rule, it matches", process, connections, messages
        )


def drain(directory: Path, kind: str, rows: int) -> Backlog | None:
    """Publish while the sink is unreachable, then let it connect; measure time and memory of the drain."""
    if not has_server(kind):
        return None
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in", "buffer": {"max_bytes": "4GiB"}}
    with _target(kind, directory) as sink, Headgate(directory, sinks={"target": away}, rules={"all": ALL}) as process:
        rss_before = process.rss()
        publish(load_of(process.port, 10, rows))
        wait_until(lambda: process.sink("target")["buffered"] == rows, 10, "all rows wait", detail=process.sinks)
        rss_full = process.rss()
        process.write_sinks({"target": {**sink, "buffer": {"max_bytes": "4GiB"}}})
        wait_until(lambda: process.sink("target")["type"] == kind, 10, "the sink is put right")
        used, started = cpu_s(psutil.Process(process.pid)), time.monotonic()
        left = process.sink("target")["buffered"]
        process.settle(deadline_s=DRAIN_S)
        seconds = time.monotonic() - started
        cpu = cpu_s(psutil.Process(process.pid)) - used
        process.check_counters()
        return Backlog(kind, left, rss_before, rss_full, process.rss_max(), seconds, cpu / max(left, 1) * 1e6)


def _measure(name: str, process: Headgate, connections: int, messages: int, *, at_a_time: int = IN_FLIGHT) -> Figure:
    figure = measure(
        named(name, at_a_time),
        process.pid,
        load_of(process.port, connections, messages, in_flight=at_a_time),
        settle=lambda: process.settle(deadline_s=SETTLE_S),
    )
    process.check_counters()
    return figure


def has_server(kind: str) -> bool:
    """Whether the server of this kind of sink, if it has one, can be started here."""
    return kind not in ("postgresql", "kafka") or not missing(kind)


@contextlib.contextmanager
def _target(kind: str, directory: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the options of a sink of that kind with an existing target."""
    if kind == "postgresql":
        with _running(Postgresql()) as server:
            server.execute(TABLE)
            yield {"type": kind, "dsn": server.dsn(), "table": "readings"}
    elif kind == "kafka":
        with _running(Kafka()) as server:
            server.create_topic("readings")
            yield {"type": kind, "brokers": [server.address], "topic": "readings", "key": "${device}"}
    else:
        yield {
            "discard": {"type": "discard"},
            "file": {"type": "file", "path": "readings.jsonl"},
            "sqlite": {"type": "sqlite", "path": "readings.db", "table": "readings"},
        }[kind]


@contextlib.contextmanager
def _running(server: Any) -> Iterator[Any]:
    assert isinstance(server, Server)
    try:
        server.start()
        yield server
    finally:
        server.remove()
