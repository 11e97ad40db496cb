"""Ten simulated devices that publish over MQTT, so that a new user sees rows within seconds.

``headgate run --demo`` uses `Demonstration`, which runs the devices in a process of their own, to keep their work out
of the broker's, and prints how many rows have arrived. ``headgate demo`` is that process.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import paho.mqtt.client as mqtt
import structlog
import typer
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker.origin import Address
from engine.admin.port import AdminPort
from engine.cli.report import write_line
from engine.service.clock import Clock, SystemClock
from engine.service.tasks import Tasks

log = structlog.get_logger()

TICK_S = 0.1
REPORT_INTERVAL_S = 2.0
STOP_TIMEOUT_S = 3.0
AWAY_EVERY_S = 12.0
"""Time between two losses of the van's connection, in seconds."""
AWAY_S = 5.0

Reading = Callable[[float, Random], Any]
"""Returns the reading of a device at a time in seconds; text is sent as it is, other values as JSON."""


def _climate(phase: float, warmth: float) -> Reading:
    def read(now: float, random: Random) -> Any:
        temperature = warmth + 4 * math.sin(now / 15 + phase) + random.uniform(-0.3, 0.3)
        return {"temp": round(temperature, 1), "humidity": round(45 + 8 * math.cos(now / 40 + phase))}

    return read


def _pump(now: float, random: Random) -> Any:
    rpm = 1450 + round(30 * math.sin(now / 7)) + random.randint(-5, 5)
    return {
        "motor": {"rpm": rpm, "current": round(rpm / 200, 2)},
        "vibration": [random.randint(1, 9) for _ in range(3)],
    }


def _meter(now: float, random: Random) -> Any:
    return {"kwh": round(now / 36, 3), "phases": [{"n": n, "volt": 229 + random.randint(0, 3)} for n in (1, 2, 3)]}


def _van(now: float, random: Random) -> Any:
    return {"lat": round(53.55 + math.sin(now / 60) / 50, 5), "lon": round(9.99 + math.cos(now / 60) / 30, 5)}


def _boiler(now: float, random: Random) -> Any:
    return f"{60 + random.randint(0, 9)};{1.2 + random.random() / 5:.2f}"


def _door(now: float, random: Random) -> Any:
    return {"open": random.random() < 0.3}


@dataclass(frozen=True, slots=True)
class Device:
    """A simulated device."""

    client_id: str
    topic: str
    read: Reading
    interval_s: float
    qos: int = 1
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    retain: bool = False
    is_flaky: bool = False
    """Whether it drops its connection without DISCONNECT now and then, and reconnects."""


FLEET = (
    Device("kitchen", "sensors/kitchen/climate", _climate(0.0, 24.0), 1.0),
    Device("office", "sensors/office/climate", _climate(2.0, 22.0), 1.0, protocol=MQTTProtocolVersion.MQTTv311),
    Device("server-room", "sensors/server-room/climate", _climate(4.0, 30.0), 0.5, qos=2),
    Device("greenhouse", "sensors/greenhouse/climate", _climate(1.0, 28.0), 1.5, qos=0),
    Device("front-door", "doors/front/state", _door, 4.0, retain=True),
    Device("pump-1", "machines/pump-1/state", _pump, 0.5),
    Device("pump-2", "machines/pump-2/state", _pump, 0.7, protocol=MQTTProtocolVersion.MQTTv311),
    Device("meter", "meters/main/power", _meter, 2.0),
    Device("boiler", "legacy/boiler", _boiler, 2.0, qos=0, protocol=MQTTProtocolVersion.MQTTv311),
    Device("van-7", "vehicles/van-7/position", _van, 1.0, is_flaky=True),
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("demo", hidden=True)(demo)


def demo(
    host: str = typer.Option("127.0.0.1", "--host", "-h", help="The broker."),
    port: int = typer.Option(1883, "--port", "-p", help="Its port."),
) -> None:
    """Publish as ten simulated devices until stopped; `headgate run --demo` does this too.

    Examples:

      headgate demo -p 1883
    """
    # As Ctrl-C does, so that every device sends DISCONNECT.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = SystemClock()
    devices = [SimulatedDevice(device, Address(host, port), clock) for device in FLEET]
    try:
        asyncio.run(_publish(devices, clock))
    except KeyboardInterrupt:
        pass
    finally:
        for device in devices:
            device.close()


async def _publish(devices: list[SimulatedDevice], clock: Clock) -> None:
    """Publish until the parent process ends."""
    parent = os.getppid()
    while os.getppid() == parent:
        for device in devices:
            device.tick()
        await clock.sleep(TICK_S)


class SimulatedDevice:
    """A device and its connection."""

    def __init__(self, device: Device, broker: Address, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._random = Random(device.client_id)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, device.client_id, protocol=device.protocol)
        self._client.will_set(f"fleet/{device.client_id}/status", "lost", qos=1)
        self._client.connect_async(broker.host, broker.port, keepalive=20)
        self._client.reconnect_delay_set(1, 5)
        self._client.loop_start()
        self._started_at = clock.monotonic()
        self._due_at = self._started_at
        self._back_at: float | None = None

    def tick(self) -> None:
        """Publish a reading if one is due."""
        now = self._clock.monotonic()
        if self._device.is_flaky:
            self._drop_or_reconnect(now)
        if now < self._due_at or self._back_at is not None or not self._client.is_connected():
            return
        self._due_at = now + self._device.interval_s
        reading = self._device.read(now - self._started_at, self._random)
        payload = reading if isinstance(reading, str) else json.dumps(reading)
        self._client.publish(self._device.topic, payload, self._device.qos, self._device.retain)

    def close(self) -> None:
        """Send DISCONNECT and close the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _drop_or_reconnect(self, now: float) -> None:
        if self._back_at is None:
            away_from = self._started_at + AWAY_EVERY_S
            if now >= away_from and self._client.is_connected():
                self._back_at = now + AWAY_S
                self._drop_connection()
        elif now >= self._back_at:
            self._back_at = None
            self._started_at = now
            self._client.reconnect()
            self._client.loop_start()

    def _drop_connection(self) -> None:
        """Close the connection without DISCONNECT, so that the broker publishes the will."""
        self._client.loop_stop()
        connection = self._client.socket()
        if connection is not None:
            connection.close()


class Demonstration:
    """The simulated devices beside a running Headgate, and a line with the rows so far. A `Service`."""

    def __init__(self, port: AdminPort, broker: Address, clock: Clock | None = None) -> None:
        self._port = port
        self._broker = broker
        self._clock = clock or SystemClock()
        self._tasks = Tasks("demo")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process of the devices."""
        host, port = self._broker
        command = (sys.executable, "-P", "-m", "engine", "demo", "--host", host, "--port", str(port))
        self._process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        self._tasks.spawn(self._report(), "report")

    async def stop(self) -> None:
        """Stop that process."""
        await self._tasks.cancel()
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _report(self) -> None:
        write_line(f"\nTen simulated devices publish to {self._broker}. Rows so far:", sys.stdout)
        last: dict[str, int] = {}
        while True:
            await self._clock.sleep(REPORT_INTERVAL_S)
            rows = {sink.id: sink.delivered for sink in self._port.sinks()}
            if rows != last:
                write_line("  " + "   ".join(f"{name} {count:,}" for name, count in rows.items()), sys.stdout)
            last = rows
