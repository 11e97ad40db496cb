"""InfluxDB 1 with logins."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from servers.install import influxdb_program
from servers.process import Server, free_port, require

USER = "headgate"
PASSWORD = "headgate"
REQUEST_TIMEOUT_S = 10.0

Point = dict[str, Any]
"""A point by column: its time in nanoseconds, its tags and its fields."""


class Influxdb(Server):
    """One server that asks for passwords. Its administrator is `USER`."""

    name: ClassVar[str] = "influxdb"

    def __init__(self) -> None:
        super().__init__()
        self._backup_port = free_port()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def prepare(self) -> None:
        require(self.name)
        self._configuration.write_text(
            "reporting-disabled = true\n"
            f'bind-address = "{self.host}:{self._backup_port}"\n'
            f'[meta]\ndir = "{self.directory}/meta"\n'
            f'[data]\ndir = "{self.directory}/data"\nwal-dir = "{self.directory}/wal"\n'
            "[monitor]\nstore-enabled = false\n"
            f'[http]\nbind-address = "{self.host}:{self.port}"\nauth-enabled = true\nlog-enabled = false\n'
        )

    def start(self) -> None:
        super().start()
        # The first user may be created without a login; afterwards the statement is refused, or changes nothing.
        try:
            self.execute(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES", login=False)
        except RuntimeError:
            self.set_password(PASSWORD)

    def command(self) -> list[str]:
        return [influxdb_program() or "influxd", "-config", str(self._configuration)]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=REQUEST_TIMEOUT_S) as response:
                return bool(response.status == 204)
        except OSError:
            return False

    def execute(self, statement: str, *, database: str = "", login: bool = True) -> list[Any]:
        """Run a statement. Return its series. Raise `RuntimeError` with the server's reason."""
        request = urllib.request.Request(
            f"{self.url}/query?{urlencode({'db': database, 'epoch': 'ns'})}", urlencode({"q": statement}).encode()
        )
        if login:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                (result,) = json.load(response)["results"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{statement}: {error.read().decode()}") from error
        if "error" in result:
            raise RuntimeError(f"{statement}: {result['error']}")
        return list(result.get("series", ()))

    def points(self, measurement: str, database: str) -> list[Point]:
        """Return the points of a measurement in the order of their times, without the columns that they lack."""
        (series,) = self.execute(f'SELECT * FROM "{measurement}"', database=database) or [{"columns": (), "values": ()}]
        rows = [dict(zip(series["columns"], values, strict=True)) for values in series["values"]]
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    def create_user(self, name: str, password: str, database: str) -> None:
        """Create a user who may write to a database."""
        self.execute(f"CREATE USER {name} WITH PASSWORD '{password}'")
        self.execute(f'GRANT WRITE ON "{database}" TO {name}')

    def set_password(self, password: str, user: str = USER) -> None:
        self.execute(f"SET PASSWORD FOR {user} = '{password}'")

    @property
    def _configuration(self) -> Path:
        return self.directory / "influxdb.conf"
