"""``headgate.yaml`` as a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from broker.config import BrokerConfig, options_of
from broker.listeners import TYPES
from broker.listeners.tcp import TcpConfig
from broker.origin import Address
from engine.config.address import parse_address
from engine.config.brokeroptions import ListenerOptions, any_listener
from engine.config.project import load_project, load_settings, locate
from engine.config.settings import MqttSettings, Settings
from engine.connector import Sink
from engine.errors import ConfigError
from engine.service.log import redact
from support.pipe_listener import PipeConfig


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
def test_invalid_addresses_are_refused(text: object) -> None:
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
def test_loopback_addresses_are_recognized(host: str, is_loopback: bool) -> None:
    """Safety checks depend on it, so a name that is not known to be loopback is not."""
    assert Address(host, 1).is_loopback is is_loopback


def test_every_option_of_the_broker_is_settable_and_has_its_default() -> None:
    """The broker describes its options once; one without a key in the file would be out of an operator's reach."""
    described = {item.name: item for item in options_of(BrokerConfig)}
    fields = MqttSettings.model_fields

    assert {each.name for each in dataclasses.fields(BrokerConfig)} - {"listeners"} == set(described) == set(fields)
    assert {name: field.description for name, field in fields.items()} == {
        name: item.option.description for name, item in described.items()
    }
    assert Settings().mqtt.config(()) == BrokerConfig()


def test_options_are_written_with_units(tmp_path: Path) -> None:
    """Sizes and durations as people write them; durations that MQTT counts in seconds are never rounded down to 0."""
    (tmp_path / "headgate.yaml").write_text("""
mqtt:
  max_connect_packet_size: 64KiB
  max_held_bytes: 1MiB
  send_buffer_max: 100KB
  server_keep_alive: 100ms
  max_session_expiry_interval: 1d
  session_expiry_interval: 1h30m
  authorization_timeout: 500ms
  shared_subscription: false
  response_information: replies/
listeners:
  - {bind: "[::1]:1884", max_connections: 5, backlog: 7}
""")

    project = load_project(tmp_path, no_kinds, {})

    assert project.problems == []
    assert project.settings.broker_config() == BrokerConfig(
        listeners=(TcpConfig(bind=Address("::1", 1884), max_connections=5, backlog=7),),
        max_connect_packet_size=65536,
        max_held_bytes=1 << 20,
        send_buffer_max=100_000,
        server_keep_alive=1,
        max_session_expiry_interval=86400,
        session_expiry_interval=5400,
        authorization_timeout=0.5,
        shared_subscription=False,
        response_information="replies/",
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("server_keep_alive: 1d", "'mqtt.server_keep_alive' must be at most 65535, not '1d'"),
        ("max_held_bytes: 0", "'mqtt.max_held_bytes' must be at least 1, not 0"),
        ("shared_subscription: 7", "'mqtt.shared_subscription' must be true or false, not 7"),
        ("max_clientid_len: 5", "'mqtt.max_clientid_len' must be at least 23, not 5"),
    ],
)
def test_bounds_of_the_broker_are_those_of_the_file(tmp_path: Path, option: str, message: str) -> None:
    """A value that the broker cannot work with is a mistake in the file, with the key it is at."""
    (tmp_path / "headgate.yaml").write_text(f"mqtt: {{{option}}}\n")

    assert [problem.message for problem in load_project(tmp_path, no_kinds, {}).problems] == [message]


