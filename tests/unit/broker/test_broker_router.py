"""The router, and its cache of routes, which must never be older than the subscriptions."""

from __future__ import annotations

from broker.codec.packets import Subscription
from broker.hooks import ClientInfo
from broker.router import NOWHERE, Router
from broker.session import Session
from broker.subscriber import Subscribed
from broker.topics import CACHED_BYTES_MAX


def session(client_id: str = "a") -> Session:
    return Session(ClientInfo(client_id))


def receivers(router: Router, topic: str) -> list[str]:
    return [receiver.subscriber.key for receiver in router.route(topic).receivers]


def test_cached_route_follows_every_change_of_subscriptions() -> None:
    """Subscribing and unsubscribing, with and without wildcards, after the route was cached."""
    router, one, two = Router(), session("one"), session("two")
    assert router.route("a/b") is NOWHERE
    for topic_filter in ("a/b", "a/+", "#"):
        router.subscribe(one, Subscribed(Subscription(topic_filter)))
        assert receivers(router, "a/b") == ["one"]
        router.subscribe(two, Subscribed(Subscription(topic_filter, 1)))
        assert receivers(router, "a/b") == ["one", "two"]
        router.unsubscribe(one, topic_filter)
        assert receivers(router, "a/b") == ["two"]
        router.unsubscribe_all(two, [topic_filter])
        assert router.route("a/b") is NOWHERE
    assert router.subscription_count == 0


def test_cached_route_follows_changed_options() -> None:
    """[3.8.4-3] Replacing a subscription counts as a change."""
    router, one = Router(), session()
    router.subscribe(one, Subscribed(Subscription("t", 0)))
    assert router.route("t").receivers[0].qos == 0
    router.subscribe(one, Subscribed(Subscription("t", 2)))
    assert router.subscription_count == 1
    assert router.route("t").receivers[0].qos == 2


def test_route_cache_is_bounded_by_topics() -> None:
    """However many topics are published to, and however long they are."""
    router = Router(cache_size=10)
    for number in range(95):
        router.route(f"t/{number}")
    assert len(router.routes) <= 10
    router.route("x" * (CACHED_BYTES_MAX + 1))
    assert len(router.routes) <= 10


def test_route_cache_is_bounded_by_receivers() -> None:
    """Three hundred subscribers of # and fifty thousand topics would be more than a gigabyte."""
    router, other = Router(cache_size=10), session("other")
    for number in range(40):
        router.subscribe(session(f"s{number}"), Subscribed(Subscription("#")))
    for number in range(30):
        router.subscribe(other, Subscribed(Subscription(f"t/{number}")))
        assert len(router.route(f"t/{number}").receivers) == 41
        router.unsubscribe(other, f"t/{number}")
        assert len(router.route(f"t/{number}").receivers) == 40
        assert 1 <= len(router.routes) <= 2


def test_subscriptions_are_counted_once() -> None:
    """Subscribing again or ending a subscription that is not there changes no count, in share groups neither."""
    router, one = Router(), session()
    for topic_filter in ("t", "$share/g/t"):
        for _ in range(2):
            router.subscribe(one, Subscribed(Subscription(topic_filter)))
    assert router.subscription_count == 2
    for topic_filter in ("t", "$share/g/t"):
        for _ in range(2):
            router.unsubscribe(one, topic_filter)
    assert router.subscription_count == 0


def test_client_id_cannot_be_mistaken_for_a_group() -> None:
    """Client ids are chosen by clients, and may look like the key of a group."""
    router = Router()
    router.subscribe(session("$share/g"), Subscribed(Subscription("t")))
    router.subscribe(session("member"), Subscribed(Subscription("$share/g/t")))
    route = router.route("t")
    assert [receiver.subscriber.key for receiver in route.receivers] == ["$share/g"]
    assert list(route.groups[0].members) == ["member"]
