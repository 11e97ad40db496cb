"""HTTP requests to one origin: pooled connections, TLS, deadlines, and the instruction in each transport error.

A request that finds its idle connection closed by the server is sent again at once. Any other request without a
response may have been processed: its outcome is unknown, and it is for the caller to send it again.

Errors name the host alone. Paths, queries and headers may hold secrets.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from yarl import URL

from connectors._shared.response import HttpResponse, one_line
from connectors._shared.tls import TlsConfig
from engine.connector import Deadline
from engine.errors import ConfigError, DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError

REFUSAL_WAIT_S = 0.1
"""Wait for the server to refuse our certificate. TLS 1.3 lets it do so after the handshake has succeeded here."""

HEADER_BYTES_MAX = 64 << 10
"""Longest line of a response's head. aiohttp's 8 KiB is too short for the cookies and policies of some gateways."""

TIMEOUT_MIN_S = 0.001
"""A timeout of 0 would mean none at all to aiohttp."""

_ORIGIN = re.compile(r"https?://[^/?#${}\s]+(?=[/?]|$)")
_UNKNOWN_NAME = {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAIL}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a URL or URL template. Raise `ConfigError` unless it is written out."""
        match = _ORIGIN.match(url)
        parts = urlsplit(match[0]) if match else None
        if parts is None or not _is_origin(parts):
            raise ConfigError(
                f"the url {url!r} must begin with http:// or https:// and a host that is written out",
                remedy="write it like https://example.com/in/${device}",
            )
        if parts.username is not None:
            raise ConfigError(
                "the url holds a password", remedy="write `auth: {type: basic, username: …, password: …}`"
            )
        is_tls = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The options of an `HttpSession`."""

    base_dir: Path
    """Folder that relative paths in `tls` start from."""
    headers: Mapping[str, str]
    """Headers of every request."""
    connect_timeout: float
    tls: TlsConfig
    pool_size: int = 8
    """Most connections at once."""
    keep_alive: float = 15.0
    """Seconds that a connection stays open without a request."""
    response_bytes_max: int = 64 << 10
    """Bytes of a response that are read. The connection of a longer one is closed."""


class HttpSession:
    """Requests to one origin. May be used by many tasks at once."""

    def __init__(self, origin: Origin, options: SessionOptions) -> None:
        self.host = origin.host
        self._origin = origin
        self._options = options
        self._session: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        """Open a connection and close it, which reports a wrong name, a closed port or a bad certificate at once."""
        await self.close()
        options = self._options
        context = await asyncio.to_thread(options.tls.context, options.base_dir) if self._origin.is_tls else None
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self._probe(context)
        except OSError as error:
            raise _connect_failure(error, self.host) from error
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            trace_configs=[_reports_reuse()],
            connector=aiohttp.TCPConnector(
                ssl=context or True, limit=options.pool_size, keepalive_timeout=options.keep_alive
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=options.headers,
        )

    async def send(
        self, method: str, url: str, body: bytes, deadline: Deadline, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Send a request and return the response. Raise a `DeliveryError` where there is none by `deadline`.

        `url` is percent-encoded already.
        """
        reused: list[bool] = []
        while True:
            is_second_reuse = bool(reused)
            try:
                return await self._send(method, url, body, deadline, headers, reused)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # Servers close connections that were idle, just as a request is on its way to them.
                if not reused or is_second_reuse:
                    raise _translated(error, self.host) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _translated(error, self.host) from error

    async def close(self) -> None:
        """Close all connections. May be called before `connect`, and again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(
        self,
        method: str,
        url: str,
        body: bytes,
        deadline: Deadline,
        headers: Mapping[str, str] | None,
        reused: list[bool],
    ) -> HttpResponse:
        if self._session is None:
            raise NotConnectedError("the sink is not connected")
        timeout = aiohttp.ClientTimeout(
            total=max(TIMEOUT_MIN_S, deadline.left_s()), sock_connect=self._options.connect_timeout
        )
        async with self._session.request(
            method,
            URL(url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            server_hostname=self._options.tls.server_name,
            timeout=timeout,
            trace_request_ctx=reused,
        ) as response:
            text, cut = b"", None
            try:
                text = await _read(response, self._options.response_bytes_max)
            except TimeoutError:
                pass  # the status has come, and counts
            except (aiohttp.ClientError, OSError) as error:
                cut = _translated(error, self.host)
            return HttpResponse(self.host, response.status, response.reason or "", response.headers, text, cut)

    async def _probe(self, context: ssl.SSLContext | None) -> None:
        name = (self._options.tls.server_name or self.host) if context else None
        reader, writer = await asyncio.open_connection(self.host, self._origin.port, ssl=context, server_hostname=name)
        try:
            if context is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFUSAL_WAIT_S):
                        if not await reader.read(1):
                            raise ConnectionResetError(
                                "it closed the connection after the handshake; it may expect another certificate"
                            )
        finally:
            writer.transport.abort()


def _is_origin(parts: SplitResult) -> bool:
    try:
        if not parts.hostname or parts.port == 0:
            return False
        parts.hostname.encode("idna")
    except ValueError:
        return False
    return True


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """Return the beginning of the body. aiohttp uses the connection again only if that was all of it."""
    text = b""
    while len(text) < bytes_max and (block := await response.content.read(bytes_max - len(text))):
        text += block
    return text


def _reports_reuse() -> aiohttp.TraceConfig:
    """Return a trace that tells a request, by its ``trace_request_ctx``, that it got a connection used before.

    aiohttp has no other way to ask.
    """

    async def report(_session: Any, context: Any, _parameters: Any) -> None:
        context.trace_request_ctx.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(report)
    return trace


def _translated(error: Exception, host: str) -> DeliveryError:
    """Return the instruction in an error of a request."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _connect_failure(error.certificate_error, host)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connect_failure(error.os_error, host)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _connect_failure(error, host)
    if isinstance(error, TimeoutError):
        return RetryableError(f"{host} did not answer in time; whether it took the request is unknown", code="timeout")
    if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        return RejectError(f"the request can't be made: {error}", code="request")
    if isinstance(error.__cause__, ssl.SSLError):
        return _connect_failure(error.__cause__, host)
    if isinstance(error, aiohttp.ClientResponseError):
        return RetryableError(f"{host} does not answer as HTTP does: {one_line(error.message)}", code="http")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        place = "before it had answered"
    elif isinstance(error, aiohttp.ClientPayloadError):
        place = "in the middle of its answer"
    else:
        place = f"({error})"
    return RetryableError(f"the connection to {host} was cut {place}; the outcome is unknown", code="cut")


def _connect_failure(error: Exception, host: str) -> DeliveryError:
    """Return the instruction in an error of connecting."""
    if isinstance(error, ssl.SSLError):
        return HoldError(f"no secure connection to {host}: {error}", code="tls")
    if isinstance(error, socket.gaierror):
        message = f"{host} can't be found: {error.strerror or error}"
        is_unknown = error.errno in _UNKNOWN_NAME
        return HoldError(message, code="dns") if is_unknown else NotConnectedError(message, code="dns")
    return NotConnectedError(f"no connection to {host}: {str(error) or 'it took too long'}", code="connect")
