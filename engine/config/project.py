"""A project folder: its two YAML files, read, validated and checked for safety.

Rules are not read here: `engine.language.ruleset` loads them, and `engine.app` brings both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from broker.listeners import TYPES
from broker.origin import Address
from engine.config.address import parse_address
from engine.config.connectors import Connectors, K, SinkEntry, read_connectors
from engine.config.loader import Document, Node, load_document
from engine.config.secret import resolve_secrets
from engine.config.settings import LISTENER_TYPES_TO_COME, PARTS_TO_COME, Settings
from engine.config.validation import unknown_name, validate
from engine.errors import Position, Problem

SETTINGS_FILE = "headgate.yaml"
CONNECTORS_FILE = "connectors.yaml"


@dataclass(frozen=True, slots=True)
class LoadedProject(Generic[K]):
    """A loaded project. With errors among ``problems`` it holds the valid parts, and defaults for the others."""

    directory: Path
    settings: Settings
    sinks: dict[str, SinkEntry[K]]
    sink_names: dict[str, Position] | None
    """The position of every sink, also with invalid options; None if the file that names them is unreadable."""
    drafts: list[SinkEntry[K]] = field(default_factory=list)
    """Sinks with invalid options, made of their valid ones, to find more mistakes in."""
    problems: list[Problem] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The text of each file by its path in the project, to show the position of a problem."""

    @property
    def data_dir(self) -> Path:
        """The folder of the process's durable state."""
        return self.directory / self.settings.data_dir

    @property
    def rules_dir(self) -> Path:
        """The folder of the rules."""
        return self.directory / self.settings.rules.dir

    @property
    def has_errors(self) -> bool:
        """Whether any problem keeps the project from starting."""
        return any(problem.severity == "error" for problem in self.problems)


def load_project(directory: Path, load_kind: Callable[[str], K], environ: Mapping[str, str]) -> LoadedProject[K]:
    """Read the project in `directory`. Never raises for a mistake in its files: all are in ``problems``."""
    directory = directory.absolute()
    texts: dict[str, str] = {}
    problems: list[Problem] = list(_check_folder(directory))
    documents: dict[str, Document] = {}
    for name in (SETTINGS_FILE, CONNECTORS_FILE):
        document = _read(directory, name, texts)
        problems += document.problems
        problems += resolve_secrets(document, directory, environ)
        problems += _tildes(document)
        documents[name] = document
    settings, found = _read_settings(documents[SETTINGS_FILE])
    problems += found
    problems += _missing_rules_dir(documents[SETTINGS_FILE], directory / settings.rules.dir)
    connectors: Connectors[K] = read_connectors(documents[CONNECTORS_FILE], load_kind)
    problems += connectors.problems
    return LoadedProject(
        directory, settings, connectors.sinks, connectors.sink_names, connectors.drafts, in_order(problems), texts
    )


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by file (the folder, its two files, its rules) and by position."""
    first = (None, SETTINGS_FILE, CONNECTORS_FILE)

    def place(problem: Problem) -> tuple[int, str, int, int]:
        rank = first.index(problem.path) if problem.path in first else len(first)
        position = problem.position or Position(0, 0)
        return rank, problem.path or "", position.line, position.column

    return sorted(problems, key=place)


def _check_folder(directory: Path) -> Iterator[Problem]:
    if directory.is_file():
        yield Problem(f"{directory} is a file", remedy=f"a project is a folder: {directory.parent}, perhaps")
        return
    if not directory.is_dir():
        yield Problem(f"there is no folder {directory}", remedy=f"headgate init {directory} makes a project there")
        return
    if not any((directory / name).exists() for name in (SETTINGS_FILE, CONNECTORS_FILE, "rules")):
        message = (
            f"{directory} is not a project: it has neither {SETTINGS_FILE} nor {CONNECTORS_FILE} nor a folder rules"
        )
        yield Problem(message, remedy=f"headgate init {directory} makes one")
    for name in (SETTINGS_FILE, CONNECTORS_FILE):
        other = directory / name.replace(".yaml", ".yml")
        if other.exists():
            yield Problem(f"{other.name} is not read", other.name, None, f"call it {name}", "warning")


def _tildes(document: Document) -> Iterator[Problem]:
    """Yield warnings for paths that begin with ~: a shell would expand it to a home, here it is a folder's name."""
    for node in document.root.scalars() if document.root is not None else ():
        if isinstance(node.value, str) and node.value.startswith("~/"):
            remedy = "write the whole path, or one that begins at the folder of this file"
            yield Problem("~ does not stand for a home here", document.path, node.position, remedy, "warning")


def _missing_rules_dir(document: Document, rules_dir: Path) -> Iterator[Problem]:
    """Yield a warning for a rules folder that is named and missing: it may be misspelt, or created later."""
    rules = None if document.root is None else document.root.child("rules")
    written = None if rules is None else rules.child("dir")
    if written is not None and isinstance(written.value, str) and not rules_dir.exists():
        message, remedy = f"there is no folder {written.value}, so there are no rules", "make it, or correct the path"
        yield Problem(message, document.path, written.position, remedy, "warning")


