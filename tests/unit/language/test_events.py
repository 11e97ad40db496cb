"""The catalogue of events: both spellings of topics, wildcards, columns."""

from __future__ import annotations

import pytest

from engine.language.events import (
    EVENTS,
    PUBLISH,
    Event,
    columns_of,
    event_topic,
    events_of,
    is_event_filter,
    nearest_topic,
    selects_event,
)  # fmt: skip


@pytest.mark.parametrize("event", [PUBLISH, *EVENTS.values()], ids=lambda event: str(event.name))
def test_every_column_has_a_meaning_and_an_example(event: Event) -> None:
    """The reference is made from this; a column without words or sample would be a blank in it."""
    assert event.doc.endswith(".")
    assert set(event.example) == set(event.columns)
    assert all(event.columns.values())
    assert event.example["event"] == event.name
    assert {"timestamp", "node"} <= set(event.columns)


@pytest.mark.parametrize(
    ("topic_filter", "names"),
    [
        ("$events/client/connected", "client.connected"),
        ("$events/client_connected", "client.connected"),
        ("$events/client/+", "client.connected client.disconnected client.connack client.ping"),
        ("$events/message/#", "message.delivered message.acked message.dropped delivery.dropped"),
        ("$events/auth/+", "client.check_authn_complete client.check_authz_complete"),
        ("$events/delivery_dropped", "delivery.dropped"),
        ("$events/sys/alarm_activated", "alarm.activated"),
        ("$events/foo", ""),
        ("$events/client_ping", ""),
        ("#", ""),
        ("+/client/connected", ""),
    ],
)
def test_from_finds_events_by_both_names(topic_filter: str, names: str) -> None:
    """Rules written for any EMQX 5 or 6 name events in either way."""
    assert [event.name for event in events_of(topic_filter)] == names.split()


def test_wildcards_go_over_all_names() -> None:
    """16 events; one level reaches the 13 that have an old name."""
    assert len(events_of("$events/#")) == 16
    assert len(events_of("$events/+")) == 13


def test_types_and_topics_are_the_same_events() -> None:
    """`headgate eval` names an event by its type; every type has a topic, every topic is matched by itself."""
    for event in EVENTS.values():
        assert event_topic(event.type) == event_topic(event.name) == event.topic
        assert selects_event(event.topic, event.topic)
        assert is_event_filter(event.topic)
        assert columns_of(event.type) is columns_of(event.topic) is event.columns
    assert columns_of("message_publish") is PUBLISH.columns
    with pytest.raises(ValueError, match="did you mean client_connected"):
        event_topic("client_conected")


def test_a_wrong_event_has_a_nearest_one() -> None:
    """A rule on an event that does not exist never fires; the checker says so, and what was meant."""
    assert nearest_topic("$events/client/conected") == "$events/client/connected"
    assert nearest_topic("$events/session_subscibed") == "$events/session_subscribed"
    assert nearest_topic("nothing like it") is None


def test_topics_are_no_event_filters() -> None:
    """Sources and publishes are found in other ways."""
    assert not is_event_filter("t/#")
    assert not is_event_filter("$sources/factory")
