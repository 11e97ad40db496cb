"""The project that most acceptance tests run: hot readings, half of all, go to a sink called ``readings``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

HOT_READINGS = """
INSERT INTO readings
SELECT payload.device AS device, payload.seq AS seq, payload.temp AS temp
FROM "sensors/+/temp"
WHERE payload.temp > 30
"""

SQLITE_SINK = {"type": "sqlite", "path": "readings.db", "table": "readings"}


def sqlite_rows(directory: Path, name: str = "readings.db") -> list[tuple[str, int]]:
    """The (device, seq) of the SQLite sink's rows in the order in which they were stored."""
    path = directory / name
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'readings'").fetchone():
            return []
        return database.execute("SELECT device, seq FROM readings ORDER BY rowid").fetchall()


def file_rows(path: Path) -> list[tuple[str, int]]:
    """The same of a file of JSON lines."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["device"], row["seq"]) for row in rows]
