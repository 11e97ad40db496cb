"""Rules that feed other rules through the broker, and those that feed themselves."""

from __future__ import annotations

from support.ledger import check_rows
from support.packets import open_connection, publish, read_packet, subscribe
from support.process import MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho
from support.wait import wait_until

FORWARD = 'INSERT INTO hot_topic SELECT payload.device AS device, payload.seq AS seq, 40 AS temp FROM "raw/+"'


def test_a_republished_message_reaches_rules_and_subscribers(headgate: MakeHeadgate) -> None:
    """A chain of two rules: each acknowledged message at its beginning is a row at its end, once and in order."""
    republish = {"type": "republish", "topic": "sensors/${device}/temp", "qos": 1}
    forward = FORWARD.replace("raw/+", "sensors/+/temp").replace("hot_topic", "again") + " WHERE payload.temp > 30"
    store = 'INSERT INTO readings SELECT payload.device AS device, payload.seq AS seq FROM "again/+"'
    sinks = {"again": {**republish, "topic": "again/${device}"}, "readings": SQLITE_SINK}
    with headgate(sinks=sinks, rules={"forward": forward, "store": store}) as process:
        listener, _ = open_connection(process.port, "listener")
        with listener:
            listener.sendall(subscribe("again/#"))
            assert read_packet(listener)[0] == 0x90
            promised = ledgers(publish_with_paho(lambda: process.port, 2, 1000))
            assert read_packet(listener)[1].startswith(b"\x00\x0cagain/paho-")
        process.settle()
        wait_until(lambda: len(sqlite_rows(process.directory)) >= 1000, 10, "the second rule's rows arrive")
        check_rows(sqlite_rows(process.directory), promised)
        process.settle()
        process.check_counters()


def test_a_loop_of_rules_is_stopped_and_named(headgate: MakeHeadgate) -> None:
    """Two rules that feed each other: the message goes round once and ends as a dead letter that names both."""
    sinks = {
        "to_b": {"type": "republish", "topic": "b/x", "qos": 1},
        "to_a": {"type": "republish", "topic": "a/x", "qos": 1},
        "readings": SQLITE_SINK,
    }
    rules = {
        "ping": 'INSERT INTO to_b SELECT payload FROM "a/#"',
        "pong": 'INSERT INTO to_a SELECT payload FROM "b/#"',
        "hot": HOT_READINGS,
    }
    with headgate(sinks=sinks, rules=rules) as process:
        connection, _ = open_connection(process.port, "starter")
        with connection:
            connection.sendall(publish("a/x", b"{}", 1))
            assert read_packet(connection)[0] == 0x40

        def dead_letters() -> list[dict[str, object]]:
            return [letter for sink in sinks for letter in process.api(f"sinks/{sink}/dead_letters")["data"]]

        wait_until(dead_letters, 10, "the loop is stopped")
        process.settle()
        (letter,) = dead_letters()
        assert "ping" in str(letter["reason"])
        assert "pong" in str(letter["reason"])
        rounds = process.rules()
        assert rounds["ping"]["received"] + rounds["pong"]["received"] <= 4
        promised = ledgers(publish_with_paho(lambda: process.port, 1, 100))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
