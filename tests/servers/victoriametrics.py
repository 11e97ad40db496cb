"""VictoriaMetrics, one node: it takes the write APIs of InfluxDB 1 and 2."""

from __future__ import annotations

import json
import urllib.request
from typing import ClassVar
from urllib.parse import urlencode

from servers.install import victoriametrics_program
from servers.process import Server, require

REQUEST_TIMEOUT_S = 10.0


class Victoriametrics(Server):
    """One server without logins."""

    name: ClassVar[str] = "victoriametrics"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def prepare(self) -> None:
        require(self.name)

    def command(self) -> list[str]:
        return [
            victoriametrics_program() or "victoria-metrics", f"-storageDataPath={self.directory}/data",
            f"-httpListenAddr={self.host}:{self.port}", "-retentionPeriod=100y", "-search.latencyOffset=0s",
        ]  # fmt: skip

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=REQUEST_TIMEOUT_S) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def samples(self, metric: str) -> dict[str, dict[int, float]]:
        """Return the values of a metric (``measurement_field``) by their time in milliseconds, by the tag `device`."""
        # Samples can be read once they are flushed, which the server otherwise does after a second.
        with urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=REQUEST_TIMEOUT_S):
            pass
        query = urlencode({"match[]": f'{{__name__="{metric}"}}'})
        with urllib.request.urlopen(f"{self.url}/api/v1/export?{query}", timeout=REQUEST_TIMEOUT_S) as response:
            series = [json.loads(line) for line in response.read().splitlines()]
        return {
            each["metric"].get("device", ""): dict(zip(each["timestamps"], each["values"], strict=True))
            for each in series
        }
