"""A full buffer refuses messages by the means of each protocol version."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support.endpoint import Endpoint
from support.packets import PUBACK, open_connection, publish, read_packet
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS
from support.publisher import payload
from support.wait import wait_until

QUOTA_EXCEEDED = 0x97
LIMIT = 100


@pytest.fixture
def away() -> Iterator[Endpoint]:
    """An endpoint that is not there until it is started."""
    server = Endpoint()
    yield server
    server.remove()


def full_project(away: Endpoint, when_full: str = "refuse") -> dict[str, Any]:
    sink = {
        "type": "http", "url": f"{away.url}/in", "buffer": {"max_events": LIMIT, "when_full": when_full},
        "retry": {"initial": "100ms", "max": "500ms"},
    }  # fmt: skip
    return {"sinks": {"readings": sink}, "rules": {"hot": HOT_READINGS}}


def send(connection: socket.socket, number: int, *, version: int, qos: int = 1) -> int:
    """Publish one hot reading; with QoS 1, the reason code of its PUBACK."""
    body = payload("full", number * 2)
    connection.sendall(publish("sensors/full/temp", body, number + 1, qos=qos, version=version))
    if qos == 0:
        return 0
    head, answer = read_packet(connection)
    assert (head, int.from_bytes(answer[:2], "big")) == (PUBACK, number + 1)
    return answer[2] if len(answer) > 2 else 0


def fill(process: Headgate) -> int:
    """Publish one by one until the first is refused; the number that was taken."""
    connection, _ = open_connection(process.port, "filler", version=5)
    with connection:
        for number in range(10 * LIMIT):
            if send(connection, number, version=5) == QUOTA_EXCEEDED:
                return number
    raise AssertionError("nothing was refused")


def test_a_full_buffer_answers_quota_exceeded_to_mqtt_5(headgate: MakeHeadgate, away: Endpoint) -> None:
    """when_full: refuse. Accepted publishes are safe, others are refused; after the outage all are accepted."""
    with headgate(**full_project(away)) as process:
        taken = fill(process)
        assert LIMIT <= taken < 2 * LIMIT
        assert process.sink("readings")["buffered"] == taken
        assert process.rules()["hot"]["refused"] == 1
        process.check_counters()
        away.start()
        process.settle()
        assert [number for _, number in away.rows()] == [2 * number for number in range(taken)]
        connection, _ = open_connection(process.port, "later", version=5)
        with connection:
            assert send(connection, 0, version=5) < 0x80
        process.settle()
        process.check_counters()


def test_a_full_buffer_closes_an_older_client_unacknowledged(headgate: MakeHeadgate, away: Endpoint) -> None:
    """MQTT 3.1.1 has no word for it: the connection ends, the message stays the client's, and it comes again."""
    with headgate(**full_project(away)) as process:
        taken = fill(process)
        connection, _ = open_connection(process.port, "old", version=4)
        with connection, pytest.raises(ConnectionError):
            send(connection, 0, version=4)
        assert process.sink("readings")["buffered"] == taken
        process.check_counters()


def test_a_full_buffer_drops_and_counts_messages_without_acknowledgement(
    headgate: MakeHeadgate, away: Endpoint
) -> None:
    """A QoS 0 message can't be refused; that it was dropped is counted, not silent."""
    with headgate(**full_project(away)) as process:
        taken = fill(process)
        connection, _ = open_connection(process.port, "unsure", version=4)
        with connection:
            for number in range(10):
                send(connection, number, version=4, qos=0)
            connection.sendall(b"\xc0\x00")
            assert read_packet(connection)[0] == 0xD0
        sink = wait_until(lambda: _with(process, dropped=10), 5, "the drops are counted")
        assert (sink["buffered"], sink["emitted"]) == (taken, taken + 10)
        process.check_counters()


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_a_policy_that_drops_keeps_the_limit_and_counts(headgate: MakeHeadgate, away: Endpoint, when_full: str) -> None:
    """For who asks for it: everything is acknowledged, the buffer stays bounded, what was dropped is counted."""
    messages = 3 * LIMIT
    with headgate(**full_project(away, when_full)) as process:
        connection, _ = open_connection(process.port, "full", version=5)
        with connection:
            assert all(send(connection, number, version=5) < 0x80 for number in range(messages))
        sink = process.sink("readings")
        assert sink["buffered"] + sink["dropped"] == messages
        assert LIMIT // 2 <= sink["buffered"] <= 2 * LIMIT
        process.check_counters()
        away.start()
        process.settle()
        kept = [number // 2 for _, number in away.rows()]
        assert kept == sorted(kept)
        assert kept[-1] == messages - 1 if when_full == "drop_oldest" else kept[0] == 0
        process.check_counters()


def _with(process: Headgate, **wanted: int) -> dict[str, Any] | None:
    sink = process.sink("readings")
    return sink if all(sink[name] == value for name, value in wanted.items()) else None
