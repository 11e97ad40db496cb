"""CONNECT and CONNACK as pure functions: checks, client information, properties of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.codec.packets import Connect
from broker.codec.reasons import Reason
from broker.codec.wire import VARINT_MAX
from broker.config import BrokerConfig
from broker.errors import InvalidTopic, MalformedPacket
from broker.hooks import ClientInfo
from broker.origin import Origin
from broker.topics import check_topic_name

_PACKET_SIZE_UNLIMITED = VARINT_MAX + 5


def check_connect(connect: Connect, config: BrokerConfig) -> Reason | None:
    """Return the reason code to refuse `connect` with, if any. Raises `MalformedPacket` for an invalid will topic."""
    if "authentication_method" in (connect.properties or {}):
        return Reason.BAD_AUTHENTICATION_METHOD  # enhanced authentication has its seam here [4.12.0-1]
    if not connect.client_id and not _may_be_nameless(connect):
        return Reason.CLIENT_IDENTIFIER_NOT_VALID
    if len(connect.client_id.encode()) > config.max_clientid_len:
        return Reason.CLIENT_IDENTIFIER_NOT_VALID
    if connect.will is not None:
        try:
            check_topic_name(connect.will.topic, config.max_topic_levels)
        except InvalidTopic as error:
            raise MalformedPacket(f"will: {error}", Reason.TOPIC_NAME_INVALID) from error
        if connect.will.retain and not config.retain_available:
            return Reason.RETAIN_NOT_SUPPORTED
    return None


def _may_be_nameless(connect: Connect) -> bool:
    """Return whether the broker assigns a client id: always in MQTT 5, with clean session in 3.1.1, never in 3.1."""
    return connect.protocol_version == 5 or (connect.protocol_version == 4 and connect.clean_start)


def client_info(
    connect: Connect,
    client_id: str,
    expiry_interval: int,
    server_keep_alive: int | None,
    origin: Origin,
    now_ms: int,
) -> ClientInfo:
    """Return the information about the client that sent `connect`, with the broker's own values where they differ."""
    properties: Mapping[str, Any] = connect.properties or {}
    return ClientInfo(
        client_id=client_id,
        username=connect.username,
        origin=origin,
        protocol_version=connect.protocol_version,
        keep_alive=connect.keep_alive if server_keep_alive is None else server_keep_alive,
        clean_start=connect.clean_start,
        receive_maximum=properties.get("receive_maximum", 65535),
        session_expiry_interval=expiry_interval,
        is_bridge=connect.is_bridge,
        connected_at=now_ms,
    )


def packet_size_max(connect: Connect) -> int:
    """Return the size of the largest packet that the client accepts."""
    return int((connect.properties or {}).get("maximum_packet_size", _PACKET_SIZE_UNLIMITED))


def connack_properties(connect: Connect, info: ClientInfo, config: BrokerConfig) -> dict[str, Any] | None:
    """Return the CONNACK properties: limits of the broker, and values that differ from the CONNECT [MQTT5 3.2.2.3]."""
    if connect.protocol_version < 5:
        return None
    asked: Mapping[str, Any] = connect.properties or {}
    properties: dict[str, Any] = {
        "receive_maximum": config.receive_maximum,
        "maximum_packet_size": config.max_packet_size,
        "topic_alias_maximum": config.max_topic_alias,
    }
    if info.session_expiry_interval != asked.get("session_expiry_interval", 0):
        properties["session_expiry_interval"] = info.session_expiry_interval
    if not connect.client_id:
        properties["assigned_client_identifier"] = info.client_id
    if config.server_keep_alive is not None:
        properties["server_keep_alive"] = config.server_keep_alive
    if config.response_information and asked.get("request_response_information"):
        properties["response_information"] = config.response_information
    if not config.retain_available:
        properties["retain_available"] = 0
    if not config.wildcard_subscription:
        properties["wildcard_subscription_available"] = 0
    if not config.shared_subscription:
        properties["shared_subscription_available"] = 0
    return properties
