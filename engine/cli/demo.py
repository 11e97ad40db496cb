"""Ten simulated devices of different kinds, publishing over real MQTT: what a newcomer sees rows of within seconds.

`Demonstration` belongs to ``headgate run --demo``: it runs the fleet in a process of its own, so that its work is not
done in the broker's, and says every now and then how many rows have arrived. ``headgate demo`` is that process.
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
from engine.cli.report import say
from engine.service.clock import Clock, SystemClock
from engine.service.tasks import Tasks

log = structlog.get_logger()

TICK_S = 0.1
TELL_INTERVAL_S = 2.0
STOP_TIMEOUT_S = 3.0
AWAY_EVERY_S = 12.0
"""How often the van drives out of reach."""
AWAY_S = 5.0

Reading = Callable[[float, Random], Any]
"""What a device measures at a time in seconds; text and bytes are sent as they are, all else as JSON."""


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
    """One of the fleet."""

    client_id: str
    topic: str
    read: Reading
    interval_s: float
    qos: int = 1
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    retain: bool = False
    is_flaky: bool = False
    """Drops its connection without a word now and then, and comes back."""


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
    """Let ten simulated devices publish until stopped; `headgate run --demo` does this too.

    Examples:

      headgate demo -p 1883
    """
    # As Ctrl-C does: every device says good-bye.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = SystemClock()
    devices = [SimulatedDevice(device, Address(host, port), clock) for device in FLEET]
    try:
        asyncio.run(_publish(devices, clock))
    except KeyboardInterrupt:
        pass
    finally:
        for device in devices:
            device.leave()


async def _publish(devices: list[SimulatedDevice], clock: Clock) -> None:
    """Ends when the process that started this one has ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        for device in devices:
            device.tick()
        await clock.sleep(TICK_S)


class SimulatedDevice:
    """A device with its connection."""

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
        """Do what is due."""
        now = self._clock.monotonic()
        if self._device.is_flaky:
            self._come_and_go(now)
        if now < self._due_at or self._back_at is not None or not self._client.is_connected():
            return
        self._due_at = now + self._device.interval_s
        reading = self._device.read(now - self._started_at, self._random)
        payload = reading if isinstance(reading, str) else json.dumps(reading)
        self._client.publish(self._device.topic, payload, self._device.qos, self._device.retain)

    def leave(self) -> None:
        """Say good-bye and disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _come_and_go(self, now: float) -> None:
        if self._back_at is None:
            away_from = self._started_at + AWAY_EVERY_S
            if now >= away_from and self._client.is_connected():
                self._back_at = now + AWAY_S
                self._vanish()
        elif now >= self._back_at:
            self._back_at = None
            self._started_at = now
            self._client.reconnect()
            self._client.loop_start()

    def _vanish(self) -> None:
        """Lose the connection as a van in a tunnel does: no DISCONNECT, so that the will is published."""
        self._client.loop_stop()
        connection = self._client.socket()
        if connection is not None:
            connection.close()


class Demonstration:
    """The fleet beside a running Headgate, and a line on what has arrived. A `Service`."""

    def __init__(self, port: AdminPort, broker: Address, clock: Clock | None = None) -> None:
        self._port = port
        self._broker = broker
        self._clock = clock or SystemClock()
        self._tasks = Tasks("demo")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the fleet's process."""
        host, port = self._broker
        command = (sys.executable, "-P", "-m", "engine", "demo", "--host", host, "--port", str(port))
        self._process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        self._tasks.spawn(self._tell(), "tell")

    async def stop(self) -> None:
        """Stop it again."""
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

    async def _tell(self) -> None:
        say(f"\nTen simulated devices publish to {self._broker}. Rows so far:", sys.stdout)
        last: dict[str, int] = {}
        while True:
            await self._clock.sleep(TELL_INTERVAL_S)
            rows = {sink.id: sink.delivered for sink in self._port.sinks()}
            if rows != last:
                say("  " + "   ".join(f"{name} {count:,}" for name, count in rows.items()), sys.stdout)
            last = rows
