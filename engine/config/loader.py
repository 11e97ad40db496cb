"""Parser of YAML text to a tree with the line and column of every key and value.

The tree is built from parser events, so that nesting and the expansion of aliases are bounded before anything is
built, and scalars follow YAML 1.2's core schema: ``no`` and ``on`` are text, ``1:30`` is not a number.
Duplicate keys, keys that are not text, and tags are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from engine.errors import ConfigError, Position, Problem

TEXT_CHARS_MAX = 1 << 20
"""The longest file, in characters. A configuration of more than a megabyte is a mistake."""
NODES_MAX = 50_000
"""The largest number of values of a file. An alias counts as all values of its anchor."""
DEPTH_MAX = 40
"""The deepest nesting, well below the depth at which Python's own recursion ends."""

DIGITS_MAX = 100
"""The longest number, in digits; longer ones stay text, since conversion takes quadratic time."""

Key = str | int
Location = tuple[Key, ...]

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip

_REMEDIES = (
    ("cannot start any token", "put the value in quotes"),
    ("mapping values are not allowed", "check the indentation, or put a value that holds ': ' in quotes"),
    ("did not find expected key", "check the indentation: it must be that of a line above"),
    ("expected <block end>", "check the indentation: it must be that of a line above"),
    ("could not find expected ':'", "a key ends with ': ', colon and space"),
    ("found undefined alias", "name it first with &name"),
    ("while scanning a quoted scalar", "close the quotes"),
    ("expected ',' or ']'", "close the bracket, or put a comma between the values"),
    ("expected ',' or '}'", "close the brace, or put a comma between the values"),
)


