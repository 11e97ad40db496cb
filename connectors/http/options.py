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

    url: Annotated[str, checked(Origin.of), templated("url_path")]
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
