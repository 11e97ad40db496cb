"""Options of the `mongodb` sink."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from connectors._shared.tls import TlsConfig
from connectors.mongodb.document import ValueRules
from connectors.mongodb.types import TypeName
from engine.config.model import Model
from engine.config.units import Duration
from engine.connector import ConnectorConfig
from engine.errors import ConfigError
from engine.language.template.option import templated

_SRV = re.compile(r"mongodb\+srv://(?:[^/@]*@)?[^/,:@]+(?:/.*)?", re.DOTALL)


class WriteConcernConfig(Model):
    """Confirmation that a write waits for, within `request_timeout`."""

    w: Annotated[int, Field(ge=1)] | str = "majority"
    """Members that must have it: `majority`, a number, or the name of a custom write concern."""
    j: bool = True
    """Whether it must be in the journal on disk."""


class TimeSeriesConfig(Model):
    """Options of a time-series collection, which is created if it is missing."""

    time_field: str
    """Field with the time of a document; it is converted to a date."""
    meta_field: str | None = None
    """Field that tells the series apart."""
    granularity: Literal["seconds", "minutes", "hours"] | None = None
    """Usual distance of two documents of a series. Default: the server's, seconds."""
    expire_after: Annotated[Duration, Field(ge=1)] | None = None
    """Age at which the server deletes documents. Default: never."""


