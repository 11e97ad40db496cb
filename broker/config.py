"""Every limit and every option of the broker, with its default. Names and most defaults are EMQX's."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One place where clients connect. ``port`` 0 asks the system for a free one."""

    type: str = "tcp"
    host: str = "127.0.0.1"
    port: int = 1883
    max_connections: int = 1_024_000
    """Connections beyond this are closed as soon as they are accepted."""
    backlog: int = 1024


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How the broker behaves. Intervals are in seconds, sizes in bytes."""

    listeners: tuple[ListenerConfig, ...] = field(default_factory=lambda: (ListenerConfig(),))

    max_packet_size: int = 1024 * 1024
    """Larger packets end the connection with 0x95, decided from their fixed header."""
    max_connect_packet_size: int = 384 * 1024
    """The same before CONNECT is accepted: room for five fields of 65,535 bytes, too little to fill the memory."""
    max_client_id_len: int = 65535
    max_topic_levels: int = 128
    max_subscriptions: int = 100_000
    """Per client; more are answered with 0x97."""
    max_sessions: int = 1_000_000
    """Connected and stored sessions together; a client that would need one more is refused with 0x97."""

    receive_maximum: int = 8192
    """QoS 1 and 2 publishes of one client that may wait for their acknowledgement. Announced to MQTT 5 clients (0x93
    when exceeded); older clients are not read from while that many are held back."""
    max_inflight: int = 32
    """QoS 1 and 2 messages on their way to one client, at most; its own Receive Maximum may lower it."""
    max_mqueue_len: int = 1000
    """Messages waiting for one client; the oldest makes room for the newest."""
    mqueue_store_qos0: bool = True
    """Whether QoS 0 messages wait for clients that are away."""
    max_held_bytes: int = 16 * 1024 * 1024
    """The same by size, of any QoS: a client that has sent so much that is not safe yet is not read from."""
    topic_alias_maximum: int = 256
    """Topic aliases a client may use towards the broker. EMQX allows 65,535, which is 4 GB of names per client."""

    session_expiry_interval: int = 7200
    """How long sessions of MQTT 3 clients with clean session 0 are kept after they left."""
    max_session_expiry_interval: int = 0xFFFFFFFF
    """Upper bound of what an MQTT 5 client may ask for; 0xFFFFFFFF sets none."""
    server_keep_alive: int | None = None
    """Replaces every client's keep-alive when set; MQTT 5 clients are told."""
    keepalive_multiplier: float = 1.5
    idle_timeout: float = 15.0
    """A connection that has sent no CONNECT by then is closed."""
    authorization_timeout: float = 5.0
    """A permission that access control has to ask for and gets no answer to for so long is denied."""
    send_buffer_max: int = 1024 * 1024
    """Unsent bytes for one client; above that QoS 0 is dropped for it, QoS 1 and 2 wait in its queue."""
    send_timeout: float = 15.0
    """A client that has not read anything for so long while its buffer is full is closed."""

    retain_available: bool = True
    max_retained_messages: int = 1_000_000
    max_retained_payload: int = 1024 * 1024
    wildcard_subscription: bool = True
    shared_subscription: bool = True
    response_information: str = ""
    """Given to MQTT 5 clients that ask for it; empty: there is none."""

    topic_cache_size: int = 50_000
    """Topic names remembered with their receivers, ten each on average; when full the memory starts over."""
