"""State beyond one message: the key-value store of all rules, that of each connection, environment variables.

The store of all rules ends with the process, that of a connection with the connection. Both are bounded in entries and
in bytes; a put beyond a bound is an `EvaluationError`.
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
    """Key-value table with a bound in entries and in bytes. Keys are any values; 1, '1' and 1.0 are three keys."""

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: dict[Any, tuple[Any, int]] = {}

    def get(self, key: Any, default: Any = UNDEFINED) -> Any:
        """Return the value of `key`, or `default`."""
        entry = self._entries.get(_hashable(key))
        return default if entry is None else entry[0]

    def put(self, key: Any, value: Any) -> Any:
        """Set the value of `key`. Return its previous value. Raise `EvaluationError` where a bound is exceeded."""
        place = _hashable(key)
        old, old_size = self._entries.get(place, (UNDEFINED, 0))
        size = _size(key) + _size(value)
        if self._bytes - old_size + size > self._bytes_max:
            raise EvaluationError(f"expected at most {self._bytes_max} bytes in the store, which is full; delete keys")
        if not old_size and len(self._entries) >= self._entries_max:
            raise EvaluationError(
                f"expected at most {self._entries_max} entries in the store, which is full; delete keys"
            )
        self._entries[place] = (value, size)
        self._bytes += size - old_size
        return old

    def delete(self, key: Any) -> Any:
        """Delete `key`. Return its value."""
        value, size = self._entries.pop(_hashable(key), (UNDEFINED, 0))
        self._bytes -= size
        return value


def _hashable(key: Any) -> Any:
    return key if type(key) is str else (kind_of(key), to_json(key) if type(key) in (list, dict) else key)


def _size(value: Any) -> int:
    """Return an estimate of the bytes that a value takes."""
    if type(value) is str or type(value) is bytes:
        return 64 + len(value)
    if isinstance(value, Bits):
        return 64 + value.length // 8
    return 64 + value.bit_length() // 8 if type(value) is int else 64 + 4 * len(to_json(value))


class _HasMemory(Protocol):
    memory: Any


class _HasClient(Protocol):
    @property
    def client(self) -> _HasMemory: ...


_store = Memory(entries_max=100_000, bytes_max=64 << 20)
_environment: Mapping[str, str] = os.environ


def use_store(store: Memory) -> Memory:
    """Let all rules share `store` from now on. Return the previous store."""
    global _store
    previous, _store = _store, store
    return previous


@function(("kv_store_put('k', 1)", True), pure=False)
def kv_store_put(key: Any, value: Any) -> bool:
    """Store a value under a key, for all rules, until the process ends. The result is true.

    Fails where the store is full: 100,000 entries or 64 MiB.
    """
    _store.put(key, value)
    return True


@function(("kv_store_get('zz', 'd')", "d"), pure=False)
def kv_store_get(key: Any, default: Any = UNDEFINED) -> Any:
    """Return the value stored under a key by any rule, or `default`."""
    return _store.get(key, default)


@function(("kv_store_del('k')", True), pure=False)
def kv_store_del(key: Any) -> bool:
    """Delete a key and its value from the store of all rules. The result is true."""
    _store.delete(key)
    return True


@function(("proc_dict_put('k', 1)", None), pure=False, needs_message=True)
def proc_dict_put(message: _HasClient, key: Any, value: Any) -> Any:
    """Store a value under a key, for this connection, until it ends. The result is the previous value.

    Fails where the store of the connection is full: 1,000 entries or 256 KiB.
    """
    client = message.client
    if client.memory is None:
        client.memory = Memory(entries_max=1_000, bytes_max=1 << 18)
    return client.memory.put(key, value)


@function(("proc_dict_get('k')", None), pure=False, needs_message=True)
def proc_dict_get(message: _HasClient, key: Any) -> Any:
    """Return the value stored under a key for this connection; undefined for a key without one."""
    memory = message.client.memory
    return UNDEFINED if memory is None else memory.get(key)


@function(("proc_dict_del('k')", None), pure=False, needs_message=True)
def proc_dict_del(message: _HasClient, key: Any) -> Any:
    """Delete a key and its value from the store of this connection. The result is the value."""
    memory = message.client.memory
    return UNDEFINED if memory is None else memory.delete(key)


@function(("getenv('NOT_SET')", ""), pure=False)
def getenv(name: str) -> str:
    """Return the environment variable `HEADGATEVAR_<name>` or `EMQXVAR_<name>`; empty text where it is not set."""
    wanted = text("getenv", 1, name)
    if "\0" in wanted or "=" in wanted:
        return ""
    return next((_environment[prefix + wanted] for prefix in _PREFIXES if prefix + wanted in _environment), "")