def test_listeners_of_several_types_have_options_of_their_own() -> None:
    """A type is a line in the table and a file: its options, their checks and their descriptions come from there."""
    types = {**TYPES, "pipe": "support.pipe_listener:PipeListener"}
    adapter: TypeAdapter[ListenerOptions] = TypeAdapter(any_listener(types))
    written: list[object] = [{}, {"type": "pipe", "path": "x", "max_connections": 3}, {"type": "tcp", "bind": 1884}]

    assert [adapter.validate_python(each).config() for each in written] == [
        TcpConfig(),
        PipeConfig(path="x", max_connections=3),
        TcpConfig(bind=Address("127.0.0.1", 1884)),
    ]
    for wrong in ({"type": "pipe", "bind": 1884}, {"path": "x"}, {"type": "other"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_error_of_an_unknown_type_lists_the_known_ones(tmp_path: Path) -> None:
    """A typo shows the types that there are."""
    (tmp_path / "headgate.yaml").write_text("listeners: [{type: udp, bind: 1}]\n")

    (problem,) = load_project(tmp_path, no_kinds, {}).problems

    assert (problem.message, problem.remedy) == (
        "there is no listener of type 'udp'",
        "types: tcp, tls, ws, wss, unix",
    )


@pytest.mark.parametrize(("size", "is_taken"), [("256MiB", True), ("257MiB", False), ("5GiB", False), ("0", False)])
def test_the_largest_packet_is_within_the_range_of_mqtt(tmp_path: Path, size: str, is_taken: bool) -> None:
    """CONNACK of MQTT 5 has the limit: one out of range would refuse all clients, and 0 is not allowed there."""
    (tmp_path / "headgate.yaml").write_text(f"mqtt: {{max_packet_size: {size}}}\n")

    assert (load_project(tmp_path, no_kinds, {}).problems == []) is is_taken


def test_relative_paths_begin_at_the_project(tmp_path: Path) -> None:
    """For any working directory of the command."""
    (tmp_path / "headgate.yaml").write_text("data_dir: state\nrules: {dir: /opt/rules}\n")

    project = load_project(tmp_path, no_kinds, {})

    assert (project.data_dir, project.rules_dir) == (tmp_path / "state", Path("/opt/rules"))


def test_secrets_are_read_from_environment_and_files(tmp_path: Path) -> None:
    """And are redacted from then on."""
    (tmp_path / "token").write_text("t0ken-of-file\n")
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:A_PART}-${file:token}"}')

    project = load_project(tmp_path, no_kinds, {"A_PART": "t0ken-of-env"})

    token = project.settings.api.token
    assert token is not None
    assert token.get_secret_value() == "t0ken-of-env-t0ken-of-file"
    assert "t0ken" not in repr(project.settings)
    assert redact("t0ken-of-env / t0ken-of-file") == "*** / ***"


def test_a_secret_written_into_the_file_is_redacted(tmp_path: Path) -> None:
    """Some users do so, and it must not show either."""
    (tmp_path / "headgate.yaml").write_text("api: {token: written-in-plain}")

    load_project(tmp_path, no_kinds, {})

    assert redact("written-in-plain") == "***"


def test_a_process_is_found_while_the_file_has_errors(tmp_path: Path) -> None:
    """`headgate status` is used just when an edit has failed."""
    (tmp_path / "headgate.yaml").write_text('data_dir: state\napi: {token: "${env:T}"}\nunknown: 1\n')

    place = locate(tmp_path, {"T": "token-in-env"})

    assert (place.data_dir, place.token) == (tmp_path / "state", "token-in-env")
    assert load_settings(tmp_path, {"T": "token-in-env"}) == Settings()


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    """Commenting out all lines of a section is a way of trying the defaults."""
    (tmp_path / "headgate.yaml").write_text("mqtt:\n  # max_inflight: 5\napi:\nlisteners:\ndata_dir:\n")
    (tmp_path / "connectors.yaml").write_text("sinks:\nconnections:\n")

    project = load_project(tmp_path, no_kinds, {})

    assert (project.problems, project.settings) == ([], Settings())


def test_a_token_can_begin_with_a_dollar(tmp_path: Path) -> None:
    """Only a variable, as a shell would expand it, is a mistake."""
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:TOKEN}"}\nrules: {dir: [rules]}\n', "utf-8")

    project = load_project(tmp_path, no_kinds, {"TOKEN": "$ome-t0ken"})

    assert [problem.message for problem in project.problems] == ["'rules.dir' must be a path, not a list"]


@pytest.mark.parametrize("token", ["", " ", "tök3n", "t0k 3n"])
def test_a_token_that_no_header_can_hold_is_a_mistake(tmp_path: Path, token: str) -> None:
    """The API would refuse every request; and the token is not shown."""
    (tmp_path / "headgate.yaml").write_text('api: {token: "${env:TOKEN}"}\n', "utf-8")

    project = load_project(tmp_path, no_kinds, {"TOKEN": token})

    (problem,) = project.problems
    assert problem.message == "'api.token': the secret doesn't fit"
    assert problem.remedy == "write letters, digits and signs of ASCII, without spaces"
