"""MQTT over TCP: a listening socket, and a protocol for each connection that hands bytes to its `Client`."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, cast

from broker.client import Client
from broker.config import ListenerConfig, Option
from broker.core import Core
from broker.origin import Address, Origin

_DEFAULT_BIND: Final = Address("127.0.0.1", 1883)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConfig(ListenerConfig):
    """An address that devices connect to."""

    type: ClassVar[str] = "tcp"

    bind: Annotated[Address, Option("Address and port; port 0 takes a free one.")] = _DEFAULT_BIND
    # 128, the default of most systems, loses connections when all devices come back at once after an outage.
    backlog: Annotated[int, Option("Connections that wait to be accepted.", ge=1, le=65535)] = 1024


class TcpListener:
    """Accepts connections on one address. ``port`` is the real one once `start` has returned."""

    Config: ClassVar[type[ListenerConfig]] = TcpConfig

    def __init__(self, config: TcpConfig, core: Core) -> None:
        self.type = config.type
        self.host, self.port = config.bind
        self.connections: set[TcpConnection] = set()
        self._config = config
        self._core = core
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<{self.type} listener on {Address(self.host, self.port)}>"

    @property
    def name(self) -> str:
        """``type:address``, as origins of clients, logs and errors have it."""
        return f"{self.type}:{Address(self.host, self.port)}"

    @property
    def is_full(self) -> bool:
        """Whether the listener closes further connections at once."""
        return len(self.connections) >= self._config.max_connections

    async def start(self) -> None:
        """Bind and listen. Raises `OSError` with the address in its message."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connected, self.host, self.port, backlog=self._config.backlog, reuse_address=True
            )
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror or error}"
            raise OSError(error.errno, f"{self.type} listener: {Address(*self._config.bind)} {what}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connected(self) -> TcpConnection:
        return TcpConnection(self, self._core)


class TcpConnection(asyncio.Protocol):
    """One TCP connection."""

    __slots__ = ("_client", "_core", "_listener")

    def __init__(self, listener: TcpListener, core: Core) -> None:
        self._listener = listener
        self._core = core
        self._client: Client | None = None

    @property
    def client(self) -> Client | None:
        """The client of this connection; None where it was refused."""
        return self._client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not of that class, but of its kind
        if self._listener.is_full:
            self._core.stats.disconnects["listener_full"] += 1
            transport.abort()
            return
        self._listener.connections.add(self)
        high = self._core.config.send_buffer_max
        transport.set_write_buffer_limits(high=high, low=high // 4)
        origin = Origin(
            self._listener.name,
            Address.of_socket(transport.get_extra_info("peername")),
            Address.of_socket(transport.get_extra_info("sockname")),
        )
        self._client = Client(self._core, transport, origin)

    def data_received(self, data: bytes) -> None:
        if self._client is not None:
            self._client.data_received(data)

    def pause_writing(self) -> None:
        if self._client is not None:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        if self._client is not None:
            self._client.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        if self._client is not None:
            self._client.connection_lost(_reason(exc))
            self._client = None  # else it would wait, with all it has received, for a garbage collection


def _reason(error: Exception | None) -> str:
    """Return EMQX's word for the reason that a socket was closed."""
    if error is None:
        return "tcp_closed"
    if isinstance(error, ConnectionResetError):
        return "econnreset"
    if isinstance(error, TimeoutError):
        return "etimedout"
    return "einval"