class MongodbConfig(ConnectorConfig):
    """Options of the `mongodb` sink."""

    uri: SecretStr
    """Address of the server, replica set or cluster: `mongodb://user:password@a:27017,b:27017/?replicaSet=rs0` or
    `mongodb+srv://cluster.example.net`, with the options that MongoDB's drivers have in common."""
    username: str | None = None
    """User name, in place of the one in `uri`."""
    password: SecretStr | None = None
    """Password, in place of the one in `uri`, where it would have to be percent-encoded."""
    tls: TlsConfig | None = None
    """TLS of the connections. Default: as `uri` says. `cert` holds the certificate and its key."""
    database: str | None = None
    """Name of the database. Default: the one in the path of `uri`."""
    collection: Annotated[str, templated("collection")] = "mqtt"
    """Template of the collection. It must begin with fixed text unless `allow_unconfined` is set."""
    allow_unconfined: bool = False
    """Allow a collection that begins with a placeholder, so that a message can choose any collection."""
    create: bool = True
    """Let the server create missing collections. `false` holds the sink for a missing fixed collection, and rejects
    records of a missing rendered one; what is missing is looked for again after 5 s."""
    mode: Literal["insert", "update", "upsert", "replace", "delete"] = "insert"
    """`insert` adds documents. `update` changes the document that `filter` matches, if there is one; `upsert` adds it
    if there is none. `replace` puts the document in its place, or adds it. `delete` deletes it."""
    document: dict[str, Any] | str = "${.}"
    """The document, as a mapping or JSON with placeholders in quotes; one alone keeps the kind of its value. For
    `update` and `upsert` its fields are set, or it has update operators: `{$inc: {count: "${n}"}}`."""
    filter: dict[str, Any] | str | None = None
    """The filter of the modes other than `insert`, as `document`. A record without a value for it is rejected. Default:
    the `_id` that `id` gives."""
    id: Annotated[str, templated("text")] | None = None
    """Template of `_id`. A document whose `_id` is stored already counts as delivered. Default: the row's `_id`, or a
    new object id."""
    exactly_once: bool = False
    """Store each record once, also after a crash: `_id` is made of the record's number in the journal. For `insert`."""
    ordered: bool = False
    """Write the documents of a batch strictly one after the other, as `insert` of a sharded cluster does not."""
    types: dict[str, TypeName] = Field(default_factory=dict)
    """Types of fields by name or dotted path: `date` from RFC 3339 or a number since 1970, `decimal`, `object_id`,
    `binary` from base64, `uuid`, `long`, `double`. Null stays null; a value that does not fit is rejected."""
    large_integers: Literal["reject", "decimal"] = "reject"
    """Integers beyond 64 bits: reject the record, or store a decimal of up to 34 digits."""
    non_finite: Literal["keep", "null", "reject"] = "keep"
    """NaN and infinities: MongoDB stores them; some other servers with its protocol do not."""
    field_names: Literal["keep", "replace", "reject"] = "keep"
    """Names that begin with `$` or hold a point: leave them to the server, which rejects some; replace the characters
    by `＄` and `．`; or reject the record."""
    write_concern: WriteConcernConfig = WriteConcernConfig()
    """Confirmation that a write waits for."""
    time_series: TimeSeriesConfig | None = None
    """Create the collection as a time series. Default: an ordinary one."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        self._check_uri()
        if self.database_name() is None:
            raise ConfigError("a mongodb sink needs a `database`", remedy="name it, or write it behind the / of `uri`")
        if self.mode == "insert" and self.filter is not None:
            raise ConfigError(
                "`filter` does not belong to `mode: insert`", remedy="write another mode, or leave it out"
            )
        if self.mode != "insert" and self.filter is None and self.id is None:
            raise ConfigError(f"`mode: {self.mode}` needs a `filter` or an `id`", remedy="say which document is meant")
        if self.exactly_once and (self.mode != "insert" or self.id is not None):
            raise ConfigError("`exactly_once` belongs to `mode: insert` without `id`", remedy="leave one of them out")
        if self.time_series is not None and (self.mode != "insert" or self.id is not None or self.exactly_once):
            raise ConfigError(
                "a time series takes `mode: insert` without `id` and `exactly_once`: its `_id` is not unique",
                remedy="leave them out",
            )
        if self.tls is not None and (self.tls.server_name or self.tls.key or self.tls.min_version != "1.2"):
            raise ConfigError(
                "`tls.server_name`, `tls.key` and `tls.min_version` do not work for MongoDB",
                remedy="name the server by the certificate's name, and put the key behind the certificate in `cert`",
            )

    def _check_uri(self) -> None:
        uri = self.uri.get_secret_value()
        try:
            if uri.startswith("mongodb+srv://"):
                if not _SRV.fullmatch(uri):
                    raise ConfigError("", remedy=None)
                return
            parse_uri(uri)
        except (PyMongoError, ValueError, ConfigError) as error:
            reason = str(error) if uri.partition("@")[1] == "" else "a part of it is not well formed"
            raise ConfigError(
                f"the `uri` is not an address of MongoDB: {reason or 'it has more than one host, or a port'}",
                remedy="write mongodb://user:password@host:27017/database, and percent-encode user and password, or "
                "give them as `username` and `password`",
            ) from None

    def database_name(self) -> str | None:
        """Return the database: the option's, or that in the path of `uri`."""
        if self.database is not None:
            return self.database or None
        return unquote(urlsplit(self.uri.get_secret_value()).path.lstrip("/")) or None

    def where(self) -> str:
        """Return the server as messages name it; never with a password."""
        hosts = urlsplit(self.uri.get_secret_value()).netloc.rpartition("@")[2]
        return f"MongoDB at {hosts}/{self.database_name()}"

    def rules(self) -> ValueRules:
        """Return how values of rows become values of documents."""
        types: dict[str, TypeName] = dict(self.types)
        if self.time_series is not None:
            types.setdefault(self.time_series.time_field, "date")
        return ValueRules(types, self.large_integers, self.non_finite, self.field_names)

    def client_options(self, base_dir: Path, sink_id: str) -> dict[str, Any]:
        """Return the options of the driver's client."""
        timeout_ms = max(1, round(self.connect_timeout * 1000))
        options: dict[str, Any] = {
            "appname": f"headgate {sink_id}"[:128],
            "serverSelectionTimeoutMS": timeout_ms,
            "connectTimeoutMS": timeout_ms,
            "maxPoolSize": self.lanes,
            # The driver writes once more after a failover, under a number by which the server knows the write: free,
            # and without the duplicates that a second write of ours may make. A single server does without it.
            "retryWrites": True,
        }
        if self.username is not None:
            options["username"] = self.username
        if self.password is not None:
            options["password"] = self.password.get_secret_value()
        if self.tls is not None:
            options |= self._tls_options(self.tls, base_dir)
        return options

    def _tls_options(self, tls: TlsConfig, base_dir: Path) -> dict[str, Any]:
        options: dict[str, Any] = {"tls": True}
        if tls.ca is not None:
            options["tlsCAFile"] = str(base_dir / tls.ca)
        if tls.cert is not None:
            options["tlsCertificateKeyFile"] = str(base_dir / tls.cert)
        if tls.key_password is not None:
            options["tlsCertificateKeyFilePassword"] = tls.key_password.get_secret_value()
        if tls.verify == "none":
            options["tlsAllowInvalidCertificates"] = True
        elif tls.verify == "ca":
            options["tlsAllowInvalidHostnames"] = True
        return options
