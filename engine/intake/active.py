"""Rules in service: each with its outboxes and counters, found by topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from engine.language.ruleset import Rule, Ruleset
from engine.model.message import ClientIdentity, Message, Occurrence
from engine.model.record import Chunk, Row

TOPICS_CACHED = 100_000
"""Topic names whose rules are remembered: some 20 MB with names of 40 characters. Past that the cache starts anew."""


class Outbox(Protocol):
    """The part of a sink's outbox that intake uses; see `engine.delivery.outbox`."""

    @property
    def refusing(self) -> bool: ...
    def put(self, chunk: Chunk) -> bool:
        """Take `chunk` for delivery. False: it was not taken and not counted, and must not be acknowledged."""

    def drop(self, count: int) -> None:
        """Count records that were dropped because the outbox refuses and their origin cannot be refused."""


Chunks = tuple[tuple[tuple[Outbox, ...], Chunk], ...]
"""Chunks with the outboxes that each goes to."""


class Counters(Protocol):
    """The counters of a rule; see `engine.model.metrics.RuleCounters`."""

    received: int
    filtered: int
    failed: int
    emitted: int
    refused: int
    records: int


class ActiveRule:
    """A rule in service: its compiled function, outboxes and counters.

    `outboxes` by sink id; a sink that the rule names and that is not among them is disabled and gets nothing.
    """

    __slots__ = (
        "_plain", "_renamed", "counters", "evaluate", "has_failed_unexpectedly", "last_error", "many", "outboxes",
        "rule", "waits_for_commit",
    )  # fmt: skip

    def __init__(self, rule: Rule, outboxes: Mapping[str, Outbox], counters: Counters) -> None:
        self.rule = rule
        self.evaluate = rule.compiled.evaluate
        self.many = rule.compiled.many
        self.counters = counters
        targets = [target for target in rule.sinks if target.name in outboxes]
        self.outboxes = tuple(outboxes[target.name] for target in targets)
        self.waits_for_commit = rule.ack == "buffer" and bool(self.outboxes)
        self.last_error: str | None = None
        self.has_failed_unexpectedly = False
        """Whether an evaluation raised something else than `EvaluationError`: said once, counted always."""
        self._plain = tuple(outboxes[target.name] for target in targets if target.columns is None)
        self._renamed = tuple((t.columns, outboxes[t.name]) for t in targets if t.columns is not None)

    def run(self, message: Message | Occurrence) -> list[Row]:
        """Return the rows that the rule makes of `message`; counts nothing. Raises `EvaluationError`."""
        result: Any = self.evaluate(message)
        if result is None:
            return []
        return cast(list[Row], result) if self.many else [result]

    def chunks(
        self, client: ClientIdentity, time_ms: int, topics: list[str], rows: list[Row], trail: tuple[str, ...]
    ) -> Chunks:
        """Return `rows` as chunks, each with its outboxes: those for which no columns are named share one."""
        topic: list[str] | str = topics
        # One topic for all rows, as in most reads, is stored once; `count` compares in C, and by identity first.
        if topics.count(topics[0]) == len(topics):
            topic = topics[0]
        rule_id, client_id, lane_hash = self.rule.id, client.clientid, client.lane_hash
        found: Chunks = ()
        if self._plain:
            found = ((self._plain, Chunk(rule_id, client_id, lane_hash, time_ms, topic, rows, trail)),)
        for columns, outbox in self._renamed:
            named = [dict(zip(columns, row.values(), strict=False)) for row in rows]
            found += (((outbox,), Chunk(rule_id, client_id, lane_hash, time_ms, topic, named, trail)),)
        return found


class ActiveRules:
    """All rules in service. `by_topic` and `by_event` are caches of answers, read directly by intake."""

    __slots__ = ("_active", "_ruleset", "by_event", "by_topic")

    def __init__(self, ruleset: Ruleset, active: Mapping[str, ActiveRule]) -> None:
        """`active` has an entry for each rule of `ruleset`."""
        self._ruleset = ruleset
        self._active = dict(active)
        self.by_topic: dict[str, tuple[ActiveRule, ...]] = {}
        self.by_event: dict[str, tuple[ActiveRule, ...]] = {}

    @property
    def all(self) -> Mapping[str, ActiveRule]:
        """The rules by id, disabled ones included."""
        return self._active

    def of_topic(self, topic: str) -> tuple[ActiveRule, ...]:
        """Return the rules that select from publishes to `topic`, and remember them."""
        if len(self.by_topic) >= TOPICS_CACHED:
            self.by_topic.clear()
        rules = self.by_topic[topic] = tuple([self._active[rule.id] for rule in self._ruleset.for_topic(topic)])
        return rules

    def of_event(self, event_topic: str) -> tuple[ActiveRule, ...]:
        """Return the rules that select from events of `event_topic`, and remember them."""
        rules = self.by_event.get(event_topic)
        if rules is None:
            rules = tuple([self._active[rule.id] for rule in self._ruleset.for_event(event_topic)])
            self.by_event[event_topic] = rules
        return rules
