"""The recording HTTP endpoint as a process that can be killed, restarted and set to fail."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from servers.process import Server, accepts

PROGRAM = Path(__file__).with_name("http_server.py")


class Endpoint(Server):
    """`support.http_server` on a fixed free port."""

    name: ClassVar[str] = "endpoint"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def records_path(self) -> Path:
        return self.directory / "records.jsonl"

    def prepare(self) -> None:
        """Do nothing: the endpoint needs no files."""

    def command(self) -> list[str]:
        return [sys.executable, str(PROGRAM), str(self.records_path), "--port", str(self.port)]

    def is_ready(self) -> bool:
        return accepts(self.port)

    def behave(self, mode: str = "ok", **options: Any) -> None:
        """Set the behaviour from now on; see `support.http_server`."""
        body = json.dumps({"mode": mode, **options}).encode()
        request = urllib.request.Request(f"{self.url}/control", body, {"Content-Type": "application/json"})
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def rows(self) -> list[tuple[str, int]]:
        """Return the (device, seq) of every accepted record, in the order of arrival."""
        if not self.records_path.exists():
            return []
        records = [json.loads(line)["record"] for line in self.records_path.read_text().splitlines()]
        return [(record["device"], record["seq"]) for record in records]
