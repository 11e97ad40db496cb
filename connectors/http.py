"""Sends rows to an HTTP endpoint, one by one or in batches, and reads from the status what to do next.

With ``batch_format: none`` each record is a request of its own, sent in order: the first that can't be delivered now
stops those behind it. With a batch format a request holds all records of a batch that have the same URL and headers.
A record is delivered once the endpoint has answered its request with a `success_status`.

A request without an answer may have been processed, so it comes again; where the endpoint can tell by a header,
`idempotency_header` names it. The value of a single record never changes: ``<sink>-<lane>-<sequence>``.
A request that finds its idle connection closed goes out again at once.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

import aiohttp
from pydantic import BeforeValidator, Field, SecretStr
from yarl import URL

from connectors._shared.encoding import RowEncoder
from connectors._shared.routing import Route, Routing
from connectors._shared.tls import TlsConfig
from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import (
    ConfigError,
    DeliveryError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.language.template import Template
from engine.language.template.field import checked, templated
from engine.model.record import Batch

REASON_CHARACTERS = 200
"""How much of a response is quoted as the reason of a failure."""

RETRY_AFTER_MAX_S = 3600.0
"""A server that asks for a longer pause is asked again after this."""

REFUSAL_WAIT_S = 0.1
"""How long a server is given to refuse our certificate, which TLS 1.3 lets it do after the handshake."""

THREAD_BYTES_MIN = 16 << 10
"""A body from this size is compressed in a thread, so that nothing else waits for it."""

_FORMATS = {
    "none": ("application/json", b"", b"", b""),
    "json_array": ("application/json", b"[", b",", b"]"),
    "ndjson": ("application/x-ndjson", b"", b"\n", b"\n"),
}
"""Content type, opening, separator and end of a body."""

HEADER_BYTES_MAX = 64 << 10
"""The longest line of a response's head that is taken."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = ("content-length", "transfer-encoding")
_ORIGIN = re.compile(r"https?://[^/?#${}\s]+(?=[/?]|$)")


def _status_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


StatusPattern = Annotated[str, BeforeValidator(_status_text), Field(pattern=r"^[1-5](\d\d|\dx|xx)$")]


class BasicAuth(Model):
    """A user name and a password."""

    type: Literal["basic"]
    """A user name and a password."""
    username: str
    """The user name."""
    password: SecretStr
    """The password."""


class BearerAuth(Model):
    """A token."""

    type: Literal["bearer"]
    """A token."""
    token: SecretStr
    """The token."""


