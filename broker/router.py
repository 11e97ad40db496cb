"""Given a topic name, who receives it: subscriptions of all sessions, shared groups, and a memory of past answers.

The router decides and sends nothing. `broker.exchange` acts on what it says.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from broker.hooks import RoutedMessage
from broker.session import Session, Subscribed
from broker.topics import REMEMBERED_BYTES_MAX, FilterTree, has_wildcard, split_shared

_RECEIVERS_PER_TOPIC: Final = 10
"""How many receivers are remembered for each topic name, on average: a copy costs more than finding its receiver."""


class Receiver(Struct):
    """A session that gets a message, its overlapping subscriptions put together [3.3.4-2]."""

    session: Session
    qos: int
    retain_as_published: bool
    identifiers: tuple[int, ...]
    no_local: bool = False
    """Some subscription does not want the session's own messages: then ``own`` says what it gets of them."""
    own: Receiver | None = None


class ShareGroup:
    """The members of one ``$share/name/filter``; each message goes to one of them, in turn."""

    __slots__ = ("_cursor", "members")

    def __init__(self) -> None:
        self.members: dict[str, Receiver] = {}
        self._cursor = 0

    def pick(self, message: RoutedMessage) -> Receiver | None:
        """The member whose turn it is; those who can take it at once come before the full ones, and these before those
        who are away.
        """
        members = list(self.members.values())
        count = len(members)
        full = away = None
        for step in range(count):
            index = (self._cursor + step) % count
            member = members[index]
            outlet = member.session.outlet
            if outlet is None:
                away = index if away is None else away
            elif outlet.writable and (member.session.has_room or not (message.qos and member.qos)):
                self._cursor = index + 1
                return member
            else:
                full = index if full is None else full
        chosen = away if full is None else full
        if chosen is None:
            return None
        self._cursor = chosen + 1
        return members[chosen]


class Route(Struct, frozen=True):
    """Everybody who receives what is published to one topic name."""

    receivers: tuple[Receiver, ...]
    groups: tuple[ShareGroup, ...]


NOWHERE: Final = Route((), ())
"""The route of a topic nobody subscribes to."""


class _Entry(Struct, frozen=True):
    session: Session
    subscribed: Subscribed


class Router:
    """All subscriptions. ``routes`` remembers answers by topic name and may be read directly.

    At most `cache_size` of them are remembered, or fewer where many subscribe to everything.
    """

    def __init__(self, cache_size: int = 50_000) -> None:
        self.routes: dict[str, Route] = {}
        self._cache_size = cache_size
        self._receiver_count = 0
        self._tree: FilterTree[_Entry | ShareGroup] = FilterTree()
        self.subscription_count = 0

    def subscribe(self, session: Session, subscribed: Subscribed) -> bool:
        """Add or replace a subscription of `session`; True when it is new to it."""
        full_filter = subscribed.subscription.topic_filter
        is_new = full_filter not in session.subscriptions
        session.subscriptions[full_filter] = subscribed
        self.subscription_count += is_new
        share, topic_filter = split_shared(full_filter)
        if share is None:
            self._tree.put(topic_filter, _Entry(session, subscribed), session.client_id)
        else:
            self._join(share, topic_filter, session, subscribed)
        self._forget(topic_filter)
        return is_new

    def unsubscribe(self, session: Session, full_filter: str) -> bool:
        """Remove a subscription of `session`; False when it had none."""
        if session.subscriptions.pop(full_filter, None) is None:
            return False
        self.subscription_count -= 1
        share, topic_filter = split_shared(full_filter)
        if share is None:
            self._tree.remove(topic_filter, session.client_id)
        else:
            self._leave(share, topic_filter, session)
        self._forget(topic_filter)
        return True

    def remove_session(self, session: Session) -> None:
        """Remove all subscriptions of `session`."""
        for full_filter in list(session.subscriptions):
            self.unsubscribe(session, full_filter)

    def route(self, topic: str) -> Route:
        """Who receives what is published to `topic`."""
        route = self.routes.get(topic)
        if route is None:
            route = self._find(topic)
            if len(topic) <= REMEMBERED_BYTES_MAX:
                self._remember(topic, route)
        return route

    def _remember(self, topic: str, route: Route) -> None:
        self._receiver_count += len(route.receivers)
        if len(self.routes) >= self._cache_size or self._receiver_count > self._cache_size * _RECEIVERS_PER_TOPIC:
            self.routes.clear()
            self._receiver_count = len(route.receivers)
        self.routes[topic] = route

    def _join(self, share: str, topic_filter: str, session: Session, subscribed: Subscribed) -> None:
        key = _share_key(share)
        group = self._tree.get(topic_filter, key)
        if not isinstance(group, ShareGroup):
            group = ShareGroup()
            self._tree.put(topic_filter, group, key)
        group.members[session.client_id] = _receiver(session, [subscribed])

    def _leave(self, share: str, topic_filter: str, session: Session) -> None:
        key = _share_key(share)
        group = self._tree.get(topic_filter, key)
        if isinstance(group, ShareGroup):
            group.members.pop(session.client_id, None)
            if not group.members:
                self._tree.remove(topic_filter, key)

    def _forget(self, topic_filter: str) -> None:
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
        by_session: dict[str, tuple[Session, list[Subscribed]]] = {}
        for entry in found:
            if isinstance(entry, ShareGroup):
                groups.append(entry)
            else:
                session = entry.session
                by_session.setdefault(session.client_id, (session, []))[1].append(entry.subscribed)
        receivers = tuple(_receiver(session, subscriptions) for session, subscriptions in by_session.values())
        return Route(receivers, tuple(groups))


def _share_key(share: str) -> str:
    return "\0" + share  # no client id holds U+0000


def _receiver(session: Session, subscriptions: list[Subscribed]) -> Receiver:
    """One copy for all overlapping subscriptions: the highest QoS, and all identifiers [3.3.4-3]."""
    foreign = _merge(session, subscriptions)
    listening_to_itself = [each for each in subscriptions if not each.subscription.no_local]
    if len(listening_to_itself) < len(subscriptions):
        foreign.no_local = True
        foreign.own = _merge(session, listening_to_itself) if listening_to_itself else None
    return foreign


def _merge(session: Session, subscriptions: list[Subscribed]) -> Receiver:
    return Receiver(
        session,
        max(each.subscription.qos for each in subscriptions),
        any(each.subscription.retain_as_published for each in subscriptions),
        tuple(each.identifier for each in subscriptions if each.identifier is not None),
    )
