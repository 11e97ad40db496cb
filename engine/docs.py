"""Generator of the reference tables and JSON Schemas.

    python -m engine.docs            write them
    python -m engine.docs --check    exit with 1 if a file is out of date

A table is between ``<!-- begin: name -->`` and ``<!-- end: name -->`` in a README; the text around it is written by
hand. The schemas are whole files under ``docs/``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from broker.origin import Address
from connectors import KINDS, load_kind
from engine.admin.api import create_api
from engine.admin.metrics import RULE_COUNTERS, SINK_COUNTERS, SINK_GAUGES
from engine.admin.port import AdminPort, ProcessView
from engine.app.schema import connectors_schema, settings_schema
from engine.config.settings import Settings
from engine.config.units import Duration, Size, WholeSeconds
from engine.connector import ConnectorConfig, Sink
from engine.language.events import EVENTS
from engine.language.functions import FUNCTIONS, Function

ROOT = Path(__file__).resolve().parent.parent

_OPTION_HEAD = ("option", "type", "default", "what it does")
_MARKED = re.compile(r"(<!-- begin: ([a-z-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def main() -> None:
    """Write every file, or name those that are out of date."""
    check = "--check" in sys.argv[1:]
    stale = [path for path, text in generate() if not path.exists() or path.read_text("utf-8") != text]
    if check:
        for path in stale:
            sys.stderr.write(f"out of date: {path.relative_to(ROOT)}; run python -m engine.docs\n")
        sys.exit(1 if stale else 0)
    for path, text in generate():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


def generate() -> Iterator[tuple[Path, str]]:
    """Yield every generated file with its text."""
    for name in ("README.md", "engine/README.md", "connectors/README.md"):
        path = ROOT / name
        yield path, fill(path.read_text("utf-8"))
    yield ROOT / "docs" / "headgate.schema.json", json.dumps(settings_schema(), indent=2) + "\n"
    yield ROOT / "docs" / "connectors.schema.json", json.dumps(connectors_schema(), indent=2) + "\n"


def fill(text: str) -> str:
    """Return `text` with every table between markers generated. Raises `KeyError` for an unknown marker."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]]().strip()}\n\n{match[3]}"

    return _MARKED.sub(replace, text)


def _settings_table() -> str:
    return _options_table(Settings)


def _kinds_table() -> str:
    rows = [
        (f"[`{kind}`](/connectors/README.md#{kind})", _first_sentence(_module_doc(load_kind(kind)))) for kind in KINDS
    ]
    return _table(("kind", "what it does"), rows)


def _common_table() -> str:
    return _options_table(ConnectorConfig)


def _kind_sections() -> str:
    return "\n\n".join(_kind_section(kind, load_kind(kind)) for kind in KINDS)


def _kind_section(kind: str, sink: type[Sink]) -> str:
    # Options of all sinks are left out, unless this kind has another default for one.
    common = set(_option_rows(ConnectorConfig))
    own = [row for row in _option_rows(sink.Config) if row not in common and row[0] != "`type`"]
    parts = [f"### {kind}", _paragraphs(_module_doc(sink)), _table(_OPTION_HEAD, own) if own else ""]
    parts += [f"```yaml\n{example.strip()}\n```" for example in sink.EXAMPLES]
    return "\n\n".join(part for part in parts if part)


def _functions_table() -> str:
    ordered = sorted(FUNCTIONS.values(), key=lambda function: (function.category, function.name))
    sections = []
    for category, functions in groupby(ordered, key=lambda function: function.category):
        rows = [
            (
                f"`{_signature(function)}`",
                _one_line(function.doc),
                "<br>".join(f"`{_cell(e.expression)}` → `{_cell(e.result)}`" for e in function.examples[:2]),
            )
            for function in functions
        ]
        sections.append(f"**{category}**\n\n" + _table(("function", "what it is", "examples"), rows))
    return "\n\n".join(sections)


def _signature(function: Function) -> str:
    """Return the name with the parameters, optional ones in brackets."""
    names = [*function.parameters[: function.min_args]]
    if function.max_args is None:
        names.append("…")
    else:
        names += [f"[{name}]" for name in function.parameters[function.min_args :]]
    return f"{function.name}({', '.join(names)})"


def _events_table() -> str:
    sections = []
    for event in EVENTS.values():
        rows = [(f"`{name}`", text) for name, text in event.columns.items()]
        sections.append(f"**`{event.topic}`** {event.doc}\n\n" + _table(("column", "what it is"), rows))
    return "\n\n".join(sections)


