"""A listener of a type that is not there: what another transport has to bring, with an option of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, ClassVar

from broker.config import ListenerConfig, Option
from broker.core import Core
from broker.listeners import ListenerConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeConfig(ListenerConfig):
    """A named pipe."""

    type: ClassVar[str] = "pipe"

    path: Annotated[str, Option("The pipe.")] = "broker.pipe"


class PipeListener:
    """Starts, and accepts nothing."""

    Config: ClassVar[type[ListenerConfig]] = PipeConfig

    def __init__(self, config: PipeConfig, core: Core) -> None:
        self.type = config.type
        self.host, self.port = config.path, 0
        self.connections: Collection[ListenerConnection] = ()
        self.is_open = False

    @property
    def name(self) -> str:
        return f"{self.type}:{self.host}"

    async def start(self) -> None:
        self.is_open = True

    async def stop_accepting(self) -> None:
        self.is_open = False
