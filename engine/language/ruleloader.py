"""The rule files of a project's rules folder, read and compiled; unchanged files are compiled once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import Position, Problem
from engine.language.rulefile import RuleFile, read_rule_file
from engine.language.ruleset import Ack, Rule, Ruleset
from engine.language.sql import Statement, parse

__all__ = ["LoadedRules", "RuleLoader"]


@dataclass(slots=True)
class LoadedRules:
    """The result of loading the rules folder."""

    ruleset: Ruleset
    """The rules without errors."""
    problems: list[Problem]
    """The problems of all files."""
    texts: dict[str, str]
    """The text of each file by its path, to show problems with."""
    compiled: int = 0
    """The number of files that were compiled, not taken over from the load before."""


@dataclass(slots=True)
class _Known:
    """A file as it was at the last load. ``rule`` and ``problems`` are those for ``sink_ids`` and ``ack``."""

    data: bytes
    text: str
    file: RuleFile
    sink_ids: frozenset[str] | None = None
    ack: Ack | None = None
    rule: Rule | None = None
    problems: list[Problem] = field(default_factory=list)

    def apply(self, sink_ids: frozenset[str] | None, ack: Ack) -> None:
        """Bring ``rule`` and ``problems`` up to date with the project's sinks and default `ack`."""
        if ack == self.ack and sink_ids == self.sink_ids:
            return
        rule, self.problems = self.file.in_project(sink_ids, ack)
        self.sink_ids, self.ack = sink_ids, ack
        if rule != self.rule:  # an equal rule stays the same object, by which a reload tells what changed
            self.rule = rule


class RuleLoader:
    """Loads the rules folder again and again, and compiles only the files whose bytes changed since the last load.

    Every file is read at every load: 1,000 files cost 10 ms of CPU, mostly in system calls that release the GIL, where
    asking for modification times would cost 4 ms and miss an edit within a clock tick or a restored backup.

    There is no cache on disk, as loading code objects from ``data_dir`` would run whatever was written there; see
    docs/decisions/compiled-rules-in-memory.md.
    """

    def __init__(self, parse_statement: Callable[[str], Statement] = parse) -> None:
        self._parse = parse_statement
        self._known: dict[str, _Known] = {}
        self._ruleset = Ruleset()

    def load(
        self, directory: Path, project: Path, sink_ids: Collection[str] | None, default_ack: Ack = "buffer"
    ) -> LoadedRules:
        """Load every ``*.sql`` of `directory` that is not hidden. Paths in problems are relative to `project`.

        Rules may name the sinks `sink_ids`, and any sink where it is None because the names are not known.
        A missing directory holds no rules.
        """
        loaded = LoadedRules(Ruleset(), [], {})
        known: dict[str, _Known] = {}
        try:
            names = _file_names(directory)
        except OSError as error:
            message = f"the folder of the rules can't be read: {error.strerror or error}"
            loaded.problems.append(Problem(message, _relative(directory, project)))
            return loaded
        sinks = None if sink_ids is None else frozenset(sink_ids)
        folder, shown = f"{directory}{os.sep}", _relative(directory, project)
        prefix = "" if shown == "." else f"{shown}{os.sep}"
        for name in names:
            path = prefix + name
            current = self._file(folder + name, path, name.removesuffix(".sql"))
            if isinstance(current, Problem):
                loaded.problems.append(current)
                continue
            current.apply(sinks, default_ack)
            known[path] = current
            loaded.compiled += current is not self._known.get(path)
            loaded.texts[path] = current.text
            loaded.problems += current.problems
        self._known = known
        rules = [file.rule for file in known.values() if file.rule is not None]
        self._ruleset = loaded.ruleset = Ruleset(rules, previous=self._ruleset)
        return loaded

    def _file(self, file: str, path: str, rule_id: str) -> _Known | Problem:
        """Return a file, compiled now if its bytes changed, or the reason why it can't be read."""
        if not rule_id.isprintable():
            shown = "".join(char if char.isprintable() else "?" for char in path)
            return Problem(
                "the file name has characters that are not printable, which the id of a rule can't have",
                shown,
                remedy="rename it",
            )
        try:
            with open(file, "rb", buffering=0) as opened:
                data = opened.read()
        except OSError as error:
            return Problem(f"the rule can't be read: {error.strerror or error}", path)
        known = self._known.get(path)
        if known is not None and known.data == data:
            return known
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            position = Position(data.count(b"\n", 0, error.start) + 1, 1)
            return Problem("the rule is not UTF-8", path, position, "save it as UTF-8 in your editor")
        return _Known(data, text, read_rule_file(text, rule_id=rule_id, path=path, parse_statement=self._parse))


def _relative(file: Path, project: Path) -> str:
    return str(file.relative_to(project)) if file.is_relative_to(project) else str(file)


def _file_names(directory: Path) -> list[str]:
    """Return the sorted names of rule files, [] for a missing directory. Raises `OSError` if it can't be read."""
    try:
        names = os.listdir(directory)
    except OSError:
        if not directory.exists():
            return []
        raise
    # Hidden files are not the user's: editors keep their locks there.
    return sorted(name for name in names if name.endswith(".sql") and not name.startswith("."))
