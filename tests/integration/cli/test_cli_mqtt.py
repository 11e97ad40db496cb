"""``headgate pub`` and ``headgate sub`` against the real broker."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.config import BrokerConfig
from broker.hooks import Hooks, SessionSubscribed
from broker.listeners.tcp import TcpConfig
from broker.origin import Address
from broker.server import Broker
from support.command import headgate, start_headgate


class RunningBroker:
    """A broker on a free port, which signals a subscription."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        hooks = Hooks(session_subscribed=self._on_subscribed)
        self.broker = Broker(BrokerConfig(listeners=(TcpConfig(bind=Address("127.0.0.1", 0)),)), hooks)

    @property
    def port(self) -> str:
        return str(self.broker.listeners[0].port)

    def _on_subscribed(self, event: SessionSubscribed) -> None:
        self.subscribed.set()


@pytest.fixture
async def broker() -> AsyncIterator[RunningBroker]:
    running = RunningBroker()
    await running.broker.start()
    yield running
    await running.broker.stop(1.0)


@pytest.mark.parametrize("version", ["5", "311"])
async def test_a_message_goes_from_pub_to_sub(broker: RunningBroker, tmp_path: Path, version: str) -> None:
    """The two commands are all a newcomer needs to see the broker work."""
    arguments = ("sub", "-p", broker.port, "-t", "a/#", "-q", "1", "-v", "-C", "1", "-W", "20", "-V", version)
    subscriber = await start_headgate(*arguments, cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    published = await headgate(
        "pub", "-p", broker.port, "-t", "a/b", "-m", '{"t": 1}', "-q", "1", "-V", version, cwd=tmp_path
    )
    out, err = await asyncio.wait_for(subscriber.communicate(), 20)

    assert (published.code, published.out, published.err) == (0, "", "")
    assert (subscriber.returncode, out, err) == (0, b'a/b {"t": 1}\n', b"")


async def test_lines_of_standard_input_become_messages_in_order(broker: RunningBroker, tmp_path: Path) -> None:
    """It is how a file is played into a broker."""
    arguments = ("sub", "-p", broker.port, "-t", "a", "-q", "1", "--json", "-C", "300", "-W", "20")
    subscriber = await start_headgate(*arguments, cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    lines = "".join(f"{number}\n" for number in range(300))
    published = await headgate("pub", "-p", broker.port, "-t", "a", "-l", "-q", "1", cwd=tmp_path, stdin=lines)
    out, _ = await asyncio.wait_for(subscriber.communicate(), 20)

    messages = [json.loads(line) for line in out.splitlines()]
    assert published.code == 0
    assert [message["payload"] for message in messages] == [str(number) for number in range(300)]
    assert messages[0] == {"topic": "a", "payload": "0", "qos": 1, "retain": False}


async def test_a_retained_message_reaches_later_subscribers(broker: RunningBroker, tmp_path: Path) -> None:
    """And -n deletes it."""
    await headgate("pub", "-p", broker.port, "-t", "lamp", "-m", "on", "-r", "-q", "1", cwd=tmp_path)
    first = await headgate("sub", "-p", broker.port, "-t", "lamp", "--json", "-C", "1", "-W", "10", cwd=tmp_path)
    await headgate("pub", "-p", broker.port, "-t", "lamp", "-n", "-r", "-q", "1", cwd=tmp_path)
    second = await headgate("sub", "-p", broker.port, "-t", "lamp", "-C", "1", "-W", "1", cwd=tmp_path)

    assert (first.code, first.json["payload"], first.json["retain"]) == (0, "on", True)
    assert (second.code, second.out) == (1, "")


async def test_ctrl_c_ends_sub_cleanly(broker: RunningBroker, tmp_path: Path) -> None:
    """It is the usual way to end it: no traceback, and no failure."""
    subscriber = await start_headgate("sub", "-p", broker.port, "-t", "a", cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    subscriber.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(subscriber.communicate(), 20)

    assert (subscriber.returncode, out, err) == (0, b"", b"")


async def test_an_unreachable_broker_exits_with_3(tmp_path: Path) -> None:
    """Scripts distinguish "not running" from "refused" by the code."""
    finished = await headgate("pub", "-p", "1", "-t", "a", "-m", "x", cwd=tmp_path)

    assert finished.code == 3
    assert finished.err.startswith("error: no broker at 127.0.0.1:1: connection refused\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pub", "-t", "a"), "give the payload"),
        (("pub", "-t", "a", "-m", "x", "-n"), "give the payload"),
        (("pub", "-t", "a/+", "-m", "x"), "no wildcards"),
        (("pub", "-t", "a", "-m", "x", "-V", "7"), "not a version of MQTT"),
        (("pub", "-t", "a", "-m", "x", "-q", "3"), "-q"),
        (("pub", "-m", "x"), "-t"),
        (("pub", "-t", "a", "-m", "x", "-p", "-5"), "-p"),
        (("pub", "-t", "a", "-m", "x", "-p", "99999"), "-p"),
        (("pub", "-t", "a" * 65536, "-m", "x"), "the topic has more than 65,535 bytes"),
        (("pub", "-t", "a\udcff", "-m", "x"), "the topic is not UTF-8"),
        (("pub", "-t", "a", "-m", "x", "-i", "c" * 65536), "the client id has more than 65,535 bytes"),
        (("sub", "-t", "a", "-c"), "needs a client id"),
        (("sub", "-t", ""), "the topic is empty"),
        (("sub", "-t", "a/#/b"), "has # before its last level"),
    ],
)
async def test_a_wrong_command_line_exits_with_2_and_a_reason(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Nothing is sent, and no broker is needed."""
    finished = await headgate(*arguments, cwd=tmp_path)

    assert finished.code == 2
    assert said in finished.err


@pytest.mark.parametrize("qos", ["0", "1"])
async def test_a_message_that_is_too_large_is_refused_and_others_go_out(
    broker: RunningBroker, tmp_path: Path, qos: str
) -> None:
    """The broker would close the connection on it: QoS 0 would be lost in silence, QoS 1 sent again and again."""
    arguments = ("sub", "-p", broker.port, "-t", "a", "-q", "1", "-C", "2", "-W", "20")
    subscriber = await start_headgate(*arguments, cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    lines = "one\n" + "x" * (1 << 20) + "\ntwo\n"
    finished = await headgate("pub", "-p", broker.port, "-t", "a", "-l", "-q", qos, cwd=tmp_path, stdin=lines)
    out, _ = await asyncio.wait_for(subscriber.communicate(), 20)

    assert out == b"one\ntwo\n"
    assert finished.code == 1
    assert finished.err == "error: 1 refused: larger than the 1,048,576 bytes that the broker takes\n"


async def test_a_payload_that_is_not_text_is_sent_unchanged(broker: RunningBroker, tmp_path: Path) -> None:
    """A shell passes any bytes on, and a payload can hold any bytes."""
    subscriber = await start_headgate("sub", "-p", broker.port, "-t", "a", "-C", "1", "-W", "20", cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    await headgate("pub", "-p", broker.port, "-t", "a", "-m", "\udcff!", "-q", "1", cwd=tmp_path)
    out, _ = await asyncio.wait_for(subscriber.communicate(), 20)

    assert out == b"\xff!\n"


async def test_a_subscriber_ends_after_a_takeover(broker: RunningBroker, tmp_path: Path) -> None:
    """If it reconnected, both clients would take over from each other for ever."""
    first = await start_headgate("sub", "-p", broker.port, "-t", "a", "-i", "me", cwd=tmp_path)
    await asyncio.wait_for(broker.subscribed.wait(), 20)

    await headgate("sub", "-p", broker.port, "-t", "a", "-i", "me", "-W", "1", cwd=tmp_path)
    _, err = await asyncio.wait_for(first.communicate(), 20)

    assert (first.returncode, err) == (1, b"error: the broker closed the connection: session taken over\n")


async def test_a_failed_write_of_a_message_ends_sub(broker: RunningBroker, tmp_path: Path) -> None:
    """The disk of its output can be full."""
    with Path("/dev/full").open("wb") as full:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "engine", "sub", "-p", broker.port, "-t", "a",
            cwd=tmp_path, stdout=full, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    await asyncio.wait_for(broker.subscribed.wait(), 20)
    await headgate("pub", "-p", broker.port, "-t", "a", "-m", "x", "-q", "1", cwd=tmp_path)
    _, err = await asyncio.wait_for(process.communicate(), 20)

    assert (process.returncode, err) == (1, b"error: the messages can't be written: No space left on device\n")


async def test_the_broker_of_the_running_project_is_found(broker: RunningBroker, tmp_path: Path) -> None:
    """With a port of one's own in headgate.yaml, pub and sub need no -p."""
    (tmp_path / "data").mkdir()
    listeners = [{"type": "tcp", "host": "0.0.0.0", "port": int(broker.port)}]
    (tmp_path / "data" / "run.json").write_text(json.dumps({"pid": 1, "listeners": listeners, "api": None}))

    finished = await headgate("pub", "-t", "a", "-m", "x", "-q", "1", cwd=tmp_path)

    assert (finished.code, finished.err) == (0, "")


async def test_a_port_of_the_running_project_is_tried_on_its_address(broker: RunningBroker, tmp_path: Path) -> None:
    """`headgate run` prints -p for a port of one's own; the address it is on may be any of this machine's."""
    (tmp_path / "data").mkdir()
    listeners = [
        {"type": "tcp", "host": "192.0.2.1", "port": 1},
        {"type": "tcp", "host": "localhost", "port": int(broker.port)},
    ]
    (tmp_path / "data" / "run.json").write_text(json.dumps({"pid": 1, "listeners": listeners, "api": None}))

    finished = await headgate("pub", "-p", broker.port, "-t", "a", "-m", "x", "-q", "1", cwd=tmp_path)
    elsewhere = await headgate("pub", "-p", "2", "-t", "a", "-m", "x", cwd=tmp_path)
    listeners[1]["port"] = 2
    (tmp_path / "data" / "run.json").write_text(json.dumps({"pid": 1, "listeners": listeners, "api": None}))
    named = await headgate("pub", "-p", "2", "-t", "a", "-m", "x", cwd=tmp_path)

    assert (finished.code, finished.err) == (0, "")
    assert "no broker at 127.0.0.1:2" in elsewhere.err
    assert "no broker at localhost:2" in named.err
