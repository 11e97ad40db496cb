"""A double of the admin port, made of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.admin.port import (
    ClientView,
    DeadLetterView,
    ListenerView,
    ProcessView,
    RuleView,
    SinkView,
    StatsView,
)
from engine.errors import DeliveryError, Position, Problem


def a_letter(letter_id: int) -> DeadLetterView:
    """Return a dead letter with its row."""
    return DeadLetterView(
        letter_id, "readings", "climate", "kitchen", "sensors/kitchen/climate", 1_000, 2_000, "temp is text", "22P02",
        row={"temp": "warm", "at": letter_id},
    )  # fmt: skip


class FakeApp:
    """An `AdminPort` whose state a test sets, and which records operations."""

    def __init__(self) -> None:
        self.rule_views = [
            RuleView(
                "climate", "SELECT * FROM t", "What rooms measure", True, ("t",), ("readings",), "buffer",
                received=10, filtered=3, failed=1, emitted=6, records=6, last_error="temp is missing",
            ),
            RuleView("off", "SELECT 1 FROM t", "", False, ("t",), (), "receive"),
        ]  # fmt: skip
        self.sink_views = [
            SinkView(
                "readings", "sqlite", "", True, "held", reason="there is no table readings", since=5, emitted=6,
                delivered=2, deduplicated=1, dead_lettered=1, buffered=3, buffered_bytes=300, oldest_age_s=75.0,
                dead_letters=3, last_error="no such table: readings", next_attempt_in_s=12.0,
            )
        ]  # fmt: skip
        self.letters = {letter_id: a_letter(letter_id) for letter_id in (1, 2, 3)}
        self.client_views = [ClientView("kitchen", None, "127.0.0.1", 50_000, 5, 60, True, 1_000)]
        self.kicked: list[str] = []
        self.reload_problems: list[Problem] = []

    def process(self) -> ProcessView:
        listeners = (ListenerView("tcp", "127.0.0.1", 1883, 12),)
        return ProcessView(
            "0.1.0", 42, "/plant", "/plant/data", 0, 3_725.0, listeners, 2, 1, False, ("a sink is held",)
        )

    def rules(self) -> Sequence[RuleView]:
        return self.rule_views

    def sinks(self) -> Sequence[SinkView]:
        return self.sink_views

    def stats(self) -> StatsView:
        return StatsView({"connections": 12.0}, {"publishes_received": 10})

    def clients(self, limit: int, offset: int) -> Sequence[ClientView]:
        return self.client_views[offset : offset + limit]

    def kick(self, client_id: str) -> None:
        if client_id not in [client.clientid for client in self.client_views]:
            raise KeyError(f"no client {client_id!r} is connected")
        self.kicked.append(client_id)

    async def dead_letters(self, sink_id: str, limit: int, offset: int) -> Sequence[DeadLetterView]:
        return [replace(letter, row=None) for letter in list(self.letters.values())[offset : offset + limit]]

    async def dead_letter(self, sink_id: str, letter_id: int) -> DeadLetterView:
        if letter_id not in self.letters:
            raise KeyError(f"sink {sink_id!r} has no dead letter {letter_id}")
        return self.letters[letter_id]

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        return self._take(letter_ids)

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        return self._take(letter_ids)

    async def reload(self) -> Sequence[Problem]:
        return self.reload_problems

    def fail_to_reload(self) -> None:
        """Make the next reload fail."""
        self.reload_problems = [Problem("unknown sink 'a'", "rules/a.sql", Position(2, 13, 1), "did you mean 'b'?")]

    def _take(self, letter_ids: Sequence[int] | None) -> int:
        taken = [key for key in self.letters if letter_ids is None or key in letter_ids]
        if not taken:
            raise DeliveryError("nothing to take")
        for key in taken:
            del self.letters[key]
        return len(taken)