def _read(directory: Path, name: str, texts: dict[str, str]) -> Document:
    """Read a file of the project; a missing file is an empty document."""
    try:
        data = (directory / name).read_bytes()
        text = data.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return Document(name, None)
    except OSError as error:
        return Document(name, None, (Problem(f"the file can't be read: {error.strerror or error}", name),))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem("the file is not UTF-8", name, Position(line, 1), "save it as UTF-8 in your editor")
        return Document(name, None, (problem,))
    texts[name] = text
    return load_document(text, name)


def _read_settings(document: Document) -> tuple[Settings, list[Problem]]:
    root = document.root
    if root is None:
        return Settings(), []
    if root.entries is None:
        return Settings(), [
            Problem(f"{SETTINGS_FILE} must be a mapping of keys to values", document.path, root.position)
        ]
    for name in [name for name, node in root.entries.items() if node.is_empty]:
        # A section whose lines are all commented out has no value: the defaults apply.
        if name in Settings.model_fields:
            del root.entries[name]
    problems = [
        *_take_to_come(root, document.path),
        *_check_listener_types(root, document.path),
        *_check_binds(root, document.path),
    ]
    settings, found = validate(Settings, root, document.path)
    return settings or Settings(), problems + found


def _take_to_come(root: Node, path: str) -> Iterator[Problem]:
    """Remove from the tree, and report, the parts that only a later version supports."""
    assert root.entries is not None
    for name in PARTS_TO_COME:
        if root.entries.pop(name, None) is not None:
            remedy = "remove it; until then keep the listeners on loopback, or write allow_anonymous: true"
            yield Problem(f"{name!r} is not available in this version", path, root.keys[name], remedy)


def _check_listener_types(root: Node, path: str) -> Iterator[Problem]:
    """Report listeners of an unknown type; their options cannot be checked then."""
    for node in _items(root, "listeners"):
        listener_type = node.child("type")
        if listener_type is None or not isinstance(listener_type.value, str) or listener_type.value in TYPES:
            continue
        if listener_type.value in LISTENER_TYPES_TO_COME:
            message = f"listeners of type {listener_type.value!r} are not available in this version"
            remedy = f"use type: {' or '.join(TYPES)}"
        else:
            message = f"there is no listener of type {listener_type.value!r}"
            remedy = unknown_name(listener_type.value, (*TYPES, *LISTENER_TYPES_TO_COME), "types")
        yield Problem(message, path, listener_type.position, remedy)
        for scalar in node.scalars():
            scalar.is_broken = True


def _check_binds(root: Node, path: str) -> Iterator[Problem]:
    """Report addresses that would be open to anybody without being allowed to, and addresses used twice.

    Reads the tree, not the model, so that these problems are reported together with all other mistakes.
    """
    anonymous = root.child("allow_anonymous")
    seen: set[Address] = set()
    for listener in _items(root, "listeners"):
        bind = listener.child("bind")
        address = _address(bind)
        if bind is None or address is None:
            continue
        if address in seen and address.port != 0:
            yield Problem(f"another listener is on {address} already", path, bind.position, "take another port")
        seen.add(address)
        if not address.is_loopback and (anonymous is None or anonymous.value is not True):
            message = f"the listener on {address} would let anybody in: there is no authentication"
            yield Problem(message, path, bind.position, "bind it to 127.0.0.1, or write allow_anonymous: true")
    api = root.child("api")
    bind = api.child("bind") if api is not None else None
    address = _address(bind)
    if api is not None and bind is not None and address is not None and not address.is_loopback:
        token = api.child("token")
        if token is None or token.value in (None, ""):
            remedy = 'bind it to 127.0.0.1, or give it a token: "${env:HEADGATE_TOKEN}"'
            yield Problem(f"the API on {address} would answer anybody", path, bind.position, remedy)


def _items(root: Node, name: str) -> list[Node]:
    node = root.child(name)
    return [] if node is None else node.items or []


def _address(node: Node | None) -> Address | None:
    """Return the address in a node; None if it is not one, which validation reports."""
    try:
        return None if node is None or node.is_broken else parse_address(node.value)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class ProcessLocation:
    """The data folder of a project's process and the token of its API."""

    data_dir: Path
    token: str | None


def locate(directory: Path, environ: Mapping[str, str]) -> ProcessLocation:
    """Return the data folder and the token of a project, also while its files hold mistakes."""
    document = _read(directory, SETTINGS_FILE, {})
    for _ in resolve_secrets(document, directory, environ):
        pass
    data_dir = _text(document.root, "data_dir") or str(Settings.model_fields["data_dir"].default)
    return ProcessLocation(directory / data_dir, _text(document.root, "api", "token"))


def _text(root: Node | None, *location: str) -> str | None:
    node = root
    for part in location:
        node = node.child(part) if node is not None else None
    return node.value if node is not None and isinstance(node.value, str) and not node.is_broken else None


def load_settings(directory: Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings alone, to be known before the rest is read; the defaults if they are invalid."""
    document = _read(directory, SETTINGS_FILE, {})
    for _ in resolve_secrets(document, directory, environ):
        pass
    return _read_settings(document)[0]
