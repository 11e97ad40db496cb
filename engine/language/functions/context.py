"""The message: its columns, unaffected by aliases of the statement, and its topic levels."""

from __future__ import annotations

from typing import Any, Protocol

from broker.topics import topic_matches
from engine.language.functions.argument import MISSING, integer, items, opened, text
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED
from engine.model.value import same


class RuleInput(Protocol):
    """A message or an occurrence, as far as functions read it."""

    @property
    def json(self) -> Any: ...
    def column(self, name: str) -> Any: ...


@function(("is_str(msgid())", True), needs_message=True)
def msgid(message: RuleInput) -> Any:
    """Return the message id: column `id`."""
    return message.column("id")


@function(("topic()", "t/a"), ("topic(2)", "a"), ("topic(-1)", "a"), ("topic(9)", None), needs_message=True)
def topic(message: RuleInput, level: Any = MISSING) -> Any:
    """Return the topic, or one of its levels: 1 is the first, -1 the last.

    A level that the topic does not have is undefined.
    """
    name = message.column("topic")
    if level is MISSING or type(name) is not str:
        return name
    position = integer("topic", 1, level)
    levels = name.split("/")
    if position == 0 or not -len(levels) <= position <= len(levels):
        return UNDEFINED
    return levels[position - 1 if position > 0 else position]


@function(("clientid()", "c1"), needs_message=True)
def clientid(message: RuleInput) -> Any:
    """Return the client id: column `clientid`."""
    return message.column("clientid")


@function(("username()", "u1"), needs_message=True)
def username(message: RuleInput) -> Any:
    """Return the user name of the client: column `username`."""
    return message.column("username")


@function(("clientip()", "127.0.0.1"), needs_message=True)
def clientip(message: RuleInput) -> Any:
    """Return the IP address of the client: column `peerhost`."""
    return message.column("peerhost")


@function(("peerhost()", "127.0.0.1"), needs_message=True)
def peerhost(message: RuleInput) -> Any:
    """Return the IP address of the client: column `peerhost`."""
    return message.column("peerhost")


@function(("qos()", 1), needs_message=True)
def qos(message: RuleInput) -> Any:
    """Return the QoS of the message: column `qos`."""
    return message.column("qos")


@function(("flags()", {"retain": False, "dup": False}), needs_message=True)
def flags(message: RuleInput) -> Any:
    """Return the flags of the message as a map: column `flags`; an empty map for an event without flags."""
    found = message.column("flags")
    return {} if found is UNDEFINED else found


@function(("flag('retain')", False), needs_message=True)
def flag(message: RuleInput, name: str) -> Any:
    """Return one flag of the message, 'retain' or 'dup'; undefined for any other name."""
    found = flags(message)
    return found.get(text("flag", 1, name), UNDEFINED) if type(found) is dict else UNDEFINED


@function(("payload()", "{}"), ("payload('a.b')", None), needs_message=True)
def payload(message: RuleInput, path: Any = MISSING) -> Any:
    """Return the payload, or the value at a dotted `path` of keys in its JSON.

    A path that leads to no value gives undefined. With a path, fails where the payload is not JSON.
    """
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
    """Return whether the list has the topic as an element: as text, or as a map with `topic`.

    Where `qos` is given, only maps with an equal `qos` count. Wildcards have no meaning.
    """
    name = text("contains_topic", 2, topic)
    return any(name == found for found in _listed("contains_topic", filters, qos))


@function(("contains_topic_match(['t/+'], 't/1')", True))
def contains_topic_match(filters: list[Any], topic: str, qos: Any = MISSING) -> bool:
    """Return whether the list has a topic filter that matches the topic: as text, or as a map with `topic`.

    Where `qos` is given, only maps with an equal `qos` count.
    """
    name = text("contains_topic_match", 2, topic)
    return any(topic_matches(found, name) for found in _listed("contains_topic_match", filters, qos))


def _listed(name: str, filters: Any, qos: Any) -> list[str]:
    entries = [item if type(item) is dict else {"topic": item} for item in items(name, 1, filters)]
    matching = [entry for entry in entries if qos is MISSING or same(entry.get("qos"), qos)]
    return [entry["topic"] for entry in matching if type(entry.get("topic")) is str]
