"""mosquitto: the MQTT broker that others are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from servers.install import mosquitto_program
from servers.process import Server, accepts, require


class Mosquitto(Server):
    """One broker without access control, with persistence."""

    name: ClassVar[str] = "mosquitto"

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def prepare(self) -> None:
        require(self.name)
        self._configuration.write_text(
            f"listener {self.port} {self.host}\n"
            "allow_anonymous true\n"
            "persistence true\n"
            f"persistence_location {self.directory}/\n"
            # As root it would otherwise become a user who may not write here.
            "user root\n"
        )

    def command(self) -> list[str]:
        return [mosquitto_program() or "mosquitto", "-c", str(self._configuration)]

    def is_ready(self) -> bool:
        return accepts(self.port)

    @property
    def _configuration(self) -> Path:
        return self.directory / "mosquitto.conf"
