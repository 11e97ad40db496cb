"""Topic names and filters, and the trees that find them. MQTT 5.0 section 4.7."""

from __future__ import annotations

import pytest

from broker.errors import InvalidTopic
from broker.topics import (
    CACHED_BYTES_MAX,
    FilterTree,
    NameTree,
    TopicNames,
    check_topic_filter,
    check_topic_name,
    has_wildcard,
    split_shared,
    topic_matches,
)

MATCHING = [
    ("sport/tennis/player1", "sport/tennis/player1"),
    ("sport/#", "sport"),
    ("sport/#", "sport/tennis/player1"),
    ("#", "a"),
    ("#", "/"),
    ("#", "a/b/c"),
    ("+", "a"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+/tennis/#", "sport/tennis"),
    ("+/tennis/#", "/tennis/x/y"),
    ("sport/+/player1", "sport/tennis/player1"),
    ("sport/+", "sport/"),
    ("a//b", "a//b"),
    ("a/+/b", "a//b"),
    ("$SYS/#", "$SYS"),
    ("$SYS/#", "$SYS/monitor/Clients"),
    ("$SYS/monitor/+", "$SYS/monitor/Clients"),
    ("a/$x/+", "a/$x/y"),
    ("+/$x", "a/$x"),
    ("a/#", "a/$x"),
    ("ACCOUNTS", "ACCOUNTS"),
    ("a/+/c/#", "a//c/"),
    ("/devices/+/online", "/devices/$dev1/online"),
]
NOT_MATCHING = [
    ("sport/tennis", "sport/tennis/player1"),
    ("sport/tennis/player1", "sport/tennis"),
    ("+", "/finance"),
    ("sport/+", "sport"),
    ("sport/+", "sport/a/b"),
    ("#", "$SYS"),
    ("#", "$SYS/x"),
    ("+/monitor/Clients", "$SYS/monitor/Clients"),
    ("+", "$SYS"),
    ("+/#", "$SYS/x"),
    ("ACCOUNTS", "Accounts"),
    ("a/", "a"),
    ("/a", "a"),
    ("sports/#", "sport"),
]


@pytest.mark.parametrize(("topic_filter", "name"), MATCHING)
def test_filter_matches(topic_filter: str, name: str) -> None:
    """The examples of sections 4.7.1 and 4.7.2, for both trees and the function."""
    assert topic_matches(topic_filter, name)
    filters: FilterTree[str] = FilterTree()
    filters.put(topic_filter, "value")
    assert filters.match(name) == ["value"]
    names: NameTree[str] = NameTree()
    names.put(name, "value")
    assert list(names.match(topic_filter)) == ["value"]


@pytest.mark.parametrize(("topic_filter", "name"), NOT_MATCHING)
def test_filter_does_not_match(topic_filter: str, name: str) -> None:
    """The counterexamples of the same sections."""
    assert not topic_matches(topic_filter, name)
    filters: FilterTree[str] = FilterTree()
    filters.put(topic_filter, "value")
    assert filters.match(name) == []
    names: NameTree[str] = NameTree()
    names.put(name, "value")
    assert list(names.match(topic_filter)) == []


@pytest.mark.parametrize(("topic_filter", "name"), [("a/#/b", "a/x/b"), ("a+", "ab"), ("+", ""), ("", "a"), ("#", "$")])
def test_filter_that_is_not_well_formed_matches_nothing_by_its_wildcards(topic_filter: str, name: str) -> None:
    """Rules match filters that messages contain (``topic =~ payload.filter``), which are not validated."""
    assert topic_matches(topic_filter, name) is (topic_filter == "+")
    assert topic_matches(topic_filter, topic_filter)
    if topic_filter and name:
        filters: FilterTree[str] = FilterTree()
        filters.put(topic_filter, "value")
        assert filters.match(name) == []


@pytest.mark.parametrize("name", ["a", "/", "a/b", "a//b", " ", "$SYS/x", "ä/🌡", "x" * 65535])
def test_valid_names(name: str) -> None:
    """Almost any text is a valid topic name."""
    check_topic_name(name)
    check_topic_filter(name)


@pytest.mark.parametrize("name", ["", "+", "a/#", "a+", "a\0b", "x" * 65536, "ä" * 32768, "/" * 128])
def test_invalid_names(name: str) -> None:
    """[3.3.2-2, 4.7.3-1..3] and the limit on levels."""
    with pytest.raises(InvalidTopic):
        check_topic_name(name)


@pytest.mark.parametrize("topic_filter", ["#", "+", "a/+/b", "a/#", "+/+/#", "/#", "/+"])
def test_valid_filters(topic_filter: str) -> None:
    """[4.7.1-1, 4.7.1-2]"""
    check_topic_filter(topic_filter)
    assert has_wildcard(topic_filter)


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "##", "a\0", "/" * 128])
def test_invalid_filters(topic_filter: str) -> None:
    """[4.7.1-1, 4.7.1-2, 4.7.3-1, 4.7.3-2]"""
    with pytest.raises(InvalidTopic):
        check_topic_filter(topic_filter)


def test_shared_filter_is_split_into_name_and_filter() -> None:
    """[4.8.2-1, 4.8.2-2]"""
    assert split_shared("$share/group/a/b") == ("group", "a/b")
    assert split_shared("$share/group//a") == ("group", "/a")
    assert split_shared("$shared/x") == (None, "$shared/x")
    assert split_shared("a") == (None, "a")
    for wrong in ("$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a"):
        with pytest.raises(InvalidTopic):
            split_shared(wrong)


def test_tree_separates_values_by_key() -> None:
    """Several sessions have the same filter; removing one leaves the others, and removing all leaves no branch."""
    tree: FilterTree[int] = FilterTree()
    assert tree.put("a/+", 1, "one") is None
    assert tree.put("a/+", 2, "two") is None
    assert tree.put("a/+", 3, "two") == 2
    assert len(tree) == 2
    assert sorted(tree.match("a/x")) == [1, 3]
    assert tree.get("a/+", "two") == 3
    assert tree.get("a", "two") is None
    assert tree.remove("a/+", "two") == 3
    assert tree.remove("a/+", "two") is None
    assert tree.remove("a/#", "one") is None
    assert tree.remove("a/+", "one") == 1
    assert len(tree) == 0
    assert tree._root.children == {}


def test_removing_a_branch_keeps_its_siblings_and_parents() -> None:
    """Only branches without values are removed."""
    tree: FilterTree[int] = FilterTree()
    for value, topic_filter in enumerate(("a", "a/b/c", "a/b/d")):
        tree.put(topic_filter, value)
    tree.remove("a/b/c")
    assert tree.match("a") == [0]
    assert tree.match("a/b/d") == [2]
    assert tree.match("a/b/c") == []


def test_name_cache_is_bounded() -> None:
    """Neither many nor long names of a malicious client fill the memory."""
    names = TopicNames(size_max=3)
    for name in (b"a", b"b", b"c", b"d"):
        assert names.decode(name) == name.decode()
    assert len(names.known) == 1
    names.decode(b"x" * (CACHED_BYTES_MAX + 1))
    assert len(names.known) == 1


def test_invalid_names_are_not_cached() -> None:
    """An invalid name is refused the second time, too."""
    names = TopicNames(levels_max=2)
    for wrong in (b"\xff", b"a/b/c", b"#", b""):
        for _ in range(2):
            with pytest.raises(InvalidTopic):
                names.decode(wrong)
    assert names.known == {}
