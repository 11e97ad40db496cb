"""Measurement of a server process under load: messages per second, and CPU of all its threads per message."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from bench.load import Load, LoadResult

TESTS = Path(__file__).resolve().parent.parent
WARM_UP_MESSAGES = 20_000
RUNS = 2
"""Of each measurement: on a machine that does other things as well the better one says more."""
IN_FLIGHT = 4000
"""Unacknowledged messages of all connections together."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Result of one load. ``cpu_us`` is CPU of the server per published message, delivery to sinks included."""

    name: str
    connections: int
    rate: float
    """Messages acknowledged a second."""
    delivered_rate: float | None
    """Messages a second until the last row had been delivered, where there are any."""
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one step, in milliseconds of CPU; of a reload also what the event loop paid."""

    name: str
    cpu_ms: float
    loop_ms: float | None = None
    longest_turn_ms: float | None = None


def measure(name: str, pid: int, load: Load, *, settle: Callable[[], None] | None = None) -> Figure:
    """Warm up, publish `load` a few times, each until `settle` returns, and return the cheapest run."""
    process = psutil.Process(pid)
    publish(replace(load, messages=WARM_UP_MESSAGES))
    if settle is not None:
        settle()
    return min((_measure_once(name, process, load, settle) for _ in range(RUNS)), key=lambda figure: figure.cpu_us)


def _measure_once(name: str, process: psutil.Process, load: Load, settle: Callable[[], None] | None) -> Figure:
    cpu = cpu_s(process)
    outcome = publish(load)
    published = time.monotonic()
    if settle is not None:
        settle()
    seconds = outcome.seconds + time.monotonic() - published
    used = cpu_s(process) - cpu
    if outcome.refused or not outcome.complete:
        raise RuntimeError(f"{name}: {outcome}")
    return Figure(
        name=name,
        connections=load.connections,
        rate=outcome.acknowledged / outcome.seconds,
        delivered_rate=None if settle is None else outcome.acknowledged / seconds,
        cpu_us=used / outcome.acknowledged * 1e6,
    )


def load_of(port: int, connections: int, messages: int, *, in_flight: int = IN_FLIGHT, version: int = 4) -> Load:
    """Return a load whose connections share the number of messages in flight."""
    window = max(1, in_flight // connections)
    return Load(port=port, connections=connections, messages=messages, window=window, version=version)


def named(name: str, at_a_time: int) -> str:
    """Return the name of a measurement, with the number in flight if it is not the default."""
    return name if at_a_time == IN_FLIGHT else f"{name}, {at_a_time} in flight"


def publish(load: Load) -> LoadResult:
    """Run the load in a process of its own, so that its CPU is counted apart."""
    arguments = [
        part for field in fields(load) for part in (f"--{field.name.replace('_', '-')}", str(getattr(load, field.name)))
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", *arguments],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        timeout=load.deadline_s + 30,
        check=False,
    )
    return LoadResult(**json.loads(done.stdout))


def cpu_s(process: psutil.Process) -> float:
    """Return user and system time of all threads so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