class HttpConfig(ConnectorConfig):
    """Options of the `http` sink."""

    url: Annotated[str, checked(lambda url: _origin(url)), templated("url_path")]
    """Template of the address, query included; scheme and host must be written out. Values are percent-encoded."""
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    """The method of the request."""
    headers: dict[str, Annotated[str, templated("header")]] = Field(default_factory=dict)
    """Templates of request headers by name."""
    body: Annotated[str, templated("text")] | None = None
    """Template of the body, or of each of its parts with a batch format; the whole row as JSON unless set."""
    batch_format: Literal["none", "json_array", "ndjson"] = "none"
    """`none` sends each record alone; the others send a batch as one JSON array, or as lines of JSON."""
    compression: Literal["none", "gzip"] = "none"
    """How bodies are compressed."""
    auth: Annotated[BasicAuth | BearerAuth, Field(discriminator="type")] | None = None
    """How requests say who sends them."""
    tls: TlsConfig = TlsConfig()
    """How `https` is secured."""
    success_status: tuple[StatusPattern, ...] = ("2xx",)
    """Delivered. Write `204`, `52x` or `5xx`; what you write wins over a default, and `204` over `2xx`."""
    retry_status: tuple[StatusPattern, ...] = ("408", "425", "429", "5xx")
    """Sent again after a back-off, or after what Retry-After says."""
    hold_status: tuple[StatusPattern, ...] = ("1xx", "3xx", "4xx", "501", "505")
    """The sink is held until somebody changes something."""
    reject_status: tuple[StatusPattern, ...] = ("400", "409", "410", "411", "413", "414", "415", "422", "431")
    """The record is at fault and becomes a dead letter; a batch is sent in halves until that record is alone."""
    respect_retry_after: bool = True
    """Wait as long as the header Retry-After asks for, up to an hour."""
    idempotency_header: str | None = None
    """Name of a header that tells the endpoint when a request comes again, like `Idempotency-Key`."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 8
    """Most connections at once."""
    keep_alive: Duration = 15.0
    """How long a connection stays open without a request."""
    max_response_bytes: Size = 64 << 10
    """How much of a response is read; the connection of a longer one is closed."""


class HttpSink(Sink):
    """Rows as HTTP requests."""

    kind: ClassVar[str] = "http"
    Config: ClassVar[type[ConnectorConfig]] = HttpConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: http\nurl: https://example.com/in\n",
        "type: http\nurl: https://example.com/in\nbatch_format: ndjson\ncompression: gzip\n"
        "auth: {type: bearer, token: secret}\n",
        'type: http\nurl: "https://example.com/devices/${device}/state?site=${site}"\nmethod: PUT\n'
        'body: \'{"t": ${temp}}\'\nheaders: {X-Rule: "${_rule}"}\nidempotency_header: Idempotency-Key\n'
        "retry_status: [404, 5xx]\n",
        "type: http\nurl: https://gateway.plant/in\ntls: {ca: plant-ca.pem, cert: client.pem, key: client.key}\n",
    )

    def __init__(self, config: HttpConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        origin = _origin(config.url)
        self._host, self._port = origin.hostname or "", origin.port or (443 if origin.scheme == "https" else 80)
        self._is_tls = origin.scheme == "https"
        content_type, self._opening, separator, self._ending = _FORMATS[config.batch_format]
        _check_headers(config)
        self._fixed_headers = _fixed_headers(config, content_type)
        self._header_names = tuple(config.headers)
        self._routing = Routing(
            Template.compile(config.url, kind="url_path"),
            *(Template.compile(text, kind="header") for text in config.headers.values()),
        )
        self._encoder = RowEncoder(_body(config), separator)
        self._statuses = _status_table(config)
        self._session: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        """Connect once and hang up, so that a wrong name, a closed port or a bad certificate is known at once."""
        await self.close()
        context = await asyncio.to_thread(self.config.tls.context, self.context.base_dir) if self._is_tls else None
        try:
            async with asyncio.timeout(self.config.connect_timeout):
                await self._probe(context)
        except OSError as error:
            raise _connect_failure(error, self._host) from error
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            trace_configs=[_reports_reuse()],
            connector=aiohttp.TCPConnector(
                ssl=context or True, limit=self.config.pool_size, keepalive_timeout=self.config.keep_alive
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._fixed_headers,
        )

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        failures: dict[int, DeliveryError] = {}
        waiting = self._requests(batch, failures)
        stopped_by: DeliveryError | None = None
        while waiting:
            route, indices = waiting.popleft()
            if stopped_by is None and deadline.is_half_over():
                stopped_by = _unsent(len(indices) + sum(len(others) for _, others in waiting))
            error = stopped_by or await self._send(batch, route, indices, deadline, failures)
            if error is not stopped_by and isinstance(error, SplitError) and (failures or len(indices) < len(batch)):
                middle = len(indices) // 2
                waiting.extendleft([(route, indices[middle:]), (route, indices[:middle])])
                continue
            if error is not None:
                failures.update((index, error) for index in indices if index not in failures)
                if isinstance(error, _STOPS):
                    stopped_by = error
        return Failures(failures).or_raise(len(batch))

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _probe(self, context: ssl.SSLContext | None) -> None:
        name = (self.config.tls.server_name or self._host) if context else None
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context, server_hostname=name)
        try:
            if context is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFUSAL_WAIT_S):
                        if not await reader.read(1):
                            raise ConnectionResetError(
                                "it hung up after the handshake; it may want another certificate"
                            )
        finally:
            writer.transport.abort()

    def _requests(self, batch: Batch, failures: dict[int, DeliveryError]) -> deque[tuple[Route, Sequence[int]]]:
        """What to send, in order: each group of records as one request, or each record as its own."""
        groups = self._routing.groups(batch, failures)
        if self.config.batch_format != "none":
            return deque(groups)
        return deque(sorted(((route, (index,)) for route, indices in groups for index in indices), key=itemgetter(1)))

    async def _send(
        self, batch: Batch, route: Route, indices: Sequence[int], deadline: Deadline, failures: dict[int, DeliveryError]
    ) -> DeliveryError | None:
        """Send one request. Records that make no body go to `failures`; what the others came to is the answer."""
        if self._session is None:
            return NotConnectedError("the sink is not connected")
        kept, text = self._encoder.join(batch, indices, failures)
        if not kept:
            return None
        headers = dict(zip(self._header_names, route[1:], strict=True))
        body = await self._packed(text)
        if self.config.idempotency_header is not None:
            headers[self.config.idempotency_header] = _idempotency_key(batch, indices)
        reused: list[bool] = []
        while True:
            was_reused = bool(reused)
            try:
                async with self._session.request(
                    self.config.method,
                    URL(route[0], encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    server_hostname=self.config.tls.server_name,
                    timeout=aiohttp.ClientTimeout(
                        total=max(0.001, deadline.left_s()),
                        sock_connect=self.config.connect_timeout,
                    ),
                    trace_request_ctx=reused,
                ) as response:
                    said = await self._said(response)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # Servers hang up on connections that were idle, just when a request is on its way.
                if not reused or was_reused:
                    return _translated(error, self._host)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return _translated(error, self._host)
            else:
                return self._judged(response, said, len(kept))

    async def _said(self, response: aiohttp.ClientResponse) -> bytes:
        """The beginning of the body. Where it does not come the status counts, unless a success was cut off."""
        try:
            return await _read(response, self.config.max_response_bytes)
        except (aiohttp.ClientError, OSError) as error:
            if self._statuses.get(response.status) == "success" and not isinstance(error, TimeoutError):
                raise
            return b""

    async def _packed(self, text: bytes) -> bytes:
        body = b"".join((self._opening, text, self._ending))
        if self.config.compression == "none":
            return body
        pack = partial(gzip.compress, body, 6, mtime=0)
        return pack() if len(body) < THREAD_BYTES_MIN else await asyncio.to_thread(pack)

    def _judged(self, response: aiohttp.ClientResponse, body: bytes, count: int) -> DeliveryError | None:
        """What the status asks for."""
        asked = self._statuses.get(response.status, "hold")
        if asked == "success":
            return None
        said = _printable(body.decode(errors="replace"))[:REASON_CHARACTERS]
        status = _printable(f"{response.status} {response.reason or ''}")[:REASON_CHARACTERS]
        message = f"{self._host} answered {status}{': ' if said else ''}{said}"
        code = str(response.status)
        if asked == "retry":
            retry_after_s = self._retry_after_s(response) if self.config.respect_retry_after else None
            return RetryableError(message, code=code, retry_after_s=retry_after_s)
        if asked == "reject":
            return RejectError(message, code=code) if count == 1 else SplitError(message, code=code)
        return HoldError(message, code=code)

    def _retry_after_s(self, response: aiohttp.ClientResponse) -> float | None:
        """The header Retry-After, in seconds or as a date (RFC 9110, 10.2.3)."""
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdecimal():
            return min(float(text), RETRY_AFTER_MAX_S)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - self.context.clock.now_ms() / 1000
        return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


_STOPS = (NotConnectedError, RetryableError, HoldError)
"""What a request may come to that also keeps those behind it from being sent."""


def _unsent(count: int) -> DeliveryError:
    """Why the last `count` records of a batch were not sent: they come again at once, in smaller parts."""
    message = "not sent yet: the requests before it took the time of the batch"
    return SplitError(message) if count > 1 else RetryableError(message, retry_after_s=0.0)


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The beginning of the body. The connection is used again only if that was all of it."""
    text = b""
    while len(text) < bytes_max and (block := await response.content.read(bytes_max - len(text))):
        text += block
    return text