@dataclass(slots=True)
class Node:
    """One value of a file. A scalar has a ``value``, a list ``items``, a mapping ``entries``."""

    position: Position
    value: Any = None
    items: list[Node] | None = None
    entries: dict[str, Node] | None = None
    keys: dict[str, Position] = field(default_factory=dict)
    """The position of each key of a mapping."""
    size: int = 1
    is_secret: bool = False
    """Whether the value is a secret, which no message may quote."""
    is_broken: bool = False
    """Whether a problem with it has been reported; further ones would follow from that."""

    @property
    def is_empty(self) -> bool:
        """Whether the key has no value."""
        return self.value is None and self.entries is None and self.items is None

    def plain(self) -> Any:
        """Return the value without positions."""
        if self.entries is not None:
            return {key: node.plain() for key, node in self.entries.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value

    def child(self, key: Key) -> Node | None:
        """Return the value of a key or an index."""
        if self.entries is not None and isinstance(key, str):
            return self.entries.get(key)
        if self.items is not None and isinstance(key, int) and 0 <= key < len(self.items):
            return self.items[key]
        return None

    def scalars(self) -> Iterator[Node]:
        """Yield every scalar of the tree."""
        if self.entries is None and self.items is None:
            yield self
        for node in [*(self.entries or {}).values(), *(self.items or ())]:
            yield from node.scalars()


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read: its tree (None when it is empty or unreadable) and the mistakes that were found."""

    path: str
    root: Node | None
    problems: tuple[Problem, ...] = ()


def load_document(text: str, path: str) -> Document:
    """Read one YAML document. Never raises: mistakes are in the ``problems`` of the result."""
    builder = _Builder(path)
    try:
        if len(text) > TEXT_CHARS_MAX:
            raise ConfigError(f"the file has more than {TEXT_CHARS_MAX} characters")
        root = builder.build(text)
    except ConfigError as error:
        problem = Problem(error.message, path, error.position or Position(1, 1), error.remedy)
        return Document(path, None, (*builder.problems, problem))
    except yaml.YAMLError as error:
        return Document(path, None, (*builder.problems, _syntax_problem(error, text, path)))
    return Document(path, root, tuple(builder.problems))


class _Builder:
    """Builds nodes from parser events."""

    def __init__(self, path: str) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self._anchors: dict[str, Node] = {}
        self._node_count = 0
        self._lines: list[str] = []

    def build(self, text: str) -> Node | None:
        self._lines = text.splitlines() or [""]
        loader = _Parser(text)
        try:
            events = iter(loader.get_event, None)
            root = None
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if root is not None:
                        raise ConfigError("a second document begins here", position=self._position(event))
                    root = self._node(next(events), events, 0)
            return None if root is None or root.is_empty else root
        finally:
            loader.dispose()

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        position = self._position(event)
        if depth > DEPTH_MAX:
            raise ConfigError(f"nested more than {DEPTH_MAX} levels deep", position=position)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, position)
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            raise ConfigError(f"tags like {event.tag!r} are not supported", position=position, remedy="remove the tag")
        if isinstance(event, yaml.ScalarEvent):
            node = Node(position, _scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(position, events, depth)
        else:
            node = self._mapping(position, events, depth)
        self._count(1, position)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, position: Position) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            remedy = f"name it first with &{event.anchor}, or put the value in quotes"
            raise ConfigError(f"nothing is named &{event.anchor} above", position=position, remedy=remedy)
        self._count(node.size, position)
        return node

    def _list(self, position: Position, events: Iterator[Any], depth: int) -> Node:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
        return Node(position, items=items, size=1 + sum(item.size for item in items))

    def _mapping(self, position: Position, events: Iterator[Any], depth: int) -> Node:
        node = Node(position, entries={})
        assert node.entries is not None
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            self._enter(node, node.entries, key, value)
            node.size += value.size
        return node

    def _enter(self, node: Node, entries: dict[str, Node], key: Node, value: Node) -> None:
        name = key.value
        if isinstance(name, (int, float)) and not isinstance(name, bool):
            name = str(name)
        if name == "<<":
            remedy = "write the options out; sinks share them by connections: and connection:"
            raise ConfigError("merge keys (<<) are not supported", position=key.position, remedy=remedy)
        if not isinstance(name, str):
            raise ConfigError("a key must be text", position=key.position, remedy="put the key in quotes")
        if name in entries:
            first = node.keys[name].line
            message = f"duplicate key {name!r}; first used in line {first}"
            self.problems.append(Problem(message, self._path, key.position, "rename or remove one of the two"))
            return
        entries[name] = value
        node.keys[name] = key.position

    def _count(self, size: int, position: Position) -> None:
        self._node_count += size
        if self._node_count > NODES_MAX:
            raise ConfigError(f"the file holds more than {NODES_MAX} values", position=position)

    def _position(self, event: Any) -> Position:
        start, end = event.start_mark, event.end_mark
        line = self._lines[start.line] if start.line < len(self._lines) else ""
        stop = end.column if end.line == start.line else len(line)
        return Position(start.line + 1, start.column + 1, max(1, stop - start.column))


def _scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return text if len(text) > DIGITS_MAX else int(text, 0 if text[:2] in ("0x", "0o") else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _syntax_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        remedy = next((remedy for words, remedy in _REMEDIES if words in said), None)
        position = Position(1, 1) if mark is None else _inside(text, mark.line + 1, mark.column + 1)
        if _is_placeholder(text, position):
            return Problem("a placeholder can't stand here without quotes", path, position, "put the value in quotes")
        if _char_at(text, position) == "\t":
            return Problem("a tab can't indent YAML", path, position, "use spaces")
        return Problem(f"this is not YAML: {error.problem or error.context}", path, position, remedy)
    offset = getattr(error, "position", 0)
    before = text[:offset]
    position = Position(before.count("\n") + 1, offset - before.rfind("\n"))
    return Problem("a control character can't stand in YAML", path, position, "remove it, or write it as an escape")


def _inside(text: str, line: int, column: int) -> Position:
    """Return the position, or the end of the last line with text if the parser points past it."""
    lines = text.splitlines()
    while line > len(lines) or (line > 1 and not lines[line - 1].strip()):
        line -= 1
        if line < 1:
            return Position(1, 1)
        column = len(lines[line - 1]) + 1 if line <= len(lines) else 1
    return Position(line, column)


def _is_placeholder(text: str, position: Position) -> bool:
    """Whether the parser stopped in the ``${`` of a placeholder, whose brace YAML takes for a mapping."""
    line = text.splitlines()[position.line - 1] if text.strip() else ""
    return "${" in line[max(position.column - 3, 0) : position.column + 1]


def _char_at(text: str, position: Position) -> str:
    return text.splitlines()[position.line - 1][position.column - 1 : position.column] if text.strip() else ""
