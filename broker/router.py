"""All subscriptions, and the receivers of a topic name: subscribers, share groups, and a cache of past answers.

The router decides and sends nothing. `broker.exchange` acts on its answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from broker.subscriber import Availability, Subscribed, Subscriber
from broker.topics import CACHED_BYTES_MAX, FilterTree, has_wildcard, split_shared

_RECEIVERS_PER_TOPIC: Final = 10
"""Receivers that the cache may hold for each of its topic names, on average.

300 subscribers of ``#`` and 50,000 cached topics would be 15 million receivers, more than a gigabyte. Topics with more
receivers than this gain little from the cache: offering the copies costs more than finding the receivers.
"""


class Receiver(Struct):
    """A subscriber that gets a message, its overlapping subscriptions merged [MQTT-3.3.4-2]."""

    subscriber: Subscriber
    qos: int
    retain_as_published: bool
    identifiers: tuple[int, ...]
    no_local: bool = False
    """Some subscription has No Local: of its own messages the subscriber gets what ``own`` says, or nothing."""
    own: Receiver | None = None


class ShareGroup:
    """The members of one ``$share/name/filter``; each message goes to one of them, in turn."""

    __slots__ = ("_cursor", "members")

    def __init__(self) -> None:
        self.members: dict[str, Receiver] = {}
        self._cursor = 0

    def pick(self, qos: int) -> Receiver | None:
        """Return the member whose turn it is for a message of `qos`.

        Members that can take it at once come before full ones, and these before members that are away.
        """
        members = list(self.members.values())
        count = len(members)
        full = away = None
        for step in range(count):
            index = (self._cursor + step) % count
            member = members[index]
            availability = member.subscriber.availability(min(qos, member.qos))
            if availability is Availability.READY:
                self._cursor = index + 1
                return member
            if availability is Availability.FULL:
                full = index if full is None else full
            else:
                away = index if away is None else away
        chosen = away if full is None else full
        if chosen is None:
            return None
        self._cursor = chosen + 1
        return members[chosen]


class Route(Struct, frozen=True):
    """All receivers of one topic name."""

    receivers: tuple[Receiver, ...]
    groups: tuple[ShareGroup, ...]


NOWHERE: Final = Route((), ())
"""The route of a topic without subscribers."""


class _Entry(Struct, frozen=True):
    subscriber: Subscriber
    subscribed: Subscribed


class Router:
    """The subscriptions of all subscribers. ``routes`` is the cache, by topic name, and may be read directly.

    The cache has at most `cache_size` routes, fewer where many subscribe to everything, and is cleared when full.
    """

    def __init__(self, cache_size: int = 50_000) -> None:
        self.routes: dict[str, Route] = {}
        self._cache_size = cache_size
        self._receiver_count = 0
        self._tree: FilterTree[_Entry | ShareGroup] = FilterTree()
        self.subscription_count = 0

    def subscribe(self, subscriber: Subscriber, subscribed: Subscribed) -> None:
        """Route messages that match the filter of `subscribed` to `subscriber`; replaces its earlier options."""
        share, topic_filter = split_shared(subscribed.subscription.topic_filter)
        if share is None:
            before = self._tree.put(topic_filter, _Entry(subscriber, subscribed), subscriber.key)
            self.subscription_count += before is None
        else:
            self._join(share, topic_filter, subscriber, subscribed)
        self._forget(topic_filter)

    def unsubscribe(self, subscriber: Subscriber, full_filter: str) -> None:
        """End the subscription of `subscriber` to `full_filter`, if it has one."""
        share, topic_filter = split_shared(full_filter)
        if share is None:
            self.subscription_count -= self._tree.remove(topic_filter, subscriber.key) is not None
        else:
            self._leave(share, topic_filter, subscriber)
        self._forget(topic_filter)

    def unsubscribe_all(self, subscriber: Subscriber, full_filters: Iterable[str]) -> None:
        """End the subscriptions of `subscriber` to all of `full_filters`."""
        for full_filter in full_filters:
            self.unsubscribe(subscriber, full_filter)

    def route(self, topic: str) -> Route:
        """Return the receivers of a message published to `topic`."""
        route = self.routes.get(topic)
        if route is None:
            route = self._find(topic)
            if len(topic) <= CACHED_BYTES_MAX:
                self._remember(topic, route)
        return route

    def _remember(self, topic: str, route: Route) -> None:
        self._receiver_count += len(route.receivers)
        if len(self.routes) >= self._cache_size or self._receiver_count > self._cache_size * _RECEIVERS_PER_TOPIC:
            self.routes.clear()
            self._receiver_count = len(route.receivers)
        self.routes[topic] = route

    def _join(self, share: str, topic_filter: str, subscriber: Subscriber, subscribed: Subscribed) -> None:
        key = _share_key(share)
        group = self._tree.get(topic_filter, key)
        if not isinstance(group, ShareGroup):
            group = ShareGroup()
            self._tree.put(topic_filter, group, key)
        receiver = _receiver(subscriber, [subscribed])
        self.subscription_count += subscriber.key not in group.members
        group.members[subscriber.key] = receiver

    def _leave(self, share: str, topic_filter: str, subscriber: Subscriber) -> None:
        key = _share_key(share)
        group = self._tree.get(topic_filter, key)
        if isinstance(group, ShareGroup):
            self.subscription_count -= group.members.pop(subscriber.key, None) is not None
            if not group.members:
                self._tree.remove(topic_filter, key)

    def _forget(self, topic_filter: str) -> None:
        """Remove the cached routes that a changed subscription to `topic_filter` may have made wrong."""
        if has_wildcard(topic_filter):
            self.routes.clear()
            self._receiver_count = 0
        else:
            self._receiver_count -= len(self.routes.pop(topic_filter, NOWHERE).receivers)

    def _find(self, topic: str) -> Route:
        found = self._tree.match(topic)
        if not found:
            return NOWHERE
        groups: list[ShareGroup] = []
        by_subscriber: dict[str, tuple[Subscriber, list[Subscribed]]] = {}
        for entry in found:
            if isinstance(entry, ShareGroup):
                groups.append(entry)
            else:
                subscriber = entry.subscriber
                by_subscriber.setdefault(subscriber.key, (subscriber, []))[1].append(entry.subscribed)
        receivers = tuple(_receiver(subscriber, each) for subscriber, each in by_subscriber.values())
        return Route(receivers, tuple(groups))


def _share_key(share: str) -> str:
    """Return the key of a share group in the tree: no subscriber has it, see `Subscriber.key`."""
    return "\0" + share


def _receiver(subscriber: Subscriber, subscriptions: list[Subscribed]) -> Receiver:
    """Return one receiver for all overlapping subscriptions: the highest QoS, and all identifiers [MQTT-3.3.4-3]."""
    foreign = _merge(subscriber, subscriptions)
    with_own = [each for each in subscriptions if not each.subscription.no_local]
    if len(with_own) < len(subscriptions):
        foreign.no_local = True
        foreign.own = _merge(subscriber, with_own) if with_own else None
    return foreign


def _merge(subscriber: Subscriber, subscriptions: list[Subscribed]) -> Receiver:
    return Receiver(
        subscriber,
        max(each.subscription.qos for each in subscriptions),
        any(each.subscription.retain_as_published for each in subscriptions),
        tuple(each.identifier for each in subscriptions if each.identifier is not None),
    )
