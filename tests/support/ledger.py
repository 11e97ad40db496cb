"""The acknowledged messages of a publisher, and the check that a sink has their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

HOT = 30.0


@dataclass(slots=True)
class Ledger:
    """The messages of one client, numbered from 0 in the order it sent them."""

    client: str
    published: int = 0
    acknowledged: set[int] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    """Numbers that were answered with an error, once for each such answer."""


def temperature(number: int) -> float:
    """Return the reading of a message: every other one is hot, so that a rule `payload.temp > 30` passes half."""
    return HOT + 5.5 if number % 2 == 0 else HOT - 5.5


def is_hot(number: int) -> bool:
    """Return whether a rule for hot readings takes the message."""
    return temperature(number) > HOT


def check_rows(
    rows: Iterable[tuple[str, int]], ledgers: Sequence[Ledger], *, exact: bool = True, hot_only: bool = True
) -> None:
    """Compare a sink's rows, in the order in which they were stored, with the messages that were acknowledged.

    Every acknowledged message is there, and no unsent one; the first appearances of each client's messages are in its
    order. With `exact`, each appears once.
    """
    firsts: dict[str, dict[int, None]] = {ledger.client: {} for ledger in ledgers}
    seen: Counter[tuple[str, int]] = Counter()
    for client, number in rows:
        firsts[client].setdefault(number)
        seen[client, number] += 1
    for ledger in ledgers:
        numbers = list(firsts[ledger.client])
        promised = {n for n in ledger.acknowledged if not hot_only or is_hot(n)}
        possible = {n for n in range(ledger.published) if not hot_only or is_hot(n)}
        lost, made_up = promised.difference(numbers), set(numbers) - possible
        assert not lost, f"{len(lost)} acknowledged messages of {ledger.client} are lost: {sorted(lost)[:10]}"
        assert not made_up, f"rows that {ledger.client} never sent: {sorted(made_up)[:10]}"
        assert numbers == sorted(numbers), f"{ledger.client} is out of order near {_disorder(numbers)}"
    twice = {key: count for key, count in seen.items() if count > 1}
    assert not (exact and twice), f"{len(twice)} rows came more than once: {list(twice.items())[:10]}"


def _disorder(numbers: list[int]) -> list[int]:
    at = next(i for i in range(1, len(numbers)) if numbers[i] < numbers[i - 1])
    return numbers[max(0, at - 5) : at + 5]
