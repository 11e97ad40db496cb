"""Options of the `postgresql` sink."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from connectors._shared.tls import TlsConfig
from connectors.postgresql.address import is_address
from connectors.postgresql.table import PostgresTableOptions
from engine.config.units import Duration
from engine.connector import ConnectorConfig
from engine.errors import ConfigError


class PostgresqlConfig(ConnectorConfig):
    """Options of the `postgresql` sink."""

    dsn: SecretStr | None = None
    """Address as a URL, `postgresql://user:password@host:5432/database`; the options below override its parts."""
    host: str | None = None
    """Host name, address, or folder of a Unix socket."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the server; 5432 unless set."""
    database: str | None = None
    """Name of the database."""
    user: str | None = None
    """Name to log in with."""
    password: SecretStr | None = None
    """Password to log in with."""
    tls: TlsConfig | None = None
    """How the connection is secured; unless set, TLS where the server offers it, without checking who it is."""
    session_attrs: Literal["any", "primary", "read-write"] = "read-write"
    """Which of several hosts in `dsn` to take; after a failover the one that can be written to is looked for again."""
    pool_size: Annotated[int, Field(ge=1, le=64)] = 4
    """Most connections; as many as `lanes` lets all lanes write at once."""
    table: str | None = None
    """The table, `schema.table` where it is not on the search path; names are taken as written."""
    mode: Literal["copy", "insert", "upsert"] = "copy"
    """`copy` is the fastest; `insert` runs INSERT; `upsert` changes the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns that identify a row, with a unique index. A row that is there already counts as delivered."""
    on_conflict: Literal["update", "nothing"] | None = None
    """What `upsert` does with a row that is there: `update` unless set."""
    create_table: str | None = None
    """A CREATE TABLE statement of your own, run where the table is missing."""
    sql: str | None = None
    """A statement of your own with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    statement_timeout: Duration = 10.0
    """Longest time the server works on one statement."""
    prepared_statements: bool = True
    """`false` behind a PgBouncer that pools transactions; `statement_timeout` is then the pooler's business."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        if (self.table is None) == (self.sql is None):
            raise ConfigError("a postgresql sink needs either `table` or `sql`", remedy="write one of the two")
        if self.mode == "upsert" and not self.conflict_key:
            raise ConfigError("`mode: upsert` needs a `conflict_key`", remedy="name the columns that identify a row")
        if self.on_conflict == "update" and self.mode != "upsert":
            raise ConfigError("`on_conflict: update` belongs to `mode: upsert`", remedy="write `mode: upsert`")
        if self.sql is not None and (self.conflict_key or self.create_table or self.mode != "copy"):
            raise ConfigError(
                "`mode`, `conflict_key` and `create_table` belong to `table`",
                remedy="write ON CONFLICT into `sql`, or use `table` instead",
            )
        if self.dsn is None and self.host is None:
            raise ConfigError("a postgresql sink needs a `dsn` or a `host`", remedy="say where the server is")
        if self.dsn is not None and not is_address(self.dsn.get_secret_value()):
            raise ConfigError(
                "the `dsn` is not an address of PostgreSQL",
                remedy="write postgresql://user:password@host:5432/database; escape in it %2F for /, %23 for #, "
                "%3F for ?, or give `password` apart from it",
            )
        if self.sql is not None and not self.sql.strip(" ;\n"):
            raise ConfigError("`sql` is empty", remedy="write a statement with placeholders, or use `table` instead")
        if self.tls is not None and self.tls.server_name is not None:
            raise ConfigError(
                "`tls.server_name` does not work for PostgreSQL", remedy="give the certificate's name as `host`"
            )

    def table_options(self) -> PostgresTableOptions:
        """Return what `PostgresTable` needs of these options."""
        on_conflict = self.on_conflict or ("update" if self.mode == "upsert" else "nothing")
        return PostgresTableOptions(self.table or "", self.mode, self.conflict_key, on_conflict, self.create_table)
