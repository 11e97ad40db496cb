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
    """The reference is generated from them."""
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
def test_from_selects_events_by_both_spellings(topic_filter: str, names: str) -> None:
    """Rules for EMQX 5 and 6 use either."""
    assert [event.name for event in events_of(topic_filter)] == names.split()


def test_wildcards_match_both_spellings() -> None:
    """There are 16 events; one level matches the 13 that have an old spelling."""
    assert len(events_of("$events/#")) == 16
    assert len(events_of("$events/+")) == 13


def test_type_name_and_topic_identify_the_same_event() -> None:
    """`headgate eval` names an event by its type; every type has a topic, and every topic matches itself."""
    for event in EVENTS.values():
        assert event_topic(event.type) == event_topic(event.name) == event.topic
        assert selects_event(event.topic, event.topic)
        assert is_event_filter(event.topic)
        assert columns_of(event.type) is columns_of(event.topic) is event.columns
    assert columns_of("message_publish") is PUBLISH.columns
    with pytest.raises(ValueError, match="did you mean client_connected"):
        event_topic("client_conected")


def test_misspelt_event_has_a_nearest_topic() -> None:
    """A rule on an unknown event never runs; the warning names the event that was probably meant."""
    assert nearest_topic("$events/client/conected") == "$events/client/connected"
    assert nearest_topic("$events/session_subscibed") == "$events/session_subscribed"
    assert nearest_topic("nothing like it") is None


def test_topics_and_sources_are_not_event_filters() -> None:
    """They are indexed separately."""
    assert not is_event_filter("t/#")
    assert not is_event_filter("$sources/factory")
