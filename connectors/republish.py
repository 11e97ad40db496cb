"""Publishes each record into the embedded broker: rules see it, subscribers get it, and loops are stopped.

A record is delivered once the new message is as safe as an acknowledged publish: it stands in the journals of the
rules it meets. A message that comes back to a rule which helped to make it is a loop: its record is rejected with the
names of the rules, and becomes a dead letter instead of going round.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connectors._shared.isolation import isolate
from engine.connector import ConnectorConfig, Deadline, Failures, Publication, Sink, SinkContext
from engine.errors import ConfigError, HoldError, NotConnectedError, RejectError
from engine.language.template import Template
from engine.language.template.kind import as_text
from engine.language.template.option import templated
from engine.model import jsontext
from engine.model.record import Batch, Record

_PROPERTY_BYTES_MAX = 65_535
_LONE = re.compile(r"\$\{[^{}]*\}")


class RepublishConfig(ConnectorConfig):
    """Options of the `republish` sink."""

    topic: Annotated[str, templated("topic")]
    """Template of the topic; it must begin with text of its own unless `allow_unconfined` is set."""
    payload: Annotated[str, templated("payload")] | None = None
    """Template of the payload; without it the row's `payload` column, or the whole row as JSON where it has none."""
    qos: int | str = "${qos}"
    """0, 1, 2 or a template; a row without the column publishes with QoS 0."""
    retain: bool | str = "${retain}"
    """true, false or a template; a row without the column publishes without retain."""
    mqtt_properties: dict[str, Annotated[str, templated("text")]] = Field(default_factory=dict)
    """Templates of MQTT 5 properties by name: Payload-Format-Indicator, Message-Expiry-Interval, Content-Type,
    Response-Topic, Correlation-Data."""
    user_properties: Annotated[str, templated("text")] | None = None
    """Template of one placeholder whose value is a map of user properties."""
    allow_unconfined: bool = False
    """Allow a topic that is decided by the message alone."""