def _metrics_table() -> str:
    rows = [(f"`headgate_rule_{name}_total`", text) for name, text in RULE_COUNTERS.items()]
    rows += [(f"`headgate_sink_{name}_total`", text) for name, text in SINK_COUNTERS.items()]
    rows += [(f"`{name}`", text) for name, text in SINK_GAUGES.values()]
    rows.append(("`headgate_sink_status`", "1 for the current status of a sink, else 0."))
    return _table(("metric", "what it counts"), rows)


def _routes_table() -> str:
    rows = [
        (f"`{method} {route.path}`", route.summary or "")
        for route in _api().routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    return _table(("route", "what it does"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": _settings_table,
    "kinds": _kinds_table,
    "common-options": _common_table,
    "kind-sections": _kind_sections,
    "functions": _functions_table,
    "events": _events_table,
    "metrics": _metrics_table,
    "routes": _routes_table,
}


class _NoApplication:
    """The part of an application that listing the routes needs."""

    def process(self) -> ProcessView:
        return ProcessView("0", 0, "", "", 0, 0.0, (), 0, 0)


def _api() -> FastAPI:
    return create_api(cast(AdminPort, _NoApplication()))


def _options_table(model: type[BaseModel]) -> str:
    return _table(_OPTION_HEAD, list(_option_rows(model)))


def _option_rows(
    model: type[BaseModel], prefix: str = "", values: BaseModel | None = None
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each option; `values` has defaults that differ from those of the model."""
    for name, field in model.model_fields.items():
        value = field.default if values is None else getattr(values, name)
        nested = _only_model(field.annotation)
        if nested is not None and isinstance(value, BaseModel):
            yield from _option_rows(nested, f"{prefix}{name}.", value)
            continue
        required = values is None and field.is_required()
        default = "required" if required else _default(value, field.annotation, field.metadata)
        description = _cell(" ".join((field.description or "").split()))
        yield f"`{prefix}{name}`", _kind_of(field.annotation, field.metadata), default, description
        many = "[]" if get_origin(field.annotation) in (list, tuple) else ""
        elements = [nested] if nested is not None else _element_models(field.annotation)
        # Models of a union are told apart by their type; rows that they have in common are written once.
        yield from dict.fromkeys(row for element in elements for row in _option_rows(element, f"{prefix}{name}{many}."))


def _only_model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _element_models(annotation: Any) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for argument in get_args(annotation):
        model = _only_model(argument)
        found += _element_models(argument) if model is None else [model]
    return found


def _kind_of(annotation: Any, metadata: list[Any]) -> str:
    for name, alias in (("size", Size), ("duration", Duration), ("duration", WholeSeconds)):
        if any(part in metadata for part in get_args(alias)[1:]):
            return name
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind_of(get_args(annotation)[0], list(annotation.__metadata__))
    if origin is Literal:
        return " ".join(f"`{value}`" for value in get_args(annotation))
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return " or ".join(_kind_of(part, []) for part in get_args(annotation) if part is not type(None))
    if origin in (list, tuple):
        return "list"
    if origin is dict or str(origin).startswith("<class 'collections.abc.Mapping"):
        return "map"
    names = {
        "str": "text",
        "int": "integer",
        "bool": "yes/no",
        "float": "number",
        "Path": "path",
        "SecretStr": "secret",
    }
    return names.get(getattr(annotation, "__name__", str(annotation)), getattr(annotation, "__name__", "value").lower())


def _default(value: Any, annotation: Any, metadata: list[Any]) -> str:
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, Address):
        return f"`{value}`"
    kind = _kind_of(annotation, metadata)
    if kind == "size":
        return f"`{_size(value)}`"
    if kind == "duration":
        return f"`{_duration(value)}`"
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return "one, with the defaults below"
    plain = to_jsonable_python(value)
    return f"`{json.dumps(plain)}`" if not isinstance(plain, str) else f"`{plain}`" if plain else "–"


def _size(value: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def _duration(value: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if value and value % size == 0:
            return f"{value / size:g}{unit}"
    if value == int(value):
        return f"{int(value)}s"
    return f"{value * 1000:g}ms" if value < 1 else f"{value:g}s"


def _module_doc(sink: type[Sink]) -> str:
    return (sys.modules[sink.__module__].__doc__ or "").strip()


def _paragraphs(doc: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", doc)


def _first_sentence(doc: str) -> str:
    return re.split(r"(?<=[.!?])\s", _one_line(doc), maxsplit=1)[0]


def _one_line(doc: str) -> str:
    return _cell(" ".join(re.sub(r"``([^`]+)``", r"`\1`", doc).split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
