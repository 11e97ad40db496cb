"""The compiled rules of a project, indexed by topic. Immutable: a reload makes a new set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Rules by id, by topic filter and by event. Immutable; it may be built on any thread.

    `previous` is the set before a reload: where all rules still select the same, its index is shared, since an edit
    mostly leaves FROM alone and an index of 1,000 rules costs milliseconds to build.
    """

    def __init__(self, rules: Iterable[Rule] = (), previous: Ruleset | None = None) -> None:
        self.rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        is_alike = previous is not None and _select_alike(self.rules, previous.rules)
        self._index: _Index = previous._index if previous and is_alike else _Index(self.rules.values())

    def for_topic(self, topic: str) -> tuple[Rule, ...]:
        """Return the enabled rules that select publishes on `topic`, sorted by id, each once."""
        return self._sorted(self._index.by_topic.match(topic))

    def for_event(self, event_topic: str) -> tuple[Rule, ...]:
        """Return the enabled rules that select an event by its topic (``$events/client/connected``), as `for_topic`."""
        by_event = self._index.by_event
        return self._sorted([rule_id for topic in topics_of(event_topic) for rule_id in by_event.match(topic)])

    def _sorted(self, found: list[str]) -> tuple[Rule, ...]:
        # A rule with several matching filters is found once for each of them.
        return tuple([self.rules[rule_id] for rule_id in sorted(set(found))])


class _Index:
    """The ids of enabled rules by the items of their FROM clauses. Never changed once built."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.by_topic: FilterTree[str] = FilterTree()
        self.by_event: FilterTree[str] = FilterTree()
        for rule in rules:
            for topic_filter in _selection(rule):
                tree = self.by_event if is_event_filter(topic_filter) else self.by_topic
                tree.put(topic_filter, rule.id, rule.id)


def _selection(rule: Rule) -> tuple[str, ...]:
    return rule.topics if rule.enabled else ()


def _select_alike(rules: Mapping[str, Rule], others: Mapping[str, Rule]) -> bool:
    """Return whether two sets have the same ids, and each rule selects from the same topics in both."""
    return rules.keys() == others.keys() and all(
        rule is others[rule_id] or _selection(rule) == _selection(others[rule_id]) for rule_id, rule in rules.items()
    )
