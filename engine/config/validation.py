"""Validation of a tree of values by a model; errors of the model become problems with positions in the file."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from engine.config.loader import Location, Node
from engine.errors import Position, Problem
from engine.service.log import hide

M = TypeVar("M", bound=BaseModel)

_SHOWN_CHARS_MAX = 60

_SAYINGS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "path_type": "must be a path",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "does not fit the pattern {pattern}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "can't be",
    "enum": "can't be",
}


def validate(model: type[M], node: Node, path: str, *, prefix: str = "") -> tuple[M | None, list[Problem]]:
    """Return an instance of `model`, or None and the problems. Key paths in messages begin with `prefix`.

    Returns None without problems if the only invalid values have been reported before.
    """
    try:
        instance = model.model_validate(node.plain())
    except ValidationError as error:
        return None, list(_problems(error.errors(include_url=False), model, node, path, prefix))
    if any(scalar.is_broken for scalar in node.scalars()):
        return None, []
    hide(_secrets_in(instance))
    return instance, []


def validate_part(model: type[BaseModel], node: Node, path: str, *, prefix: str = "") -> list[Problem]:
    """Return the problems of the keys that are present; missing keys are not a problem."""
    try:
        model.model_validate(node.plain())
    except ValidationError as error:
        present = [details for details in error.errors(include_url=False) if details["type"] != "missing"]
        return list(_problems(present, model, node, path, prefix))
    return []


def unknown_name(name: str, known: Sequence[str], word: str = "allowed") -> str:
    """Return the remedy for a name that is not among `known`: the nearest of them, or else all."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"{word}: {', '.join(known)}" if known else "remove it"


def _problems(
    errors: Sequence[ErrorDetails], model: type[BaseModel], node: Node, path: str, prefix: str
) -> Iterator[Problem]:
    seen: set[tuple[Position, str]] = set()
    for details in errors:
        location, place = _place(details, node)
        if place is None:
            continue
        name = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        message, remedy = _describe(details, name.lstrip("."), location, model, node)
        if (place, message) not in seen:
            seen.add((place, message))
            yield Problem(message, path, place, remedy)


def _place(details: ErrorDetails, root: Node) -> tuple[Location, Position | None]:
    """Return the key path in the file and the position to point at; no position if it has been reported already.

    Parts of pydantic's location that are not keys of the file (the branch of a union, say) are left out.
    """
    node, position, location = root, root.position, []
    parts = details["loc"]
    for index, part in enumerate(parts):
        child = node.child(part)
        if child is None:
            if details["type"] == "missing" and index == len(parts) - 1:
                location.append(part)
            continue
        location.append(part)
        key = node.keys.get(part) if isinstance(part, str) else None
        node = child
        is_scalar = child.entries is None and child.items is None
        position = child.position if key is None or (is_scalar and details["type"] != "extra_forbidden") else key
    return tuple(location), None if any(scalar.is_broken for scalar in node.scalars()) else position


def _describe(
    details: ErrorDetails, name: str, location: Location, model: type[BaseModel], root: Node
) -> tuple[str, str | None]:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        owner = model_at(model, location[:-1])
        known = list(owner.model_fields) if owner is not None else []
        return f"unknown key {name!r}", unknown_name(str(location[-1]), known)
    if kind == "missing":
        return f"{name!r} is missing", _purpose(model, location)
    shown = _shown(details["input"], root, location)
    if kind in ("literal_error", "enum"):
        allowed = [part.strip(" '") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        near = get_close_matches(str(details["input"]), allowed, n=1, cutoff=0.7) if shown else []
        return f"{name!r} can't be {shown}", f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"
    if kind == "value_error":
        said, _, advice = str(context["error"]).partition("; ")
        if _is_secret(root, location):
            said = "the secret doesn't fit"
        return f"{name!r}: {said}", advice or None
    saying = _SAYINGS.get(kind)
    if saying is None:
        return f"{name!r}: {details['msg'][:1].lower()}{details['msg'][1:]}", _purpose(model, location)
    remedy = "put it in quotes" if kind == "string_type" and not isinstance(details["input"], (dict, list)) else None
    return f"{name!r} {saying.format(**context)}, not {shown}", remedy or _purpose(model, location)


def _shown(value: Any, root: Node, location: Location) -> str:
    if _is_secret(root, location):
        return "this secret"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"


def _is_secret(root: Node, location: Location) -> bool:
    node: Node | None = root
    for part in location:
        node = node.child(part) if node is not None else None
    return node is not None and any(scalar.is_secret for scalar in node.scalars())


def _purpose(model: type[BaseModel], location: Location) -> str | None:
    """Return the first sentence of a field's description, as a remedy."""
    owner = model_at(model, location[:-1])
    field = owner.model_fields.get(str(location[-1])) if owner is not None and location else None
    if field is None or not field.description:
        return None
    return f"{location[-1]}: {' '.join(field.description.split())}"


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the model of the mapping at `location`, if there is exactly one."""
    found: type[BaseModel] | None = model
    for part in location:
        if found is None:
            return None
        if isinstance(part, int):
            continue
        field = found.model_fields.get(part)
        models = list(_models_in(field.annotation)) if field is not None else []
        found = models[0] if len(models) == 1 else None
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated, list, tuple, dict) or origin is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets_in(item)
