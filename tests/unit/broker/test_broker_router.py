"""The router's memory of past answers, which must never be older than the subscriptions."""

from __future__ import annotations

from broker.codec.packets import Subscription
from broker.hooks import ClientInfo
from broker.router import NOWHERE, Router
from broker.session import Session, Subscribed
from broker.topics import REMEMBERED_BYTES_MAX


def session(client_id: str = "a") -> Session:
    return Session(client_id, ClientInfo(client_id))


def receivers(router: Router, topic: str) -> list[str]:
    return [receiver.session.client_id for receiver in router.route(topic).receivers]


def test_answer_follows_every_change() -> None:
    """Subscribing and unsubscribing, with and without wildcards, after the answer was remembered."""
    router, one, two = Router(), session("one"), session("two")
    assert router.route("a/b") is NOWHERE
    for topic_filter in ("a/b", "a/+", "#"):
        assert router.subscribe(one, Subscribed(Subscription(topic_filter)))
        assert receivers(router, "a/b") == ["one"]
        router.subscribe(two, Subscribed(Subscription(topic_filter, 1)))
        assert receivers(router, "a/b") == ["one", "two"]
        assert router.unsubscribe(one, topic_filter)
        assert receivers(router, "a/b") == ["two"]
        router.remove_session(two)
        assert router.route("a/b") is NOWHERE
    assert router.subscription_count == 0


def test_answer_follows_changed_options() -> None:
    """[3.8.4-3] Replacing a subscription counts as a change."""
    router, one = Router(), session()
    router.subscribe(one, Subscribed(Subscription("t", 0)))
    assert router.route("t").receivers[0].qos == 0
    assert not router.subscribe(one, Subscribed(Subscription("t", 2)))
    assert router.route("t").receivers[0].qos == 2


def test_answers_are_remembered_up_to_a_bound() -> None:
    """Any number of topics costs no more than the cache."""
    router = Router(cache_size=10)
    for number in range(95):
        router.route(f"t/{number}")
    assert len(router.routes) <= 10
    router.route("x" * (REMEMBERED_BYTES_MAX + 1))
    assert len(router.routes) <= 10


def test_receivers_are_remembered_up_to_a_bound() -> None:
    """Three hundred dashboards that see everything, times fifty thousand topics, would be more than a gigabyte."""
    router, other = Router(cache_size=10), session("other")
    for number in range(40):
        router.subscribe(session(f"s{number}"), Subscribed(Subscription("#")))
    for number in range(30):
        router.subscribe(other, Subscribed(Subscription(f"t/{number}")))
        assert len(router.route(f"t/{number}").receivers) == 41
        router.unsubscribe(other, f"t/{number}")
        assert len(router.route(f"t/{number}").receivers) == 40
        assert 1 <= len(router.routes) <= 2


def test_client_id_cannot_be_mistaken_for_a_group() -> None:
    """Client ids are chosen by clients."""
    router = Router()
    router.subscribe(session("$share/g"), Subscribed(Subscription("t")))
    router.subscribe(session("member"), Subscribed(Subscription("$share/g/t")))
    route = router.route("t")
    assert [receiver.session.client_id for receiver in route.receivers] == ["$share/g"]
    assert list(route.groups[0].members) == ["member"]
