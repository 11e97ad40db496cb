"""Options of the `http` sink."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from connectors._shared.request import Origin
from connectors._shared.response import StatusClass, StatusClasses, StatusPattern
from connectors._shared.tls import TlsConfig
from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig
from engine.errors import ConfigError
from engine.language.template.option import checked, templated

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, 5.6.2."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = ("content-length", "transfer-encoding")

_CLASSES: tuple[StatusClass, ...] = ("success", "retry", "hold", "reject")


class BasicAuth(Model):
    """User name and password (RFC 7617)."""

    type: Literal["basic"]
    """User name and password."""
    username: str
    """User name."""
    password: SecretStr
    """Password."""


class BearerAuth(Model):
    """Bearer token (RFC 6750)."""

    type: Literal["bearer"]
    """Bearer token."""
    token: SecretStr
    """Token."""


class HttpConfig(ConnectorConfig):
    """Options of the `http` sink."""

    url: Annotated[str, checked(Origin.of), templated("url_path")]
    """Template of the URL with its query. Scheme and host must be fixed text. Values are percent-encoded."""
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    """Method of the request."""
    headers: dict[str, Annotated[str, templated("header")]] = Field(default_factory=dict)
    """Templates of request headers by name."""
    body: Annotated[str, templated("text")] | None = None
    """Template of the body, or of each record in it with a batch format. Default: the whole row as JSON."""
    batch_format: Literal["none", "json_array", "ndjson"] = "none"
    """`none` sends each record alone, `json_array` a batch as one JSON array, `ndjson` a batch as lines of JSON."""
    compression: Literal["none", "gzip"] = "none"
    """Compression of bodies."""
    auth: Annotated[BasicAuth | BearerAuth, Field(discriminator="type")] | None = None
    """Credentials of every request."""
    tls: TlsConfig = TlsConfig()
    """TLS of `https`."""
    success_status: tuple[StatusPattern, ...] = ("2xx",)
    """Statuses that mean delivered, like `204`, `52x` or `5xx`. A set option wins over defaults, `204` over `2xx`."""
    retry_status: tuple[StatusPattern, ...] = ("408", "425", "429", "5xx")
    """Statuses after which a request is sent again, after a back-off or the pause in Retry-After."""
    hold_status: tuple[StatusPattern, ...] = ("1xx", "3xx", "4xx", "501", "505")
    """Statuses that hold the sink until the configuration or the endpoint is corrected."""
    reject_status: tuple[StatusPattern, ...] = ("400", "409", "410", "411", "413", "414", "415", "422", "431")
    """Statuses that make the record a dead letter. A batch is sent in halves until the record at fault is alone."""
    respect_retry_after: bool = True
    """Wait for the pause that the header Retry-After names, for an hour at most."""
    idempotency_header: str | None = None
    """Name of a header by which the endpoint detects a repeated request, like `Idempotency-Key`."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 8
    """Limit of connections."""
    keep_alive: Duration = 15.0
    """Time that a connection stays open without a request."""
    max_response_bytes: Size = 64 << 10
    """Bytes of a response that are read. The connection of a longer one is closed."""

    def check(self) -> None:
        """Raise `ConfigError` for headers and credentials that no request can have."""
        names = [("headers", name) for name in self.headers]
        if self.idempotency_header is not None:
            names.append(("idempotency_header", self.idempotency_header))
        for option, name in names:
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigError(f"`{option}`: {name!r} can't be the name of a header", remedy="write it like X-Rule")
            if name.lower() in _FRAMING:
                raise ConfigError(f"`{option}`: {name} follows from the body", remedy="leave it out")
        if _CONTROL.search("".join(self.fixed_headers("").values())):
            raise ConfigError("`auth` holds a line break or another control character", remedy="correct the secret")

    def fixed_headers(self, content_type: str) -> dict[str, str]:
        """Return the headers of every request."""
        headers = {"User-Agent": "headgate", "Content-Type": content_type, "Accept-Encoding": "identity"}
        if self.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        if isinstance(self.auth, BasicAuth):
            pair = f"{self.auth.username}:{self.auth.password.get_secret_value()}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        elif isinstance(self.auth, BearerAuth):
            headers["Authorization"] = f"Bearer {self.auth.token.get_secret_value()}"
        return headers

    def status_classes(self) -> StatusClasses:
        """Compile the `…_status` options. Raise `ConfigError` where two of them claim the same status."""
        return StatusClasses.of(
            {kind: getattr(self, f"{kind}_status") for kind in _CLASSES},
            [kind for kind in _CLASSES if f"{kind}_status" in self.model_fields_set],
            respect_retry_after=self.respect_retry_after,
        )
