"""Every limit and every option of the broker: its default, its bounds and its description, each in one place.

The broker is the source, not the application's configuration: it can be used without one, and it must not import a
validation library. So the options are plain dataclass fields, checked by mypy where they are used, with an `Option` in
their type; whoever reads options from a file makes its own model from what `options_of` tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from enum import Enum, auto
from typing import Annotated, Any, ClassVar, NamedTuple, get_args, get_origin, get_type_hints


class Unit(Enum):
    """The unit of an option, for reading it from text such as ``1MiB`` or ``2h``."""

    BYTES = auto()
    SECONDS = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """The description of an option, and the values it may have."""

    description: str
    unit: Unit | None = None
    ge: float | None = None
    le: float | None = None


class OptionField(NamedTuple):
    """An option of a configuration class."""

    name: str
    type: Any
    default: Any
    option: Option


def options_of(config: type) -> Iterator[OptionField]:
    """Yield the options of a configuration class in the order of its fields; fields without an `Option` are none."""
    hints = get_type_hints(config, include_extras=True)
    for item in fields(config):
        if get_origin(hints[item.name]) is not Annotated:
            continue
        value_type, *metadata = get_args(hints[item.name])
        assert item.default is not MISSING, item.name
        for option in metadata:
            if isinstance(option, Option):
                yield OptionField(item.name, value_type, item.default, option)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """The options that listeners of every type have. Each type adds its own, its ``type`` and where it listens."""

    type: ClassVar[str]

    max_connections: Annotated[
        int, Option("Most connections at once; more are closed as soon as they are accepted.", ge=1)
    ] = 1_024_000


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The options of the protocol, for all listeners. Intervals are in seconds, sizes in bytes.

    Names are EMQX's where it has the option, and so are most defaults.
    """

    listeners: tuple[ListenerConfig, ...] = ()

    max_packet_size: Annotated[
        int,
        Option(
            # The largest of MQTT: a remaining length of four bytes [MQTT-2.1.4], and its fixed header.
            "Largest packet a client may send; the limit of MQTT itself is 256 MiB and 4 bytes.",
            Unit.BYTES,
            ge=1,
            le=268_435_460,
        ),
    ] = 1024 * 1024
    max_connect_packet_size: Annotated[
        int,
        # The default has room for five fields of 65,535 bytes, and anybody may send one before it is authenticated.
        Option("Largest CONNECT, which is read before anything is known of the client.", Unit.BYTES, ge=64),
    ] = 384 * 1024
    max_inflight: Annotated[
        int, Option("Most unacknowledged QoS 1 and 2 messages on their way to one client.", ge=1, le=65535)
    ] = 32
    receive_maximum: Annotated[
        int,
        Option("Most QoS 1 and 2 messages of one client that wait for their acknowledgement.", ge=1, le=65535),
    ] = 8192
    max_held_bytes: Annotated[
        int,
        Option(
            "Most bytes of one client's messages that wait for their acknowledgement; with more it is not read from.",
            Unit.BYTES,
            ge=1,
        ),
    ] = 16 * 1024 * 1024
    max_mqueue_len: Annotated[
        int, Option("Most messages that wait for one client; the oldest makes room for the newest.", ge=1)
    ] = 1000
    mqueue_store_qos0: Annotated[bool, Option("Whether QoS 0 messages wait for a client that is away.")] = True
    session_expiry_interval: Annotated[
        int,
        Option(
            "Time that the session of an MQTT 3.1.1 client with clean session off outlives its connection.",
            Unit.SECONDS,
            le=0xFFFFFFFF,
        ),
    ] = 7200
    max_session_expiry_interval: Annotated[
        int,
        Option(
            "Longest session expiry interval an MQTT 5 client gets; 4294967295s, the default, is no limit.",
            Unit.SECONDS,
            le=0xFFFFFFFF,
        ),
    ] = 0xFFFFFFFF
    max_clientid_len: Annotated[int, Option("Longest client id, in bytes.", ge=23, le=65535)] = 65535
    max_topic_levels: Annotated[int, Option("Most levels of a topic name or filter.", ge=1, le=65535)] = 128
    max_topic_alias: Annotated[
        # EMQX allows 65,535, which is 4 GB of names for one client.
        int, Option("Most topic aliases a client may use.", ge=0, le=65535)
    ] = 256  # fmt: skip
    max_subscriptions: Annotated[int, Option("Most subscriptions of one client.", ge=1)] = 100_000
    max_sessions: Annotated[int, Option("Most sessions, connected and kept.", ge=1)] = 1_000_000
    retain_available: Annotated[bool, Option("Whether messages may be retained.")] = True
    max_retained_messages: Annotated[int, Option("Most retained messages.", ge=0)] = 1_000_000
    max_retained_payload: Annotated[int, Option("Largest payload that is retained.", Unit.BYTES)] = 1024 * 1024
    wildcard_subscription: Annotated[bool, Option("Whether topic filters may hold wildcards.")] = True
    shared_subscription: Annotated[bool, Option("Whether clients may subscribe to `$share/…`.")] = True
    response_information: Annotated[
        str, Option("Response Information for MQTT 5 clients that ask for it; empty for no such property.")
    ] = ""
    server_keep_alive: Annotated[
        int | None,
        Option(
            "Keep-alive interval that replaces every client's own, 0s for no limit; MQTT 5 clients get it in CONNACK.",
            Unit.SECONDS,
            le=65535,
        ),
    ] = None
    keepalive_multiplier: Annotated[
        float, Option("Keep-alive intervals of silence after which a client is disconnected.", ge=1.0)
    ] = 1.5
    idle_timeout: Annotated[
        float, Option("Time within which a new connection must send its CONNECT.", Unit.SECONDS)
    ] = 15.0
    authorization_timeout: Annotated[
        float,
        Option("Time limit of asking a backend for a permission; after it the permission is denied.", Unit.SECONDS),
    ] = 5.0
    send_timeout: Annotated[
        float, Option("Time after which a client that reads nothing is disconnected.", Unit.SECONDS)
    ] = 15.0
    send_buffer_max: Annotated[
        int,
        Option(
            "Unsent bytes for one client; above that QoS 0 messages for it are dropped, others wait in its queue.",
            Unit.BYTES,
            ge=1,
        ),
    ] = 1024 * 1024
    topic_cache_size: Annotated[
        int,
        Option(
            "Topic names that are remembered with their receivers, ten of these each on average.",
            ge=1,
        ),
    ] = 50_000
