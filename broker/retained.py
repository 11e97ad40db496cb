"""Retained messages: the last one of each topic, for who subscribes later. MQTT 5.0 section 3.3.1.3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from broker.hooks import RoutedMessage
from broker.topics import NameTree, has_wildcard


class RetainedStore(Protocol):
    """Where retained messages live. The embedded default is memory."""

    def __len__(self) -> int: ...

    def put(self, message: RoutedMessage) -> bool:
        """Keep `message` as the one of its topic; False when there is no room for another topic."""

    def remove(self, topic: str) -> None:
        """Forget the message of `topic`."""

    def match(self, topic_filter: str, now_ms: int) -> Iterable[RoutedMessage]:
        """The messages whose topic matches and that have not expired."""


class MemoryRetained:
    """Retained messages in memory, at most `count_max`. An expired one goes when somebody would have got it."""

    def __init__(self, count_max: int) -> None:
        self._tree: NameTree[RoutedMessage] = NameTree()
        self._count_max = count_max

    def __len__(self) -> int:
        return len(self._tree)

    def put(self, message: RoutedMessage) -> bool:
        if len(self._tree) >= self._count_max and self._tree.get(message.topic) is None:
            return False
        self._tree.put(message.topic, message)
        return True

    def remove(self, topic: str) -> None:
        self._tree.remove(topic)

    def match(self, topic_filter: str, now_ms: int) -> Iterable[RoutedMessage]:
        if has_wildcard(topic_filter):
            found = list(self._tree.match(topic_filter))
        else:
            message = self._tree.get(topic_filter)
            found = [] if message is None else [message]
        live = [message for message in found if not _expired(message, now_ms)]
        if len(live) < len(found):
            for message in found:
                if _expired(message, now_ms):
                    self._tree.remove(message.topic)
        return live


def _expired(message: RoutedMessage, now_ms: int) -> bool:
    expires_at = message.expires_at()
    return expires_at is not None and expires_at <= now_ms
