"""The republish sink: the message of a row, and loop detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.republish import RepublishConfig, RepublishSink
from engine.connector import Publication, SinkContext
from engine.errors import ConfigError, DeliveryError, RejectError
from engine.model.record import Batch, Record, Row
from support.sinks.harness import write

Published = list[Publication]


async def republish(
    tmp_path: Path, options: dict[str, Any], *rows: Row, rule_id: str = "r", trail: tuple[str, ...] = ()
) -> tuple[Published, Mapping[int, DeliveryError]]:
    """Return the messages that a sink with `options` publishes of `rows`, and the failures."""
    published: Published = []

    async def publish(publications: Sequence[Publication]) -> Mapping[int, DeliveryError]:
        published.extend(publications)
        return {}

    context = SinkContext("again", tmp_path, tmp_path, publish=publish)
    sink = RepublishSink(RepublishConfig.model_validate({"type": "republish", **options}), context)
    await sink.connect()
    records = [Record("again", 0, n, row, rule_id, "c", "t", 1, trail) for n, row in enumerate(rows, start=1)]
    failures = await write(sink, Batch("again", 0, range(1, len(rows) + 1), list(rows), records))
    return published, failures


async def test_payload_is_the_payload_column_or_else_the_row(tmp_path: Path) -> None:
    """As in EMQX if the rule selects `payload`; the whole row where EMQX publishes `undefined`."""
    rows: list[Row] = [{"payload": "text"}, {"payload": b"\xff"}, {"a": 1}, {"payload": {"a": 1}}, {"payload": 21.5}]
    published, _ = await republish(tmp_path, {"topic": "out/x"}, *rows)
    assert [item.payload for item in published] == [b"text", b"\xff", b'{"a":1}', b'{"a":1}', b"21.5"]


async def test_whole_row_has_no_columns_of_the_record(tmp_path: Path) -> None:
    """Columns like `_id` are for templates only."""
    options = {"topic": "out/${_rule}", "payload": "${.}"}
    published, _ = await republish(tmp_path, options, {"a": 1}, {"_id": "mine"})
    assert [item.payload for item in published] == [b'{"a":1}', b'{"_id":"mine"}']


async def test_qos_and_retain_come_from_the_row_or_the_options(tmp_path: Path) -> None:
    """`${qos}` and `${retain}` are the defaults, and a row without them is QoS 0, not retained."""
    published, _ = await republish(tmp_path, {"topic": "out/x"}, {"qos": 2, "retain": True}, {"a": 1})
    assert [(item.qos, item.retain) for item in published] == [(2, True), (0, False)]
    published, _ = await republish(tmp_path, {"topic": "out/x", "qos": 1, "retain": True}, {"a": 1})
    assert [(item.qos, item.retain) for item in published] == [(1, True)]


async def test_invalid_qos_rejects_its_row(tmp_path: Path) -> None:
    """One bad row does not fail the others."""
    published, failures = await republish(tmp_path, {"topic": "out/x"}, {"qos": 7}, {"qos": 1})
    assert [item.qos for item in published] == [1]
    assert isinstance(failures[0], RejectError)


async def test_properties_are_rendered(tmp_path: Path) -> None:
    """Values are converted to the types of MQTT, and a map to user properties."""
    options = {
        "topic": "out/x",
        "mqtt_properties": {"Message-Expiry-Interval": "${ttl}", "Content-Type": "text/${kind}"},
        "user_properties": "${props}",
    }
    published, _ = await republish(tmp_path, options, {"ttl": 60, "kind": "plain", "props": {"a": 1}})
    assert published[0].properties == {
        "message_expiry_interval": 60,
        "content_type": "text/plain",
        "user_property": [("a", "1")],
    }


async def test_correlation_data_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    """A requester matches the response by it, and it is often binary."""
    options = {"topic": "out/x", "mqtt_properties": {"Correlation-Data": "${data}"}}
    published, failures = await republish(tmp_path, options, {"data": b"\x00\xff"}, {"data": "order-7"})
    assert failures == {}
    assert [item.properties for item in published] == [
        {"correlation_data": b"\x00\xff"}, {"correlation_data": b"order-7"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Payload-Format-Indicator", 2), ("Message-Expiry-Interval", 2**32), ("Message-Expiry-Interval", -1),
        ("Message-Expiry-Interval", "soon"), ("Response-Topic", "a/#"), ("Content-Type", "a\0b"),
        ("Content-Type", "x" * 65_536), ("Content-Type", b"\xff"), ("Correlation-Data", "x" * 65_536),
    ],
)  # fmt: skip
async def test_property_that_mqtt_cannot_carry_rejects_its_row(tmp_path: Path, name: str, value: Any) -> None:
    """It would end the connections of subscribers, and a retained message would do so every time."""
    options = {"topic": "out/x", "mqtt_properties": {name: "${v}"}}
    published, failures = await republish(tmp_path, options, {"v": value}, {"v": None})
    assert {index: type(error) for index, error in failures.items()} == {0: RejectError}
    assert [item.properties for item in published] == [{}]


async def test_properties_keep_bytes_and_kinds(tmp_path: Path) -> None:
    """Correlation data is binary; other values in a map are written as in JSON."""
    options = {"topic": "out/x", "mqtt_properties": {"Correlation-Data": "${id}"}, "user_properties": "${props}"}
    row = {"id": b"\xff\x00", "props": {"on": True, "list": [1], "n": 1.0}}
    published, failures = await republish(tmp_path, options, row, {"id": "x", "props": {"a": b"\xff"}})
    assert published[0].properties == {
        "correlation_data": b"\xff\x00", "user_property": [("on", "true"), ("list", "[1]"), ("n", "1.0")],
    }  # fmt: skip
    assert list(failures) == [1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("qos", 3), ("retain", "maybe"), ("user_properties", "source=${s}"),
        ("mqtt_properties", {"Message-Expiry-Interval": "1h"}),
    ],
)  # fmt: skip
def test_invalid_constant_options_are_refused_at_load_time(tmp_path: Path, option: str, value: Any) -> None:
    """Every message would become a dead letter."""
    config = RepublishConfig.model_validate({"type": "republish", "topic": "out/x", option: value})
    with pytest.raises(ConfigError, match=f"`{option}`"):
        RepublishSink(config, SinkContext("again", tmp_path, tmp_path))


async def test_loop_is_rejected_with_the_names_of_the_rules(tmp_path: Path) -> None:
    """Two rules that feed each other loop for ever in EMQX."""
    published, failures = await republish(tmp_path, {"topic": "out/x"}, {"a": 1}, rule_id="one", trail=("one", "two"))
    assert published == []
    assert isinstance(failures[0], RejectError)
    assert "one -> two -> one" in failures[0].message


async def test_trail_gets_the_rule_that_publishes(tmp_path: Path) -> None:
    """The trail is what the loop detection compares."""
    published, _ = await republish(tmp_path, {"topic": "out/x"}, {"a": 1}, rule_id="two", trail=("one",))
    assert published[0].trail == ("one", "two")


def test_unknown_property_is_refused_at_load_time(tmp_path: Path) -> None:
    """A misspelt name would otherwise be ignored silently."""
    config = RepublishConfig(type="republish", topic="out/x", mqtt_properties={"content-type": "x"})
    with pytest.raises(ConfigError, match="content-type"):
        RepublishSink(config, SinkContext("again", tmp_path, tmp_path))


def test_unconfined_topic_needs_allow_unconfined(tmp_path: Path) -> None:
    """Otherwise any publisher could write to any topic."""
    with pytest.raises(ConfigError):
        RepublishSink(RepublishConfig(type="republish", topic="${t}"), SinkContext("again", tmp_path, tmp_path))
