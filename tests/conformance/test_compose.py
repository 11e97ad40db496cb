"""The compose file, as far as it can be checked without Docker: pinned images that match the test servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from connectors import load_kind
from engine.connector import SinkContext
from servers import influxdb, kafka, mongodb, postgresql
from servers.fixtures import SERVER_FIXTURES

COMPOSE = Path(__file__).parents[2] / "compose"
SERVERS = Path(kafka.__file__).parent
SERVICES: dict[str, Any] = yaml.safe_load((COMPOSE / "docker-compose.yaml").read_text())["services"]


def test_every_server_of_the_tests_has_a_service() -> None:
    """A tested server can also be tried by hand."""
    assert set(SERVICES) == set(SERVER_FIXTURES.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_and_ports_are_on_loopback(name: str) -> None:
    """An unpinned image changes; services with known passwords must not be reachable from elsewhere."""
    assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", SERVICES[name]["image"])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name]["ports"])


def test_no_two_services_use_the_same_port() -> None:
    """Nor the one that Headgate listens on."""
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    assert len({*ports, "1883"}) == len(ports) + 1


def test_logins_are_those_of_the_test_servers() -> None:
    """One set of credentials for both."""
    environment = SERVICES["postgresql"]["environment"]
    assert environment["POSTGRES_USER"] == postgresql.USER
    assert environment["POSTGRES_PASSWORD"] == postgresql.PASSWORD
    assert environment["POSTGRES_DB"] == postgresql.DATABASE
    environment = SERVICES["influxdb"]["environment"]
    assert environment["INFLUXDB_ADMIN_USER"] == influxdb.USER
    assert environment["INFLUXDB_ADMIN_PASSWORD"] == influxdb.PASSWORD
    environment = SERVICES["mongodb"]["environment"]
    assert environment["MONGO_INITDB_ROOT_USERNAME"] == mongodb.USER
    assert environment["MONGO_INITDB_ROOT_PASSWORD"] == mongodb.PASSWORD
    login = SERVICES["kafka"]["environment"]["KAFKA_LISTENER_NAME_SASL__PLAINTEXT_PLAIN_SASL_JAAS_CONFIG"]
    assert f'user_{kafka.USER}="{kafka.PASSWORD}"' in login


def test_kafka_has_the_version_of_the_tests() -> None:
    """A sink that works in the tests should meet the same server here."""
    (version,) = set(re.findall(r"<version>(4\.[\d.]+)</version>", (SERVERS / "kafka-pom.xml").read_text()))
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_kafka_listens_on_its_advertised_addresses() -> None:
    """A client is sent on to the advertised address, so that must be one of the published ports."""
    environment = SERVICES["kafka"]["environment"]
    listeners = dict(part.split("://:") for part in environment["KAFKA_LISTENERS"].split(","))
    protocols = dict(part.split(":") for part in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert set(listeners) == set(protocols)
    for part in environment["KAFKA_ADVERTISED_LISTENERS"].split(","):
        name, _, address = part.partition("://")
        host, _, port = address.partition(":")
        assert port == listeners[name]
        assert host == "kafka" or f"{host}:{port}:{port}" in SERVICES["kafka"]["ports"]


def test_sinks_of_the_readme_reach_the_services(tmp_path: Path) -> None:
    """A user who copies them gets sinks that load, with published addresses."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (COMPOSE / "README.md").read_text(), re.DOTALL)
    published = {port.rpartition(":")[0] for service in SERVICES.values() for port in service["ports"]}
    for name, options in yaml.safe_load(example)["sinks"].items():
        kind = load_kind(options["type"])
        kind(kind.Config.model_validate(options), SinkContext(name, tmp_path, tmp_path))
        url = options.get("url") or options.get("dsn") or options.get("uri") or f"//{options.get('brokers')}"
        assert urlsplit(url).netloc.rpartition("@")[2] in published