def _translated(error: Exception, host: str) -> DeliveryError:
    """What an error of a request asks for."""
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
        return RetryableError(f"{host} does not answer as HTTP does: {_printable(error.message)}", code="http")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        said = "before it had answered"
    elif isinstance(error, aiohttp.ClientPayloadError):
        said = "in the middle of its answer"
    else:
        said = f"({error})"
    return RetryableError(f"the connection to {host} was cut {said}; the outcome is unknown", code="cut")


def _printable(text: str) -> str:
    """`text` on one line, without what a terminal would obey."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _connect_failure(error: Exception, host: str) -> DeliveryError:
    """What it asks for that there is no connection."""
    if isinstance(error, ssl.SSLError):
        return HoldError(f"no secure connection to {host}: {error}", code="tls")
    if isinstance(error, socket.gaierror):
        message = f"{host} can't be found: {error.strerror or error}"
        return (
            HoldError(message, code="dns") if error.errno in _UNKNOWN_NAME else NotConnectedError(message, code="dns")
        )
    return NotConnectedError(f"no connection to {host}: {str(error) or 'it took too long'}", code="connect")


_UNKNOWN_NAME = {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAIL}


def _origin(url: str) -> SplitResult:
    """Scheme, host and port of `url`. Raises `ConfigError` unless they are written out."""
    match = _ORIGIN.match(url)
    origin = urlsplit(match[0]) if match else None
    try:
        if origin is None or not origin.hostname or origin.port == 0:
            raise ValueError
        origin.hostname.encode("idna")
    except ValueError:
        raise ConfigError(
            f"the url {url!r} must begin with http:// or https:// and a host that is written out",
            remedy="write it like https://example.com/in/${device}",
        ) from None
    if origin.username is not None:
        raise ConfigError("the url holds a password", remedy="write `auth: {type: basic, username: …, password: …}`")
    return origin


def _reports_reuse() -> aiohttp.TraceConfig:
    """Has a request's ``trace_request_ctx`` told when it goes over a connection that was used before."""

    async def report(_session: Any, context: Any, _parameters: Any) -> None:
        context.trace_request_ctx.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(report)
    return trace