class RepublishSink(Sink):
    """Rows back into the broker, one message each."""

    kind: ClassVar[str] = "republish"
    Config: ClassVar[type[ConnectorConfig]] = RepublishConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: republish\ntopic: "alarms/${device}"\nqos: 1\n',
        'type: republish\ntopic: "by-kind/${kind}/state"\npayload: "${.}"\nretain: true\n',
    )

    def __init__(self, config: RepublishConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._publish = context.publish
        self._connected = False
        self._topic = Template.compile(config.topic, kind="topic", allow_unconfined=config.allow_unconfined)
        self._payload = None if config.payload is None else Template.compile(config.payload or "${.}", kind="payload")
        self._qos = _checked("qos", Template.compile(str(config.qos), kind="text"), _qos)
        self._retain = _checked("retain", Template.compile(str(config.retain), kind="text"), _retain)
        self._user_properties = None
        if config.user_properties is not None:
            self._user_properties = Template.compile(config.user_properties, kind="text")
            if not _LONE.fullmatch(config.user_properties):
                raise ConfigError("`user_properties` is no lone placeholder", remedy="write it like ${properties}")
        unknown = [name for name in config.mqtt_properties if name not in _PROPERTIES]
        if unknown:
            raise ConfigError(
                f"{unknown[0]} is not a property that can be set", remedy=f"use one of {', '.join(_PROPERTIES)}"
            )
        self._properties = {
            name: _checked(
                "mqtt_properties", Template.compile(text, kind="text", missing="empty"), _PROPERTIES[name][1]
            )
            for name, text in config.mqtt_properties.items()
        }

    async def connect(self) -> None:
        if self._publish is None:
            raise HoldError("there is no broker to publish into")
        self._connected = True

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._publish is None or not self._connected:
            raise NotConnectedError("not connected to the broker")
        made = isolate(self._publication, enumerate(batch.records))
        refused = Failures(await self._publish(made.results) if made.results else None)
        return made.failures | refused.moved(made.indices)

    async def close(self) -> None:
        self._connected = False

    def _publication(self, record: Record) -> Publication:
        trail = (*record.trail, record.rule_id)
        if record.rule_id in record.trail:
            path = " -> ".join(trail[record.trail.index(record.rule_id) :])
            raise RejectError(f"republish loop through the rules {path}", code="republish_loop")
        columns = record.columns()
        return Publication(
            topic=self._topic.render(columns),
            payload=self._render_payload(record, columns),
            qos=_qos(self._qos.value(columns)),
            retain=_retain(self._retain.value(columns)),
            properties=self._render_properties(columns),
            rule_id=record.rule_id,
            trail=trail,
        )

    def _render_payload(self, record: Record, columns: Mapping[str, Any]) -> bytes:
        if self._payload is not None:
            return self._payload.render_bytes(columns)
        value = record.row.get("payload")
        if value is None:
            return jsontext.encode(record.row)
        text = as_text(value)
        return text.encode() if isinstance(text, str) else text

    def _render_properties(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for name, template in self._properties.items():
            data = template.render_bytes(columns)
            if data:
                key, convert = _PROPERTIES[name]
                properties[key] = convert(data)
        if self._user_properties is not None:
            pairs = self._user_properties.value(columns)
            if isinstance(pairs, dict):
                properties["user_property"] = [(_text(key), _text(as_text(value))) for key, value in pairs.items()]
        return properties


def _checked(option: str, template: Template, convert: Callable[[Any], Any]) -> Template:
    """`template`; where it is constant, it must be what `convert` takes. Raises `ConfigError`."""
    if template.is_constant:
        try:
            convert(template.render({}))
        except RejectError as error:
            raise ConfigError(f"`{option}`: {error.message}", remedy="correct it, or write a placeholder") from error
    return template


def _qos(value: Any) -> int:
    text = str(value)
    if text in ("0", "1", "2"):
        return int(text)
    if value is None or text in ("", "undefined", "UNDEFINED"):
        return 0
    raise RejectError(f"{text!r} is not a QoS; it is 0, 1 or 2")


def _retain(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "1"):
        return True
    if value is None or text in ("false", "0", "", "undefined"):
        return False
    raise RejectError(f"{text!r} is neither true nor false")


def _flag(value: bytes | str) -> int:
    text = _text(value)
    if text not in ("0", "1"):
        raise RejectError(f"{text[:80]!r} is not 0 or 1, as Payload-Format-Indicator is")
    return int(text)


def _seconds(value: bytes | str) -> int:
    text = _text(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        raise RejectError(f"{text[:80]!r} is not a number of seconds, as Message-Expiry-Interval is")
    return int(text)


def _text(value: bytes | str) -> str:
    """Text that MQTT can carry; anything else would end the connections of those who subscribe to it."""
    data = _data(value)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RejectError("a property can't hold bytes that are no UTF-8 text") from None
    if "\0" in text:
        raise RejectError("a property can't hold a NUL character")
    return text


def _response_topic(value: bytes | str) -> str:
    text = _text(value)
    if "+" in text or "#" in text:
        raise RejectError(f"the topic {text[:80]!r} has a wildcard, which a Response-Topic can't have")
    return text


def _data(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if len(data) > _PROPERTY_BYTES_MAX:
        raise RejectError(f"a property can't be longer than {_PROPERTY_BYTES_MAX} bytes")
    return data


_PROPERTIES: dict[str, tuple[str, Callable[[bytes | str], Any]]] = {
    "Payload-Format-Indicator": ("payload_format_indicator", _flag),
    "Message-Expiry-Interval": ("message_expiry_interval", _seconds),
    "Content-Type": ("content_type", _text),
    "Response-Topic": ("response_topic", _response_topic),
    "Correlation-Data": ("correlation_data", _data),
}
"""By the names of the specification: the broker's name, and how a value becomes one."""
