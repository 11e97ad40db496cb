"""Retained messages: the last one of each topic, for later subscribers. MQTT 5.0 section 3.3.1.3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from broker.deadlines import Deadlines
from broker.hooks import RoutedMessage
from broker.receipt import Hold
from broker.topics import NameTree, has_wildcard


class RetainedStore(Protocol):
    """The store of retained messages. A `Hold` in an answer is done once the change is stored."""

    def __len__(self) -> int: ...

    def put(self, message: RoutedMessage) -> Hold | bool:
        """Keep `message` as that of its topic; return False where there is no room for another topic."""

    def remove(self, topic: str) -> Hold | None:
        """Remove the message of `topic`, if there is one."""

    def match(self, topic_filter: str, now_ms: int) -> Iterable[RoutedMessage]:
        """Return the messages whose topic matches and that have not expired."""


class MemoryRetained:
    """Retained messages in memory, at most `count_max`. Each call first removes those that have expired."""

    def __init__(self, count_max: int) -> None:
        self._tree: NameTree[RoutedMessage] = NameTree()
        self._deadlines: Deadlines[str] = Deadlines()
        self._count_max = count_max

    def __len__(self) -> int:
        return len(self._tree)

    def put(self, message: RoutedMessage) -> bool:
        topic = message.topic
        self._remove_expired(message.received_at)
        if len(self._tree) >= self._count_max and self._tree.get(topic) is None:
            return False
        self._tree.put(topic, message)
        expires_at = message.expires_at()
        if expires_at is None:
            self._deadlines.cancel(topic)
        else:
            self._deadlines.set(topic, expires_at)
        return True

    def remove(self, topic: str) -> None:
        self._tree.remove(topic)
        self._deadlines.cancel(topic)

    def match(self, topic_filter: str, now_ms: int) -> Iterable[RoutedMessage]:
        self._remove_expired(now_ms)
        if has_wildcard(topic_filter):
            return list(self._tree.match(topic_filter))
        message = self._tree.get(topic_filter)
        return [] if message is None else [message]

    def _remove_expired(self, now_ms: int) -> None:
        for topic in self._deadlines.due(now_ms):
            self._tree.remove(topic)
