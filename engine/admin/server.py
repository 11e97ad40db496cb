"""The HTTP server of the admin API, in the event loop of the process.

It is uvicorn without its signal handlers, which belong to the command, and without its polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.origin import Address
from engine.config.settings import ApiSettings
from engine.errors import ConfigError
from engine.service.tasks import Tasks

if TYPE_CHECKING:
    import uvicorn

    from engine.admin.port import AdminPort

STOP_TIMEOUT_S = 2
"""Time for requests in progress to finish when the process stops, in seconds."""


class ApiServer:
    """The API of an application, served on an address. A `Service`."""

    def __init__(self, app: AdminPort, settings: ApiSettings) -> None:
        self._app = app
        self._bind = settings.bind
        self._token = None if settings.token is None else settings.token.get_secret_value()
        self._tasks = Tasks("admin")
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._exit = asyncio.Event()

    @property
    def address(self) -> Address:
        """The address of the server; once started, with the port that the system assigned."""
        return self._bind

    async def start(self) -> None:
        """Start serving. Raises `ConfigError` if the address is in use."""
        listener = self._listen()
        self._bind = Address(self._bind.host, listener.getsockname()[1])
        self._server = self._make_server()
        self._serving = self._tasks.spawn(self._server.serve(sockets=[listener]), "serve")

    async def stop(self) -> None:
        """Stop listening and let requests in progress finish, for a moment."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        self._exit.set()
        await asyncio.wait([self._serving], timeout=STOP_TIMEOUT_S + 1)
        await self._tasks.cancel()
        self._server = self._serving = None

    def _listen(self) -> socket.socket:
        host, port = self._bind
        try:
            # The socket listens at once: clients that connect before uvicorn is ready wait in its queue.
            return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            # create_server repeats the address in the system's message.
            reason = (error.strerror or str(error)).partition(" (")[0].lower()
            raise ConfigError(
                f"the API can't listen on {self._bind}: {reason}",
                path="headgate.yaml",
                remedy="stop what listens there, or bind the API elsewhere; port 0 takes any free one",
            ) from error

    def _make_server(self) -> uvicorn.Server:
        # FastAPI and uvicorn take long to import, and only a process that serves the API needs them.
        import uvicorn

        from engine.admin.api import create_api

        done = self._exit

        class Server(uvicorn.Server):
            """uvicorn without its signal handlers and its timer, which would poll ten times a second."""

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

            async def main_loop(self) -> None:
                await done.wait()

        config = uvicorn.Config(
            create_api(self._app, self._token), log_config=None, access_log=False, lifespan="off", date_header=False,
            server_header=False, timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )  # fmt: skip
        return Server(config)
