"""The topic trees and the router against matching one filter at a time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.codec.packets import Subscription
from broker.hooks import ClientInfo
from broker.router import Router
from broker.session import Session
from broker.subscriber import Subscribed
from broker.topics import FilterTree, NameTree, topic_matches

levels = st.sampled_from(["a", "b", "", "$x", "ä"])
names = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    parts = draw(st.lists(levels | st.just("+"), max_size=4))
    if draw(st.booleans()) or not any(parts):
        parts.append("#")
    return "/".join(parts)


keys = st.sampled_from(["one", "two", "three"])
changes = st.lists(st.tuples(st.booleans(), filters(), keys), max_size=25)


@settings(max_examples=200, deadline=None)
@given(changes, st.lists(names, max_size=6))
def test_filter_tree_agrees_with_matching_each_filter(steps: list[tuple[bool, str, str]], topics: list[str]) -> None:
    """After any sequence of puts and removals; an empty tree has no branches left."""
    tree: FilterTree[tuple[str, str]] = FilterTree()
    model: set[tuple[str, str]] = set()
    for put, topic_filter, key in steps:
        if put:
            tree.put(topic_filter, (topic_filter, key), key)
            model.add((topic_filter, key))
        else:
            assert (tree.remove(topic_filter, key) is not None) == ((topic_filter, key) in model)
            model.discard((topic_filter, key))
    assert len(tree) == len(model)
    for topic in topics:
        assert sorted(tree.match(topic)) == sorted(each for each in model if topic_matches(each[0], topic))
    for topic_filter, key in model:
        tree.remove(topic_filter, key)
    assert tree._root.children == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), names), max_size=25), st.lists(filters() | names, max_size=6))
def test_name_tree_agrees_with_matching_each_name(steps: list[tuple[bool, str]], wanted: list[str]) -> None:
    """The same for retained messages, whose names are found by filter."""
    tree: NameTree[str] = NameTree()
    model: set[str] = set()
    for put, name in steps:
        if put:
            tree.put(name, name)
            model.add(name)
        else:
            assert (tree.remove(name) is not None) == (name in model)
            model.discard(name)
    assert len(tree) == len(model)
    for topic_filter in wanted:
        assert sorted(tree.match(topic_filter)) == sorted(name for name in model if topic_matches(topic_filter, name))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["subscribe", "unsubscribe", "ask"]), filters(), keys, names), max_size=30))
def test_cached_routes_are_never_stale(steps: list[tuple[str, str, str, str]]) -> None:
    """After any change a router answers as one without a cache does."""
    router = Router(cache_size=4)
    sessions = {key: Session(ClientInfo(key)) for key in ("one", "two", "three")}
    for action, topic_filter, key, name in steps:
        if action == "subscribe":
            subscribed = Subscribed(Subscription(topic_filter))
            sessions[key].subscribe(subscribed)
            router.subscribe(sessions[key], subscribed)
        elif action == "unsubscribe":
            sessions[key].unsubscribe(topic_filter)
            router.unsubscribe(sessions[key], topic_filter)
        found = {receiver.subscriber.key for receiver in router.route(name).receivers}
        assert found == {
            key for key, session in sessions.items() if any(topic_matches(each, name) for each in session.subscriptions)
        }
