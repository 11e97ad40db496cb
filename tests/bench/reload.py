"""Loading and reloading 1,000 rules; ``PYTHONPATH=tests python -m bench.reload`` shows PUBACK latency as well.

A reload of one file is measured in a running process without clients: CPU of the whole process, CPU of the thread
of the event loop, and the longest time for which the loop did not come round.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import structlog

from bench import report
from bench.meter import Cost
from connectors import load_kind
from engine.app.project import read_project
from engine.app.runtime import App
from engine.config.project import load_project
from engine.language.ruleloader import RuleLoader
from support.packets import open_connection, publish, read_packet
from support.process import Headgate

RULES = 1000
RELOADS = 10

STATEMENTS = (
    """-- Hot rooms of plant {n}.
INSERT INTO target SELECT clientid AS device, payload.temp AS temp, now_rfc3339() AS at
FROM "plant/{n}/+/climate" WHERE payload.temp > {n}
""",
    """-- Machines of line {n}, nested anew.
INSERT INTO target
SELECT
  clientid AS device.id, payload.motor.rpm AS motor.rpm, round(payload.motor.current * 230) AS motor.watt,
  CASE WHEN payload.motor.rpm > 1470 THEN 'fast' WHEN payload.motor.rpm > {n} THEN 'normal' ELSE 'slow' END AS pace,
  payload.vibration[1] AS vibration, now_rfc3339() AS at
FROM "lines/{n}/machines/+/state"
""",
    """-- Every element of a batch of device {n}.
INSERT INTO target
FOREACH payload.readings AS r DO clientid AS device, r.name AS name, r.value * 1.8 + 32 AS fahrenheit
INCASE r.value IS NOT NULL AND r.quality = 'good' FROM "batches/{n}" WHERE is_array(payload.readings)
""",
    """-- Text of the old gateway {n}.
INSERT INTO target
SELECT clientid AS device, nth(2, tokens(topic, '/')) AS room, float(nth(1, tokens(payload, ';'))) AS temp
FROM "legacy/{n}/#" WHERE regex_match(payload, '^[0-9.]+;') AND qos > 0
""",
    """-- Presence of the clients of site {n}.
INSERT INTO target
SELECT clientid AS device, event, reason, peername AS address, timestamp AS at
FROM "$events/client/connected", "$events/client/disconnected" WHERE clientid =~ 'site/{n}/+'
""",
)


def make_project(directory: Path, rules: int) -> Path:
    """Write a project with that many rules of five kinds and one sink."""
    (directory / "rules").mkdir(parents=True)
    (directory / "headgate.yaml").write_text("listeners: [{bind: '127.0.0.1:0'}]\napi: {enable: false}\n")
    (directory / "connectors.yaml").write_text("sinks:\n  target: {type: discard}\n")
    for number in range(rules):
        write_rule(directory, number, number)
    return directory


def write_rule(directory: Path, number: int, value: int) -> None:
    """Write the rule `number`; another `value` makes it another statement."""
    (directory / "rules" / f"rule-{number:04}.sql").write_text(statement(number, value))


def statement(number: int, value: int) -> str:
    """Return the text of the rule `number` with that value in it."""
    return STATEMENTS[number % len(STATEMENTS)].format(n=value)


def load_costs(directory: Path) -> list[Cost]:
    """Measure reading the project: everything, its YAML files alone, and its rules again when no rule has changed."""
    loader = RuleLoader()
    first = _cpu_ms(lambda: read_project(directory, {}, loader))
    again = _cpu_ms(lambda: read_project(directory, {}, loader))
    files = _cpu_ms(lambda: load_project(directory, load_kind, {}))
    return [
        Cost("first load", first),
        Cost("load without a change", again),
        Cost("of that: headgate.yaml and connectors.yaml", files),
    ]


async def reload_costs(directory: Path, reloads: int) -> list[Cost]:
    """Measure reloads of a running process: of one edited rule, and with nothing changed."""
    app = App(directory, environ={})
    await app.start()
    try:
        edited = [await _reload(app, directory, number) for number in range(reloads)]
        unchanged = [await _reload(app, directory, None) for _ in range(reloads)]
    finally:
        await app.stop(5.0)
    return [_median("reload of one edited rule", edited), _median("reload without a change", unchanged)]


async def _reload(app: App, directory: Path, number: int | None) -> Cost:
    if number is not None:
        write_rule(directory, number, number + 5000)
    gc.collect()
    turns = Turns()
    watching = asyncio.ensure_future(turns.watch())
    await asyncio.sleep(0.02)
    turns.longest_s = 0.0
    cpu, loop = time.process_time(), time.thread_time()
    await app.reload()
    cpu, loop = time.process_time() - cpu, time.thread_time() - loop
    watching.cancel()
    return Cost("", cpu * 1000, loop * 1000, turns.longest_s * 1000)


class Turns:
    """The longest time by which the event loop was late for a timer of 1 ms: the delay that any client sees."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest_s = max(self.longest_s, time.perf_counter() - begin - 0.001)


def puback_latencies(directory: Path, seconds: float, every_s: float | None) -> list[float]:
    """Publish one QoS 1 message after the other for that long; return the milliseconds to each PUBACK, sorted.

    Meanwhile one rule is edited `every_s` seconds, which the process reloads by itself.
    """
    rules = {f"rule-{number:04}": statement(number, number) for number in range(RULES)}
    latencies: list[float] = []
    with Headgate(directory, sinks={"target": {"type": "discard"}}, rules=rules) as process:
        connection, _ = open_connection(process.port, "probe")
        end = time.monotonic() + seconds
        edit, edits = time.monotonic() + (every_s or seconds * 2), 0
        while time.monotonic() < end:
            begin = time.perf_counter()
            connection.sendall(publish("plant/5/a/climate", b'{"temp": 31.5}', 1))
            read_packet(connection)
            latencies.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.002)
            if every_s is not None and time.monotonic() >= edit:
                process.write_rule(f"rule-{edits + 10:04}", statement(edits + 10, edits + 5000))
                edit, edits = edit + every_s, edits + 1
        connection.close()
    return sorted(latencies)


def _cpu_ms(step: Callable[[], object]) -> float:
    gc.collect()
    begin = time.process_time()
    step()
    return (time.process_time() - begin) * 1000


def _median(name: str, costs: list[Cost]) -> Cost:
    return Cost(
        name,
        median(cost.cpu_ms for cost in costs),
        median(cost.loop_ms or 0.0 for cost in costs),
        median(cost.longest_turn_ms or 0.0 for cost in costs),
    )


def measure(directory: Path) -> list[Cost]:
    """Measure loads and reloads of a project that is made in `directory`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    project = make_project(directory, RULES)
    return [*load_costs(project), *asyncio.run(reload_costs(project, RELOADS))]


def main() -> None:
    """Measure and print, PUBACK latency under reloads included."""
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        print(report.reload_table(measure(Path(folder) / "project")))
        for name, every_s in (("PUBACK without reloads", None), ("PUBACK, one rule edited twice a second", 0.5)):
            found = puback_latencies(Path(folder) / name, 10.0, every_s)
            p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
            print(f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {found[-1]:.2f} ms")


if __name__ == "__main__":
    main()
