"""Listeners by type: one line each, imported when first used.

A listener accepts connections and makes a `broker.client.Client` of each. A new type is a file here and a line in
`TYPES`; its ``Config`` describes its options, from which the application's configuration, its schema and its reference
are made.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import ClassVar, Protocol

from broker.client import Client
from broker.config import ListenerConfig
from broker.core import Core

TYPES: dict[str, str] = {
    "tcp": "broker.listeners.tcp:TcpListener",
}
"""The type, as configurations name it, to ``module:class``."""


class ListenerConnection(Protocol):
    """An accepted connection."""

    @property
    def client(self) -> Client | None:
        """The client behind it, once there is one."""


class Listener(Protocol):
    """A place where clients connect."""

    Config: ClassVar[type[ListenerConfig]]
    host: str
    port: int
    """The real port once `start` has returned; 0 where the transport has no ports."""

    @property
    def type(self) -> str: ...
    @property
    def name(self) -> str:
        """``type:address``, as origins of clients, logs and errors have it."""

    @property
    def connections(self) -> Collection[ListenerConnection]:
        """The connections that are open."""

    async def start(self) -> None:
        """Bind and listen. Raises `OSError` with the address in its message."""

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections stay."""


class ListenerType(Protocol):
    """The class of a listener."""

    Config: ClassVar[type[ListenerConfig]]

    def __call__(self, config: ListenerConfig, core: Core, /) -> Listener: ...


def load_listener(name: str, types: Mapping[str, str] = TYPES) -> ListenerType:
    """Return the class of a listener type. Raises `KeyError` for one that is not in the table."""
    module_name, _, class_name = types[name].partition(":")
    listener: ListenerType = getattr(importlib.import_module(module_name), class_name)
    return listener
