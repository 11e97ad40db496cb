"""``connectors.yaml``: named sinks, and the connections they share.

A sink is validated by the model of its kind. The options of its connection are merged into its own. A mistake is
reported at its place in the file: one of a connection once, not for every sink that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from engine.config.loader import Document, Node
from engine.config.validation import unknown_name, validate, validate_part
from engine.errors import ConfigError, Position, Problem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_NAME_REMEDY = "letters, digits, _ and -, beginning with a letter, at most 64"
_NAMED = re.compile(r"`([a-z_]+)")
_QUOTED = re.compile(r"'([^']{2,})'")
_SECTIONS = ("connections", "sinks", "sources")


class ConnectorKind(Protocol):
    """A connector kind as far as validation needs it: the model of its options."""

    @property
    def Config(self) -> type[BaseModel]: ...


K = TypeVar("K", bound=ConnectorKind)


@dataclass(frozen=True, slots=True)
class SinkEntry(Generic[K]):
    """A sink of the file: its id, the class of its kind, its validated options, and its position.

    ``left_out`` names invalid options, which have been reported. If there are any, ``config`` holds the other options
    and serves only to find more mistakes.
    """

    sink_id: str
    kind_class: K
    config: Any
    path: str
    options: Node = field(repr=False, compare=False)
    left_out: frozenset[str] = frozenset()

    def problems(self, error: ConfigError) -> Iterator[Problem]:
        """Return the error of the sink's class as a problem with a position, unless it is about an option left out."""
        if not any(f"`{name}`" in error.message for name in self.left_out):
            yield Problem(
                f"sink {self.sink_id!r}: {error.message}", self.path, self._place(error.message), error.remedy
            )

    def _place(self, message: str) -> Position:
        """Return the position of the option in backticks in `message`, else of a value it quotes, else of the sink."""
        for name in _NAMED.findall(message):
            if name in self.options.keys:
                return self.options.keys[name]
        quoted = _QUOTED.findall(message)
        for node in self.options.scalars():
            if not node.is_secret and any(part in str(node.value) for part in quoted):
                return node.position
        return self.options.position


@dataclass(slots=True)
class Connectors(Generic[K]):
    """The validated file.

    ``sink_names`` includes sinks with invalid options, and is None when the file does not say which sinks there are.
    ``drafts`` are sinks with invalid options, made of their valid ones.
    """

    sinks: dict[str, SinkEntry[K]] = field(default_factory=dict)
    drafts: list[SinkEntry[K]] = field(default_factory=list)
    sink_names: dict[str, Position] | None = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_connectors(document: Document, load_kind: Callable[[str], K]) -> Connectors[K]:
    """Validate the whole file; `load_kind` returns the class of a kind or raises `ConfigError`."""
    connectors = _Validation(document.path, load_kind).read(document.root)
    if document.root is None and document.problems:
        connectors.sink_names = None
    return connectors


