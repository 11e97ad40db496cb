"""What outlives one message: a key-value store, a memory of each connection, and environment variables.

The store is one for all rules and lives as long as the process; what a connection remembers goes with it. Both have
bounds, beyond which a put is an error of the rule.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from engine.errors import EvaluationError
from engine.language.functions.argument import text
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED
from engine.model.value import Bits, kind_of, to_json

_PREFIXES = ("HEADGATEVAR_", "EMQXVAR_")


class Memory:
    """A table of values by key, bounded in entries and in bytes. Any value is a key; kinds are told apart."""

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: dict[Any, tuple[Any, int]] = {}

    def get(self, key: Any, default: Any = UNDEFINED) -> Any:
        entry = self._entries.get(_hashable(key))
        return default if entry is None else entry[0]

    def put(self, key: Any, value: Any) -> Any:
        """Keep `value` under `key`; the value that was there is returned."""
        place = _hashable(key)
        old, old_size = self._entries.get(place, (UNDEFINED, 0))
        size = _size(key) + _size(value)
        if self._bytes - old_size + size > self._bytes_max:
            raise EvaluationError(f"the store is full: it holds {self._bytes_max} bytes")
        if not old_size and len(self._entries) >= self._entries_max:
            raise EvaluationError(f"the store is full: it holds {self._entries_max} entries")
        self._entries[place] = (value, size)
        self._bytes += size - old_size
        return old

    def delete(self, key: Any) -> Any:
        """Forget `key`; the value that was there is returned."""
        value, size = self._entries.pop(_hashable(key), (UNDEFINED, 0))
        self._bytes -= size
        return value


def _hashable(key: Any) -> Any:
    return key if type(key) is str else (kind_of(key), to_json(key) if type(key) in (list, dict) else key)


def _size(value: Any) -> int:
    """About what a value takes, in bytes."""
    if type(value) is str or type(value) is bytes:
        return 64 + len(value)
    if isinstance(value, Bits):
        return 64 + value.length // 8
    return 64 + value.bit_length() // 8 if type(value) is int else 64 + 4 * len(to_json(value))


class _Connection(Protocol):
    memory: Any


class _Source(Protocol):
    @property
    def client(self) -> _Connection: ...


_store = Memory(entries_max=100_000, bytes_max=64 << 20)
_environment: Mapping[str, str] = os.environ


def use_store(store: Memory) -> Memory:
    """Let all rules share `store` from now on; the store until now is returned."""
    global _store
    previous, _store = _store, store
    return previous


@function(("kv_store_put('k', 1)", True), pure=False)
def kv_store_put(key: Any, value: Any) -> bool:
    """Keep a value under a key, for all rules, until the process ends."""
    _store.put(key, value)
    return True


@function(("kv_store_get('zz', 'd')", "d"), pure=False)
def kv_store_get(key: Any, default: Any = UNDEFINED) -> Any:
    """The value kept under a key, or `default`."""
    return _store.get(key, default)


@function(("kv_store_del('k')", True), pure=False)
def kv_store_del(key: Any) -> bool:
    """Forget the value kept under a key."""
    _store.delete(key)
    return True


@function(("proc_dict_put('k', 1)", None), pure=False, needs_message=True)
def proc_dict_put(message: _Source, key: Any, value: Any) -> Any:
    """Keep a value under a key for this connection; the value that was there is the result."""
    client = message.client
    if client.memory is None:
        client.memory = Memory(entries_max=1_000, bytes_max=1 << 18)
    return client.memory.put(key, value)


@function(("proc_dict_get('k')", None), pure=False, needs_message=True)
def proc_dict_get(message: _Source, key: Any) -> Any:
    """The value kept under a key for this connection."""
    memory = message.client.memory
    return UNDEFINED if memory is None else memory.get(key)


@function(("proc_dict_del('k')", None), pure=False, needs_message=True)
def proc_dict_del(message: _Source, key: Any) -> Any:
    """Forget the value kept under a key for this connection; it is the result."""
    memory = message.client.memory
    return UNDEFINED if memory is None else memory.delete(key)


@function(("getenv('NOT_SET')", ""), pure=False)
def getenv(name: str) -> str:
    """The environment variable `HEADGATEVAR_<name>` or `EMQXVAR_<name>`; empty where it is not set."""
    wanted = text("getenv", 1, name)
    if "\0" in wanted or "=" in wanted:
        return ""
    return next((_environment[prefix + wanted] for prefix in _PREFIXES if prefix + wanted in _environment), "")
