"""Test cases of rules, as ``headgate test`` runs them: an event and the rows expected of it (``rules/*.test.yaml``).

    cases:
      - name: a hot room is reported with its device
        event: {topic: sensors/kitchen/climate, clientid: kitchen, payload: '{"temp": 31.5}'}
        rows:
          - {device: kitchen, temp: 31.5}

``hot_rooms.test.yaml`` tests ``hot_rooms.sql``. An event is an object of columns, as for ``headgate eval``. A row is
given in part: columns that are not named may have any value. An empty list of rows expects that the rule emits no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from engine.config.loader import Node, load_document
from engine.config.model import Model
from engine.config.validation import validate
from engine.errors import Position, Problem, RuleError
from engine.language.eval import compiled_statement, evaluate_event
from engine.model.jsontext import decode, encode

SUFFIX = ".test.yaml"

_SHOWN_CHARS_MAX = 200


class Case(Model):
    """One case of a rule."""

    name: str = Field(min_length=1)
    """The expectation, as a sentence."""
    event: dict[str, Any]
    """The columns of the event, with event_type for anything but a publish."""
    rows: list[dict[str, Any]]
    """The expected rows, each given by the columns that matter."""


class _Cases(Model):
    cases: list[Case]
    """The cases of one rule."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case, which passed when there are no ``problems``."""

    path: str
    name: str
    position: Position
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Report:
    """The results of all cases, and the problems that kept cases from running: invalid files, missing rules."""

    results: list[Result] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The text of each file by its path, to show problems with."""

    @property
    def failed(self) -> list[Result]:
        """The cases that did not pass."""
        return [result for result in self.results if result.problems]


def run_cases(rules_dir: Path, directory: Path, only: Sequence[str] = ()) -> Report:
    """Run the cases of the rules in `rules_dir`, or of the rules `only` where it names any.

    Never raises for what a user wrote: all of it is in the report.
    """
    report = Report()
    for file in [rules_dir / f"{rule_id}{SUFFIX}" for rule_id in only] or sorted(rules_dir.glob(f"*{SUFFIX}")):
        _run_file(file, directory, report)
    return report


def _rule_of(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(SUFFIX) + ".sql")


def _run_file(file: Path, directory: Path, report: Report) -> None:
    text = _read(file, directory, report)
    sql = _read(_rule_of(file), directory, report) if text is not None else None
    if text is None or sql is None or not _compiles(sql, _shown_path(_rule_of(file), directory), report):
        return
    path = _shown_path(file, directory)
    document = load_document(text, path)
    report.problems += document.problems
    if document.root is None:
        if not document.problems:
            report.problems.append(Problem("there are no cases", path, Position(1, 1), "begin with cases:"))
        return
    content, problems = validate(_Cases, document.root, path)
    report.problems += problems
    listed = document.root.child("cases")
    if content is None or listed is None or listed.items is None:
        return
    for case, node in zip(content.cases, listed.items, strict=True):
        found = tuple(_judge(case, node, sql, path))
        report.results.append(Result(path, case.name, node.position, found))


def _compiles(sql: str, path: str, report: Report) -> bool:
    try:
        compiled_statement(sql)
    except RuleError as error:
        report.problems.append(Problem(error.message, path, error.position, error.remedy))
        return False
    return True


def _read(file: Path, directory: Path, report: Report) -> str | None:
    path = _shown_path(file, directory)
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        report.problems.append(Problem(f"there is no file {path}", remedy=f"RULE{SUFFIX} holds the cases of RULE.sql"))
    except OSError as error:
        report.problems.append(Problem(f"the file can't be read: {error.strerror or error}", path))
    except UnicodeDecodeError:
        report.problems.append(Problem("the file is not UTF-8", path, None, "save it as UTF-8 in your editor"))
    else:
        report.texts[path] = text
        return text
    return None


def _shown_path(file: Path, directory: Path) -> str:
    return str(file.relative_to(directory)) if file.is_relative_to(directory) else str(file)


def _judge(case: Case, node: Node, sql: str, path: str) -> Iterator[Problem]:
    """Yield the differences from the expectation, each at its position in the file."""
    answer = evaluate_event(sql, case.event)
    if answer["kind"] == "error":
        yield Problem(f"the event failed: {answer['message']}", path, _place(node, "event"))
        return
    rows = [_as_json(row) for row in answer.get("value", ())]
    if len(rows) != len(case.rows):
        came = f"{len(rows)} row{'s' * (len(rows) != 1)} came out instead of {len(case.rows)}"
        yield Problem(": ".join((came, *map(_shown, rows))), path, _place(node, "rows"))
        return
    listed = node.child("rows")
    assert listed is not None  # validated
    for number, (row, expected) in enumerate(zip(rows, case.rows, strict=True)):
        wanted = listed.child(number)
        assert wanted is not None
        yield from _compare(row, expected, wanted, path)


def _compare(row: Mapping[str, Any], expected: Mapping[str, Any], node: Node, path: str) -> Iterator[Problem]:
    for name, value in expected.items():
        found = row.get(name)
        if encode(found) != encode(value):
            place = node.child(name)
            position = node.position if place is None else place.position
            what = f"is {_shown(found)}" if name in row else f"is not in the row {_shown(row)}"
            yield Problem(f"{name} {what}", path, position)


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as ``headgate eval`` prints it: bytes as base64, undefined as null."""
    plain: dict[str, Any] = decode(encode(row))
    return plain


def _place(node: Node, key: str) -> Position:
    return node.keys.get(key, node.position)


def _shown(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"