class _Validation(Generic[K]):
    """The state of one validation of the file."""

    def __init__(self, path: str, load_kind: Callable[[str], K]) -> None:
        self._path = path
        self._load_kind = load_kind
        self._result: Connectors[K] = Connectors()
        self._reported: set[Position | None] = set()
        """Positions of mistakes in connections, which sinks that use them repeat."""

    def read(self, root: Node | None) -> Connectors[K]:
        if root is None:
            return self._result
        if root.entries is None:
            self._result.sink_names = None
            self._report("connectors.yaml must be a mapping", root.position, f"sections: {', '.join(_SECTIONS)}")
            return self._result
        for name in root.entries:
            if name not in _SECTIONS:
                if "sinks" not in root.entries:
                    self._result.sink_names = None
                self._report(f"unknown key {name!r}", root.keys[name], unknown_name(name, _SECTIONS))
        connections = dict(self._named(root, "connections"))
        for name, node in connections.items():
            self._check_connection(name, node)
        for name, node in self._named(root, "sinks"):
            self._read_sink(name, root.child("sinks"), node, connections)
        sources = root.child("sources")
        for name, _ in self._named(root, "sources"):
            position = sources.keys[name] if sources is not None else root.position
            self._report(
                f"source {name!r}: sources are not available in this version", position, "remove it until then"
            )
        return self._result

    def _report(self, message: str, position: Position, remedy: str | None = None) -> None:
        self._result.problems.append(Problem(message, self._path, position, remedy))

    def _named(self, root: Node, section: str) -> Iterator[tuple[str, Node]]:
        """Yield the entries of a section that are mappings with a valid name; report the others."""
        node = root.child(section)
        if node is None or node.is_empty:
            return
        if node.entries is None:
            if section == "sinks":
                self._result.sink_names = None
            self._report(f"{section!r} must be a mapping of names to options", root.keys[section])
            return
        for name, options in node.entries.items():
            position = node.keys[name]
            if section == "sinks" and self._result.sink_names is not None:
                self._result.sink_names[name] = position
            if not _NAME.fullmatch(name):
                self._report(f"{name!r} can't be a name", position, _NAME_REMEDY)
            elif options.entries is None:
                self._report(f"{section}.{name} must be a mapping of options", position, f"{name}: {{type: sqlite, …}}")
            else:
                yield name, options

    def _check_connection(self, name: str, node: Node) -> None:
        """Validate the options that a connection has. Missing ones are not a mistake: the sinks supply them."""
        prefix = f"connections.{name}"
        kind = self._kind(node, prefix)
        if kind is not None:
            problems = validate_part(kind.Config, node, self._path, prefix=prefix)
            self._result.problems += problems
            self._reported |= {problem.position for problem in problems}

    def _read_sink(self, name: str, section: Node | None, node: Node, connections: dict[str, Node]) -> None:
        assert section is not None
        prefix = f"sinks.{name}"
        merged = self._merged(node, prefix, connections)
        kind = None if merged is None else self._kind(merged, prefix, section.keys[name])
        if merged is None or kind is None:
            return
        options = Node(section.keys[name], entries=merged.entries, keys=merged.keys)
        config, problems = validate(kind.Config, options, self._path, prefix=prefix)
        self._result.problems += [problem for problem in problems if problem.position not in self._reported]
        if config is not None:
            self._result.sinks[name] = SinkEntry(name, kind, config, self._path, options)
            return
        left_out = frozenset(_wrong_options(options, {problem.position for problem in problems}))
        rest = {key: value for key, value in (options.entries or {}).items() if key not in left_out}
        draft, _ = validate(kind.Config, Node(options.position, entries=rest, keys=options.keys), self._path)
        if draft is not None:
            self._result.drafts.append(SinkEntry(name, kind, draft, self._path, options, left_out))

    def _merged(self, node: Node, prefix: str, connections: dict[str, Node]) -> Node | None:
        """Return the sink's options merged over those of its connection; report a wrong connection and return None."""
        entries = dict(node.entries or {})
        reference = entries.pop("connection", None)
        if reference is None:
            return node
        connection = connections.get(reference.value) if isinstance(reference.value, str) else None
        if connection is None:
            remedy = unknown_name(str(reference.value), list(connections), "connections")
            self._report(
                f"'{prefix}.connection': there is no connection {reference.value!r}", reference.position, remedy
            )
            return None
        own, shared = entries.get("type"), (connection.entries or {}).get("type")
        if own is not None and shared is not None and own.value != shared.value:
            message = f"'{prefix}.type' is {own.value!r}, but its connection is for {shared.value!r}"
            self._report(message, own.position, "remove the type, or use another connection")
            return None
        keys = {**connection.keys, **{key: at for key, at in node.keys.items() if key != "connection"}}
        return Node(node.position, entries={**(connection.entries or {}), **entries}, keys=keys)

    def _kind(self, node: Node, prefix: str, position: Position | None = None) -> K | None:
        type_node = node.child("type")
        if type_node is None:
            self._report(
                f"'{prefix}.type' is missing", position or node.position, "type: the kind of sink, like sqlite"
            )
            return None
        name = type_node.value
        if not isinstance(name, str):
            self._report(f"'{prefix}.type' must be text", type_node.position)
            return None
        try:
            return self._load_kind(name)
        except ConfigError as error:
            self._report(f"'{prefix}.type': {error.message}", type_node.position, error.remedy)
            return None


def _wrong_options(options: Node, places: Collection[Position | None]) -> Iterator[str]:
    """Yield the options that hold one of the positions `places`, or a value that has been reported."""
    for name, node in (options.entries or {}).items():
        if options.keys[name] in places or any(part.is_broken or part.position in places for part in _parts(node)):
            yield name


def _parts(node: Node) -> Iterator[Node]:
    """Yield `node`, its keys as nodes, and all its descendants."""
    yield node
    yield from map(Node, node.keys.values())
    for child in (*(node.entries or {}).values(), *(node.items or ())):
        yield from _parts(child)
