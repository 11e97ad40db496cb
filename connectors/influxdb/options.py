"""Options of the `influxdb` sink."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BeforeValidator, Field, SecretStr

from connectors._shared.request import Origin
from connectors._shared.tls import TlsConfig
from connectors.influxdb.syntax import parse_write_syntax
from connectors.influxdb.value import Precision
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig
from engine.errors import ConfigError
from engine.language.template.option import checked, templated

Version = Literal["1", "2", "3", "victoriametrics"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONG_PRECISIONS = {"ns": "nanosecond", "us": "microsecond", "ms": "millisecond", "s": "second"}


def _version_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


class InfluxdbConfig(ConnectorConfig):
    """Options of the `influxdb` sink."""

    url: Annotated[str, checked(Origin.of)]
    """URL of the server, without the path of the write API: `http://influxdb.plant:8086`."""
    version: Annotated[Version, BeforeValidator(_version_text)] | None = None
    """Write API of the server: InfluxDB `1`, `2` or `3`, or `victoriametrics`. Default: 2 with `bucket`, 3 with
    `database` and `token`, else 1."""
    bucket: str | None = None
    """Bucket (InfluxDB 2)."""
    org: str | None = None
    """Name or id of the organization (InfluxDB 2)."""
    database: str | None = None
    """Database (InfluxDB 1 and 3)."""
    retention_policy: str | None = None
    """Retention policy (InfluxDB 1). Default: that of the database."""
    consistency: Literal["any", "one", "quorum", "all"] | None = None
    """Write consistency of a cluster (InfluxDB Enterprise 1)."""
    token: SecretStr | None = None
    """Token of InfluxDB 2 and 3; a bearer token of a proxy before VictoriaMetrics."""
    username: str | None = None
    """User name (InfluxDB 1, VictoriaMetrics)."""
    password: SecretStr | None = None
    """Password of the user."""
    precision: Precision | None = None
    """Unit of timestamps. Default: `ms` if a timestamp is configured, else `ns`."""
    measurement: Annotated[str, templated("measurement")] | None = None
    """Template of the measurement. Begins with constant text unless `allow_unconfined` is set."""
    tags: dict[str, Annotated[str, templated("text")]] = Field(default_factory=dict)
    """Templates of tags by key. A tag without a value, or with an empty one, is left out."""
    fields: dict[str, Annotated[str, templated("text")]] | None = None
    """Templates of fields by key, with their type: `${x}`, `${x}i`, `${x}u`, `"${x}"`. A field without a value is left
    out. Default: all columns of the row that the other templates do not name."""
    integers: Literal["float", "integer"] = "float"
    """Type of integers in fields without a suffix. `float` keeps a device that sends 21 and then 21.5 from a field type
    conflict, and rejects integers that a float can't hold exactly."""
    timestamp: Annotated[str, templated("text")] | None = None
    """Template of the timestamp: a number in units of `precision`, or a time as in RFC 3339. Default: the time of the
    message."""
    write_syntax: Annotated[str, checked(parse_write_syntax)] | None = None
    """Points as line protocol with placeholders, one a line, instead of the four
    options above."""
    allow_unconfined: bool = False
    """Let a row alone choose the measurement."""
    gzip: bool = True
    """Compress requests."""
    gzip_min: Size = 1024
    """Size from which a request is compressed."""
    tls: TlsConfig = TlsConfig()
    """TLS of `https`."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 8
    """Limit of connections."""
    keep_alive: Duration = 15.0
    """Time that a connection stays open without a request."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other, or that no request can have."""
        self._check_point()
        version, target = self.api_version(), "bucket" if self.api_version() == "2" else "database"
        if version != "victoriametrics" and getattr(self, target) is None:
            raise ConfigError(f"InfluxDB {version} needs `{target}`", remedy=f"set `{target}`, or another `version`")
        if version == "2" and self.org is None:
            raise ConfigError("InfluxDB 2 needs `org`", remedy="set `org` to the organization of the bucket")
        if version != "1" and self.retention_policy is not None:
            raise ConfigError(
                f"`retention_policy` is an option of InfluxDB 1, found version {version}",
                remedy="leave it out, or set `version: 1`",
            )
        if (self.username is None) != (self.password is None):
            raise ConfigError("`username` and `password` go together", remedy="set both, or neither")
        if self.token is not None and self.username is not None:
            raise ConfigError("`token` and `username` are two logins", remedy="leave out one of them")
        if re.search(r"[?#$]", self.url):
            raise ConfigError(f"the url {self.url!r} has more than a path", remedy="write it like http://host:8086")
        if _CONTROL.search("".join((self.url, *self.headers().values()))):
            raise ConfigError("the login holds a line break or another control character", remedy="correct the secret")

    def api_version(self) -> Version:
        """Return the version of the write API, as set or as it follows from other options."""
        if self.version is not None:
            return self.version
        return "2" if self.bucket is not None else "3" if self.token is not None else "1"

    def unit(self) -> Precision:
        """Return the unit of timestamps."""
        if self.precision is not None:
            return self.precision
        texts = parse_write_syntax(self.write_syntax) if self.write_syntax is not None else []
        has_timestamp = self.timestamp is not None or any(point.timestamp is not None for point in texts)
        return "ms" if has_timestamp else "ns"

    def write_url(self) -> str:
        """Return the URL of the write API with its query, percent-encoded."""
        version, unit = self.api_version(), self.unit()
        query: dict[str, str | None]
        if version == "3":
            path, query = "/api/v3/write_lp", {"db": self.database, "precision": _LONG_PRECISIONS[unit]}
        elif version == "2":
            path, query = "/api/v2/write", {"org": self.org, "bucket": self.bucket, "precision": unit}
        else:
            path = "/write"
            query = {
                "db": self.database, "rp": self.retention_policy, "consistency": self.consistency,
                # InfluxDB 1 knows `n` and `u`; the long forms came with 1.8.
                "precision": {"ns": "n", "us": "u"}.get(unit, unit),
            }  # fmt: skip
        return f"{self.url.rstrip('/')}{path}?{urlencode({key: text for key, text in query.items() if text})}"

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        headers = {
            "User-Agent": "headgate", "Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity",
        }  # fmt: skip
        if self.token is not None:
            scheme = "Token" if self.api_version() in ("1", "2") else "Bearer"
            headers["Authorization"] = f"{scheme} {self.token.get_secret_value()}"
        elif self.username is not None and self.password is not None:
            pair = f"{self.username}:{self.password.get_secret_value()}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return headers

    def _check_point(self) -> None:
        structured = {"measurement", "tags", "fields", "timestamp"} & self.model_fields_set
        if self.write_syntax is not None and structured:
            raise ConfigError(
                f"`write_syntax` holds whole points, found `{min(structured)}` as well", remedy="leave out one of them"
            )
        if self.write_syntax is None and self.measurement is None:
            raise ConfigError("there is no point to write", remedy="set `measurement`, or `write_syntax`")
        if self.fields is not None and not self.fields:
            raise ConfigError("`fields` is empty", remedy="name a field, or leave out `fields` to store all columns")
