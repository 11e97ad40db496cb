"""Markdown tables of the figures, written into the README between two markers."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.broker import Memory
from bench.meter import RUNS, Cost, Figure
from bench.pipeline import Backlog

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the table of messages per second and CPU per message."""
    rows = [
        (
            figure.name,
            str(figure.connections),
            _thousands(figure.rate),
            "" if figure.delivered_rate is None else _thousands(figure.delivered_rate),
            f"{figure.cpu_us:.1f}",
        )
        for figure in figures
    ]
    return table(("QoS 1 publishes", "connections", "acknowledged/s", "delivered/s", "CPU µs/message"), rows)


def backlog_table(backlogs: Iterable[Backlog]) -> str:
    """Return the table of draining a backlog, with memory."""
    rows = [
        (
            backlog.kind,
            f"{backlog.rows:,}",
            _thousands(backlog.rate),
            f"{backlog.cpu_us:.1f}",
            _mebibytes(backlog.rss_before),
            _mebibytes(backlog.rss_full),
            _mebibytes(backlog.rss_max),
        )
        for backlog in backlogs
    ]
    head = ("a backlog drained into", "rows", "rows/s", "CPU µs/row", "memory before", "with the backlog", "most")
    return table(head, rows)


def reload_table(costs: Iterable[Cost]) -> str:
    """CPU of loading rules, and the share of the event loop."""
    rows = [
        (cost.name, _milliseconds(cost.cpu_ms), *map(_milliseconds, (cost.loop_ms, cost.longest_turn_ms)))
        for cost in costs
    ]
    return table(("1,000 rules", "CPU ms", "of the event loop", "longest delay ms"), rows)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def memory_line(memory: Memory) -> str:
    """Return the line on memory of an idle process."""
    idle = memory.per_idle_connection / 1024
    return f"Memory at start {_mebibytes(memory.at_start)}, for each idle connection {idle:.1f} KiB."


def machine_line() -> str:
    """Return the description of the measurement and the machine."""
    return (
        "QoS 1 publishes of an 80-byte JSON to one Headgate process; its rule passes half of them. CPU is that of the"
        " whole process, user and system, journal and delivery included, for each message published. "
        f"The better of {RUNS} runs. Python {platform.python_version()}, {os.cpu_count()} cores of an {_processor()},"
        " shared with the publisher and all other servers. `scripts/bench --readme` measures it anew."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns, except the first, are aligned right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_readme(text: str) -> None:
    """Write `text` between the markers of the README. Raises `ValueError` if the markers are missing."""
    before = README.read_text("utf-8")
    if BEGIN not in before or END not in before:
        raise ValueError(f"README.md has no {BEGIN} … {END}")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    README.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", before), "utf-8")


def _thousands(value: float) -> str:
    return f"{round(value, -3):,.0f}"


def _mebibytes(value: float) -> str:
    return f"{value / (1 << 20):.0f} MiB"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
