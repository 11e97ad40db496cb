"""Maps: reading and writing by key or by dotted path. Functions never change a map; writing returns a copy."""

from __future__ import annotations

from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import mapping, opened, refuse, text
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED
from engine.model.value import fixed, float_text, to_text


@function(("map_new()", {}))
def map_new() -> dict[str, Any]:
    """Return an empty map."""
    return {}


@function(
    ("map_get('a.b', json_decode('{\"a\":{\"b\":1}}'))", 1),
    ("map_get('z', map_new(), 'none')", "none"),
    ("map_get('a', '{\"a\":2}')", 2),
)
def map_get(path: str, source: dict[str, Any], default: Any = UNDEFINED) -> Any:
    """Return the value at a dotted `path` of keys, or `default` where there is no such key.

    The map, and each map on the path, may be JSON text.
    """
    value: Any = source
    for key in _keys("map_get", path):
        value = opened(value)
        if value is UNDEFINED or key not in value:
            return default
        value = value[key]
    return value


@function(
    ("map_put('x.y', 1, map_new())", {"x": {"y": 1}}),
    ("map_put('a', 2, '{\"a\":1,\"b\":1}')", {"a": 2, "b": 1}),
)
def map_put(path: str, value: Any, source: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the map with the value at a dotted `path` of keys.

    Maps that are missing on the path are added; values on it that are not maps are replaced by maps.
    """
    return _put(source, _keys("map_put", path), value)


def _keys(name: str, path: Any) -> list[str]:
    """Return the keys of a dotted path.

    A number is refused, as in EMQX: most often it shows that the arguments are in the wrong order.
    """
    if type(path) is not str:
        refuse(name, 1, "a dotted path of keys as text", path)
    return path.split(".")


def _put(source: Any, keys: list[str], value: Any) -> dict[str, Any]:
    result = target = _copied(source)
    for key in keys[:-1]:
        target[key] = target = _copied(target.get(key))
    target[keys[-1]] = value
    return result


def _copied(value: Any) -> dict[str, Any]:
    found = opened(value)
    return {} if found is UNDEFINED else dict(found)


@function(
    ("mget('a.b', json_decode('{\"a.b\":1}'))", 1),
    ("mget(['a', 'b'], json_decode('{\"a\":{\"b\":1}}'))", 1),
    ("mget('z', map_new(), 0)", 0),
)
def mget(key: Any, source: dict[str, Any], default: Any = UNDEFINED) -> Any:
    """Return the value under a key, dots included, or `default` where there is no such key.

    A list of keys is a path through nested maps.
    """
    value: Any = mapping("mget", 2, source)
    for part in key if type(key) is list else (key,):
        value = opened(value)
        name = to_text(part) if type(part) in (bool, int, float) else part
        if value is UNDEFINED or type(name) is not str or name not in value:
            return default
        value = value[name]
    return value


@function(
    ("mput('x.y', 1, map_new())", {"x.y": 1}),
    ("mput(['x', 'y'], 1, map_new())", {"x": {"y": 1}}),
)
def mput(key: Any, value: Any, source: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the map with the value under a key, dots included.

    A list of keys is a path through nested maps, which are added where they are missing.
    """
    keys = [text("mput", 1, name) for name in (key if type(key) is list else (key,))]
    if not keys:
        raise EvaluationError("mput: argument 1: expected a key or a list of keys, found an empty list")
    return _put(mapping("mput", 3, source), keys, value)


@function(('map_keys(\'{"b":1,"a":2}\')', ["a", "b"]))
def map_keys(source: dict[str, Any]) -> list[str]:
    """Return the keys of a map, sorted."""
    return sorted(mapping("map_keys", 1, source))


@function(('map_values(\'{"b":1,"a":2}\')', [2, 1]))
def map_values(source: dict[str, Any]) -> list[Any]:
    """Return the values of a map in the order of its sorted keys."""
    return [value for _, value in _sorted(mapping("map_values", 1, source))]


@function(("map_to_entries('{\"b\":1}')", [{"key": "b", "value": 1}]))
def map_to_entries(source: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a list with a map `{"key": …, "value": …}` for each key, sorted by key: a list for FOREACH."""
    return [{"key": key, "value": value} for key, value in _sorted(mapping("map_to_entries", 1, source))]


@function(('map_size(\'{"b":1,"n":2}\')', 2))
def map_size(source: dict[str, Any]) -> int:
    """Return the number of keys of a map."""
    return len(mapping("map_size", 1, source))


@function(("map_to_redis_hset_args('{\"b\":1}')", ["map_to_redis_hset_args", "b", "1"]))
def map_to_redis_hset_args(source: dict[str, Any]) -> list[str]:
    """Return the map as arguments of the Redis command HSET: a marker, then keys and values as text.

    Lists, maps, null and undefined among the values are left out. A value that is not a map has no arguments.
    """
    args = ["map_to_redis_hset_args"]
    found = opened(source)
    for key, value in _sorted({} if found is UNDEFINED else found):
        written = _redis_text(value)
        if written is not None:
            args += (key, written)
    return args


def _redis_text(value: Any) -> Any:
    if type(value) is float:
        return float_text(float(fixed(value, 6)))
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value) if abs(value) < 10**100 else None
    return value if type(value) in (str, bytes) else None


def _sorted(source: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(source.items(), key=lambda entry: entry[0])