def _body(config: HttpConfig) -> Template | None:
    if config.body is None:
        return None
    # A line break in a template of JSON is between its parts; in lines of JSON it would end the line.
    text = config.body.replace("\n", " ") if config.batch_format == "ndjson" else config.body
    return Template.compile(text, kind="payload" if config.batch_format == "none" else "json")


def _check_headers(config: HttpConfig) -> None:
    for option, names in (("headers", config.headers), ("idempotency_header", [config.idempotency_header or "X"])):
        for name in names:
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigError(f"`{option}`: {name!r} can't be the name of a header", remedy="write it like X-Rule")
            if name.lower() in _FRAMING:
                raise ConfigError(f"`{option}`: {name} follows from the body", remedy="leave it out")
    if _CONTROL.search("".join(_fixed_headers(config, "").values())):
        raise ConfigError("`auth` holds a line break or another control character", remedy="correct the secret")


def _fixed_headers(config: HttpConfig, content_type: str) -> dict[str, str]:
    headers = {"User-Agent": "headgate", "Content-Type": content_type, "Accept-Encoding": "identity"}
    if config.compression == "gzip":
        headers["Content-Encoding"] = "gzip"
    if isinstance(config.auth, BasicAuth):
        pair = f"{config.auth.username}:{config.auth.password.get_secret_value()}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    elif isinstance(config.auth, BearerAuth):
        headers["Authorization"] = f"Bearer {config.auth.token.get_secret_value()}"
    return headers


def _status_table(config: HttpConfig) -> dict[int, str]:
    """What each status asks for. What the user wrote wins over a default, and the narrower pattern over the wider."""
    found: dict[int, tuple[bool, int, str]] = {}
    for kind in ("success", "retry", "hold", "reject"):
        is_set = f"{kind}_status" in config.model_fields_set
        for pattern in getattr(config, f"{kind}_status"):
            digits = pattern.rstrip("x")
            for status in (each for each in range(100, 600) if str(each).startswith(digits)):
                best = found.get(status, (False, 0, kind))
                if best[:2] == (is_set, len(digits)) and best[2] != kind:
                    raise ConfigError(
                        f"{pattern} is in both {best[2]}_status and {kind}_status", remedy="leave it in one of them"
                    )
                found[status] = max(best, (is_set, len(digits), kind), key=lambda each: each[:2])
    return {status: kind for status, (_, _, kind) in found.items()}


def _idempotency_key(batch: Batch, indices: Sequence[int]) -> str:
    first, last = batch.records[indices[0]], batch.records[indices[-1]]
    return first.id if first.seq == last.seq else f"{first.id}-{last.seq}"
