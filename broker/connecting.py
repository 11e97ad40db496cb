"""A connecting client: its CONNECT until it is answered with CONNACK."""

from __future__ import annotations

from collections.abc import Awaitable

from broker.access import Accepted, Credentials, Decision, Refused
from broker.codec.packets import ConnAck, Connect
from broker.codec.reasons import Reason
from broker.core import Core
from broker.handshake import check_connect, client_info, connack_properties, packet_size_max
from broker.origin import Origin


class Connecting:
    """The decision about one CONNECT."""

    __slots__ = (
        "_connack_properties",
        "_connect",
        "_core",
        "clean_start",
        "connect_properties",
        "info",
        "packet_size_max",
        "will",
    )

    def __init__(self, core: Core, connect: Connect, origin: Origin) -> None:
        self._core = core
        self._connect: Connect | None = connect
        self.info = client_info(
            connect,
            connect.client_id or core.assign_client_id(),
            core.registry.expiry_interval(connect),
            core.config.server_keep_alive,
            origin,
            core.now_ms(),
        )
        self.packet_size_max = packet_size_max(connect)
        self.connect_properties = connect.properties or {}
        self._connack_properties = connack_properties(connect, self.info, core.config)
        self.will = connect.will
        self.clean_start = connect.clean_start

    def decide(self) -> Decision | Awaitable[Decision]:
        """Check the CONNECT and authenticate the client, once. Raises `WireError` for a will that nobody could publish.

        The CONNECT with its password is dropped here: only its will and properties are needed later.
        """
        core, info = self._core, self.info
        connect, self._connect = self._connect, None
        assert connect is not None
        refusal = check_connect(connect, core.config)
        if refusal is not None:
            return Refused(refusal)
        return core.access.authenticate(info, Credentials(connect.username, connect.password))

    def accept(self, accepted: Accepted) -> Refused | None:
        """Take over the result of authentication. Return why the client cannot be served after all, if so.

        There is room for its session, or not, only now: any number of clients may be authenticated at a time.
        """
        self.info.attributes = accepted.attributes
        self.info.bypasses_acl = accepted.bypasses_acl
        if not self._core.registry.has_room_for(self.info.client_id):
            return Refused(Reason.QUOTA_EXCEEDED)
        if len(self.connack(present=False).encode(self.info.protocol_version)) > self.packet_size_max:
            return Refused(Reason.PACKET_TOO_LARGE)  # nothing may be sent before CONNACK [MQTT-3.2.0-1]
        return None

    def connack(self, *, present: bool) -> ConnAck:
        """Return the CONNACK that accepts the client."""
        return ConnAck(present, 0, self._connack_properties)
