"""``headgate.yaml`` as a model."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from broker.config import BrokerConfig
from engine.config.project import load_project, load_settings, locate
from engine.config.settings import Address, Settings, parse_address
from engine.connector import Sink
from engine.errors import ConfigError
from engine.service.log import redact


def no_kinds(name: str) -> type[Sink]:
    raise ConfigError(f"there is no {name}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1883", Address("127.0.0.1", 1883)),
        ("[::1]:1883", Address("::1", 1883)),
        ("localhost:0", Address("localhost", 0)),
        (1883, Address("127.0.0.1", 1883)),
        ("1883", Address("127.0.0.1", 1883)),
    ],
)
def test_addresses_are_read(text: str | int, address: Address) -> None:
    """A port alone means the loopback: opening a port to the world takes writing its address."""
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", ":1883", "::1:1883", "host", "host:", "host:port", "host:65536", "host:-1", True, None]
)
def test_what_is_no_address_is_refused(text: object) -> None:
    """`:1883` would be all interfaces in one program and the loopback in another."""
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("plant", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, is_loopback: bool) -> None:
    """Safety rules hang on it, so a name of unknown meaning is not loopback."""
    assert Address(host, 1).is_loopback is is_loopback


def test_every_mqtt_limit_is_one_of_the_broker() -> None:
    """An option that nothing obeys would be a lie."""
    known = {field.name for field in fields(BrokerConfig)}

    assert set(Settings().mqtt.options()) <= known


def test_defaults_of_limits_are_those_of_the_broker() -> None:
    """A project without a file runs as the broker's own documentation says."""
    broker = BrokerConfig()

    assert {name: getattr(broker, name) for name in Settings().mqtt.options()} == Settings().mqtt.options()


@pytest.mark.parametrize(("size", "is_taken"), [("256MiB", True), ("257MiB", False), ("5GiB", False), ("0", False)])
def test_the_largest_packet_is_one_that_mqtt_can_speak_of(tmp_path: Path, size: str, is_taken: bool) -> None:
    """MQTT 5 clients are told the limit: one that does not fit would refuse them all, and 0 is no limit to tell."""
    (tmp_path / "headgate.yaml").write_text(f"mqtt: {{max_packet_size: {size}}}\n")

    assert (load_project(tmp_path, no_kinds, {}).problems == []) is is_taken


def test_paths_start_at_the_project(tmp_path: Path) -> None:
    """Whatever folder the command is called from."""
    (tmp_path / "headgate.yaml").write_text("data_dir: state\nrules: {dir: /opt/rules}\n")

    project = load_project(tmp_path, no_kinds, {})

    assert (project.data_dir, project.rules_dir) == (tmp_path / "state", Path("/opt/rules"))


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """And are known to be secrets from then on."""
    (tmp_path / "token").write_text("t0ken-of-file\n")
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:A_PART}-${file:token}"}')

    project = load_project(tmp_path, no_kinds, {"A_PART": "t0ken-of-env"})

    token = project.settings.api.token
    assert token is not None
    assert token.get_secret_value() == "t0ken-of-env-t0ken-of-file"
    assert "t0ken" not in repr(project.settings)
    assert redact("t0ken-of-env / t0ken-of-file") == "*** / ***"


def test_a_secret_written_into_the_file_is_hidden_as_well(tmp_path: Path) -> None:
    """People do, and it must not show for that."""
    (tmp_path / "headgate.yaml").write_text("api: {token: written-in-plain}")

    load_project(tmp_path, no_kinds, {})

    assert redact("written-in-plain") == "***"


def test_a_process_is_found_while_the_file_is_wrong(tmp_path: Path) -> None:
    """`headgate status` is asked just when an edit has gone wrong."""
    (tmp_path / "headgate.yaml").write_text('data_dir: state\napi: {token: "${env:T}"}\nunknown: 1\n')

    place = locate(tmp_path, {"T": "token-in-env"})

    assert (place.data_dir, place.token) == (tmp_path / "state", "token-in-env")
    assert load_settings(tmp_path, {"T": "token-in-env"}) == Settings()


def test_a_section_without_anything_in_it_is_as_good_as_none(tmp_path: Path) -> None:
    """Commenting out all lines of a section is how defaults are tried."""
    (tmp_path / "headgate.yaml").write_text("mqtt:\n  # max_inflight: 5\napi:\nlisteners:\ndata_dir:\n")
    (tmp_path / "connectors.yaml").write_text("sinks:\nconnections:\n")

    project = load_project(tmp_path, no_kinds, {})

    assert (project.problems, project.settings) == ([], Settings())


def test_a_token_may_begin_with_a_dollar(tmp_path: Path) -> None:
    """Only what a shell would take for a variable is a mistake."""
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:TOKEN}"}\nrules: {dir: [rules]}\n', "utf-8")

    project = load_project(tmp_path, no_kinds, {"TOKEN": "$ome-t0ken"})

    assert [problem.message for problem in project.problems] == ["'rules.dir' must be a path, not a list"]


@pytest.mark.parametrize("token", ["", " ", "tök3n", "t0k 3n"])
def test_a_token_that_no_request_could_bear_is_a_mistake(tmp_path: Path, token: str) -> None:
    """With it the API would answer nobody; and it is not shown."""
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:TOKEN}"}\n', "utf-8")

    project = load_project(tmp_path, no_kinds, {"TOKEN": token})

    (problem,) = project.problems
    assert problem.message == "'api.token': the secret doesn't fit"
    assert problem.remedy == "write letters, digits and signs of ASCII, without spaces"
