"""Values and column names that a rule can make of a device's message, and that no encoder or driver was made for."""

from __future__ import annotations

from typing import Any

HOSTILE_NAMES = ["\ud800", "a\0b", "x" * 100_000, ""]


def hostile_values() -> list[Any]:
    """Values that exceed what Python, JSON or a database can convert."""
    deep_list: list[Any] = []
    deep_map: dict[str, Any] = {}
    for _ in range(100_000):
        deep_list = [deep_list]
        deep_map = {"a": deep_map}
    return [
        10**20_000, -(10**20_000), {"a": 10**20_000}, "9" * 20_000, 1e308, "1e400000", float("nan"), [float("inf")],
        deep_list, deep_map, "[" * 100_000, "\ud800", {"\udfff": 1}, ["\ud800"], "\0", b"\xff" * 10_000,
    ]  # fmt: skip
