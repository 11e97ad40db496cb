"""The message itself: its columns as they came, whatever aliases say, and its topic level by level."""

from __future__ import annotations

from typing import Any, Protocol

from broker.topics import topic_matches
from engine.language.functions.argument import MISSING, integer, items, opened, text
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED
from engine.model.value import same


class Source(Protocol):
    """What is asked of a message or an occurrence."""

    @property
    def json(self) -> Any: ...
    def column(self, name: str) -> Any: ...


@function(("is_str(msgid())", True), needs_message=True)
def msgid(message: Source) -> Any:
    """The message's id."""
    return message.column("id")


@function(("topic()", "t/a"), ("topic(2)", "a"), ("topic(-1)", "a"), ("topic(9)", None), needs_message=True)
def topic(message: Source, level: Any = MISSING) -> Any:
    """The topic, or one level of it: 1 is the first, -1 the last; undefined where the topic has no such level."""
    name = message.column("topic")
    if level is MISSING or type(name) is not str:
        return name
    position = integer("topic", 1, level)
    levels = name.split("/")
    if position == 0 or not -len(levels) <= position <= len(levels):
        return UNDEFINED
    return levels[position - 1 if position > 0 else position]


@function(("clientid()", "c1"), needs_message=True)
def clientid(message: Source) -> Any:
    """The client's id."""
    return message.column("clientid")


@function(("username()", "u1"), needs_message=True)
def username(message: Source) -> Any:
    """The client's user name."""
    return message.column("username")


@function(("clientip()", "127.0.0.1"), needs_message=True)
def clientip(message: Source) -> Any:
    """The client's IP address, as `peerhost`."""
    return message.column("peerhost")


@function(("peerhost()", "127.0.0.1"), needs_message=True)
def peerhost(message: Source) -> Any:
    """The client's IP address."""
    return message.column("peerhost")


@function(("qos()", 1), needs_message=True)
def qos(message: Source) -> Any:
    """The message's quality of service."""
    return message.column("qos")


@function(("flags()", {"retain": False, "dup": False}), needs_message=True)
def flags(message: Source) -> Any:
    """The message's flags as a map; empty where it has none."""
    found = message.column("flags")
    return {} if found is UNDEFINED else found


@function(("flag('retain')", False), needs_message=True)
def flag(message: Source, name: str) -> Any:
    """One of the message's flags."""
    found = flags(message)
    return found.get(text("flag", 1, name), UNDEFINED) if type(found) is dict else UNDEFINED


@function(("payload()", "{}"), ("payload('a.b')", None), needs_message=True)
def payload(message: Source, path: Any = MISSING) -> Any:
    """The payload as it came, or the value at a dotted path of keys in it; undefined where there is none."""
    if path is MISSING:
        return message.column("payload")
    value = message.json
    for key in text("payload", 1, path).split("."):
        value = opened(value)
        if value is UNDEFINED or key not in value:
            return UNDEFINED
        value = value[key]
    return value


@function(("contains_topic(['t/1', 't/2'], 't/1')", True), ("contains_topic(['t/+'], 't/1')", False))
def contains_topic(filters: list[Any], topic: str, qos: Any = MISSING) -> bool:
    """Whether a list has the topic: as a text, or as a map with `topic` (and `qos`, where one is asked for)."""
    name = text("contains_topic", 2, topic)
    return any(name == found for found in _listed("contains_topic", filters, qos))


@function(("contains_topic_match(['t/+'], 't/1')", True))
def contains_topic_match(filters: list[Any], topic: str, qos: Any = MISSING) -> bool:
    """Whether a list has a topic filter that matches the topic; its elements are those of `contains_topic`."""
    name = text("contains_topic_match", 2, topic)
    return any(topic_matches(found, name) for found in _listed("contains_topic_match", filters, qos))


def _listed(name: str, filters: Any, qos: Any) -> list[str]:
    entries = [item if type(item) is dict else {"topic": item} for item in items(name, 1, filters)]
    fitting = [entry for entry in entries if qos is MISSING or same(entry.get("qos"), qos)]
    return [entry["topic"] for entry in fitting if type(entry.get("topic")) is str]
