"""The broker without rules, beside Debian's mosquitto, and the memory of idle connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.meter import IN_FLIGHT, Figure, load_of, measure, named
from servers.install import missing
from servers.mosquitto import Mosquitto
from support.crowd import crowd
from support.limits import raise_file_limit
from support.process import Headgate

IDLE = 2000


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes."""

    at_start: int
    per_idle_connection: float


def publish_alone(directory: Path, connections: int, messages: int, *, at_a_time: int = IN_FLIGHT) -> Figure:
    """Measure QoS 1 publishes to Headgate without any rule."""
    with Headgate(directory, sinks={}, rules={}) as process:
        load = load_of(process.port, connections, messages, in_flight=at_a_time)
        return measure(named("publish alone", at_a_time), process.pid, load)


def mosquitto_alone(connections: int, messages: int, *, at_a_time: int = IN_FLIGHT) -> Figure | None:
    """Measure the same publishes to mosquitto; None if it is not installed."""
    if missing("mosquitto"):
        return None
    with _mosquitto() as server:
        load = load_of(server.port, connections, messages, in_flight=at_a_time)
        return measure(named("publish alone, mosquitto", at_a_time), server.pid, load)


def idle_memory(directory: Path) -> Memory:
    """Measure the memory of a new process, and of each idle connection."""
    count = IDLE if raise_file_limit(IDLE + 500) else 400
    with Headgate(directory, sinks={}, rules={}) as process:
        at_start = process.rss()
        # The first connections make the process import modules, which is not memory of connections.
        with crowd(process.port, 50):
            before = process.rss()
            with crowd(process.port, count, "idle"):
                return Memory(at_start, (process.rss() - before) / count)


@contextlib.contextmanager
def _mosquitto() -> Iterator[Mosquitto]:
    server = Mosquitto()
    try:
        server.start()
        yield server
    finally:
        server.remove()
