"""Fixtures of the real servers, and the marker `@pytest.mark.server`.

``postgresql_server``, ``kafka_server`` and the others start once a session and are shared: a test that kills one starts
it again. ``postgresql_database``, ``mongodb_database``, ``kafka_topic`` and ``influxdb_database`` give each test
something of its own.

Tests whose server is missing are skipped with the reason; with ``CI=true`` they fail, and so does every other skip of a
test that needs a server.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from servers.influxdb import Influxdb
from servers.install import missing
from servers.kafka import Kafka
from servers.mongodb import Mongodb
from servers.mosquitto import Mosquitto
from servers.postgresql import Postgresql
from servers.process import Server
from servers.victoriametrics import Victoriametrics

SERVER_FIXTURES = {
    "postgresql_server": "postgresql",
    "kafka_server": "kafka",
    "mongodb_server": "mongodb",
    "mosquitto_server": "mosquitto",
    "influxdb_server": "influxdb",
    "victoriametrics_server": "victoriametrics",
}
"""Fixture to the name of the server it starts."""


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def needed_servers(item: pytest.Item) -> set[str]:
    """Return the servers that a test needs: those of its markers and of its fixtures."""
    marked = {str(argument) for marker in item.iter_markers("server") for argument in marker.args}
    asked = {SERVER_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in SERVER_FIXTURES}
    return marked | asked


def pytest_runtest_setup(item: pytest.Item) -> None:
    for server in sorted(needed_servers(item)):
        reason = missing(server)
        if reason:
            pytest.skip(f"{reason}: see tests/servers/README.md")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and in_ci() and needed_servers(item):
        report.outcome = "failed"
        report.longrepr = f"skipped, which must not happen in CI: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped as a whole, which must not happen in CI: {_reason(report)}"
    return report


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    yield from _running(Postgresql())


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Kafka]:
    yield from _running(Kafka())


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[Mongodb]:
    yield from _running(Mongodb())


@pytest.fixture(scope="session")
def mosquitto_server() -> Iterator[Mosquitto]:
    yield from _running(Mosquitto())


@pytest.fixture(scope="session")
def influxdb_server() -> Iterator[Influxdb]:
    yield from _running(Influxdb())


@pytest.fixture(scope="session")
def victoriametrics_server() -> Iterator[Victoriametrics]:
    yield from _running(Victoriametrics())


@pytest.fixture
def postgresql_database(postgresql_server: Postgresql) -> Iterator[str]:
    """The name of an empty database."""
    postgresql_server.start()
    name = postgresql_server.create_database()
    yield name
    postgresql_server.start()
    postgresql_server.drop_database(name)


@pytest.fixture
def mongodb_database(mongodb_server: Mongodb) -> Iterator[str]:
    """The name of an empty database."""
    mongodb_server.start()
    name = mongodb_server.new_database()
    yield name
    mongodb_server.start()
    mongodb_server.drop_database(name)


@pytest.fixture
def kafka_topic(kafka_server: Kafka) -> str:
    """The name of an empty topic of four partitions."""
    kafka_server.start()
    return kafka_server.create_topic(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def influxdb_database(influxdb_server: Influxdb) -> Iterator[str]:
    """The name of an empty database."""
    influxdb_server.start()
    name = f"test_{uuid.uuid4().hex[:12]}"
    influxdb_server.execute(f'CREATE DATABASE "{name}"')
    yield name
    influxdb_server.start()
    influxdb_server.execute(f'DROP DATABASE "{name}"')


def _running(server: Any) -> Iterator[Any]:
    assert isinstance(server, Server)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return str(where[2]) if isinstance(where, tuple) else str(where)
