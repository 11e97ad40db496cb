"""The compiled rules of a project, indexed by topic. Immutable: a reload makes a new set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from broker.topics import FilterTree
from engine.language.events import is_event_filter, topics_of
from engine.language.sql import CompiledRule, SinkTarget

__all__ = ["Ack", "Rule", "Ruleset"]

Ack = Literal["receive", "buffer"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule with its options. ``sinks`` are those of INSERT INTO, else those of the ``-- sinks:`` line."""

    id: str
    path: str
    description: str
    enabled: bool
    ack: Ack
    sinks: tuple[SinkTarget, ...]
    compiled: CompiledRule

    @property
    def topics(self) -> tuple[str, ...]:
        """The items of FROM, as written."""
        return tuple(source.topic for source in self.compiled.sources)


class Ruleset:
    """Rules by id, by topic filter and by event. Immutable; it may be built on any thread."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        self._by_topic: FilterTree[Rule] = FilterTree()
        self._by_event: FilterTree[Rule] = FilterTree()
        for rule in self.rules.values():
            if rule.enabled:
                self._add(rule)

    def for_topic(self, topic: str) -> tuple[Rule, ...]:
        """Return the enabled rules that select publishes on `topic`, sorted by id, each once."""
        return _sorted(self._by_topic.match(topic))

    def for_event(self, event_topic: str) -> tuple[Rule, ...]:
        """Return the enabled rules that select an event by its topic (``$events/client/connected``), as `for_topic`."""
        return _sorted([rule for topic in topics_of(event_topic) for rule in self._by_event.match(topic)])

    def _add(self, rule: Rule) -> None:
        for topic_filter in rule.topics:
            tree = self._by_event if is_event_filter(topic_filter) else self._by_topic
            tree.put(topic_filter, rule, rule.id)


def _sorted(found: list[Rule]) -> tuple[Rule, ...]:
    # A rule with several matching filters is found once for each of them.
    return tuple(sorted({rule.id: rule for rule in found}.values(), key=lambda rule: rule.id))
