"""``scripts/bench``: measures every figure of the README; ``--readme`` writes them there.

Figures depend on the machine and its load: compare them with those of mosquitto in the same run. Nothing is asserted
about them. ``--only WORD`` runs the measurements whose name contains the word.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import broker, pipeline, reload, report
from bench.meter import Figure

CONNECTIONS = (1, 50)
SINKS = ("discard", "file", "sqlite", "postgresql", "kafka")
RULES = (1, 100, 1000)
DRAINED_INTO = ("file", "postgresql")
BACKLOG_ROWS = 1_000_000

Measurement = Callable[[], Figure | None]


def measurements(folder: Path, messages: int) -> Iterator[tuple[str, Measurement]]:
    """Return all measurements of messages, by name."""
    numbers = iter(range(1_000_000))

    def fresh() -> Path:
        return folder / str(next(numbers))

    for count in CONNECTIONS:
        yield f"mosquitto {count}", partial(broker.mosquitto_alone, count, messages)
        yield f"alone {count}", partial(broker.publish_alone, fresh(), count, messages)
        for kind in SINKS:
            yield f"sink {kind} {count}", partial(pipeline.to_sink, fresh(), kind, count, messages)
    yield "mosquitto slow", partial(broker.mosquitto_alone, 50, messages // 4, at_a_time=50)
    yield "alone slow", partial(broker.publish_alone, fresh(), 50, messages // 4, at_a_time=50)
    yield "sink file slow", partial(pipeline.to_sink, fresh(), "file", 50, messages // 4, at_a_time=50)
    for rules in RULES:
        yield f"rules {rules}", partial(pipeline.one_of_many_rules, fresh(), rules, 1, messages)


def main() -> int:
    """Measure and print, and with ``--readme`` write into the README."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Headgate.")
    parser.add_argument("--only", default="", metavar="WORD", help="only measurements whose name holds the word")
    parser.add_argument("--messages", type=int, default=400_000, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=BACKLOG_ROWS, help="of the backlog (default: %(default)s)")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        text = _measure_all(Path(folder), options.only, options.messages, options.rows)
    if options.readme:
        report.write_readme(text)
    print(text)
    return 0


def _measure_all(folder: Path, only: str, messages: int, rows: int) -> str:
    figures = []
    for name, run in measurements(folder, messages):
        if only in name and (figure := _announced(name, run)) is not None:
            figures.append(figure)
    parts = [report.machine_line(), report.figures_table(figures)]
    if only in "backlog":
        backlogs = [pipeline.drain(folder / f"backlog-{kind}", kind, rows) for kind in DRAINED_INTO]
        parts.append(report.backlog_table(backlog for backlog in backlogs if backlog is not None))
    if only in "reload":
        parts.append(report.reload_table(reload.measure(folder / "reload")))
    if only in "memory":
        parts.append(report.memory_line(broker.idle_memory(folder / "memory")))
    return "\n\n".join(parts)


def _announced(name: str, run: Measurement) -> Figure | None:
    figure = run()
    result = "left out" if figure is None else f"{figure.rate:,.0f}/s {figure.cpu_us:.2f} us"
    print(f"{name}: {result}", file=sys.stderr, flush=True)
    return figure


if __name__ == "__main__":
    sys.exit(main())
