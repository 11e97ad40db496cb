"""Rule files: an opening comment with options, and one statement::

    -- Hot rooms go to PostgreSQL and to the alarm topic.
    -- ack: receive
    INSERT INTO readings, alarms
    SELECT clientid AS device, payload.temp AS temp FROM "sensors/+/temp" WHERE payload.temp > 30

The file's name is the rule's id. Lines of the opening comment of the form ``-- name: value`` with a name of `OPTIONS`
are options; the other lines are the description.

A file is read in two steps. `read_rule_file` parses, checks and compiles; its result depends on the text, the rule's
id and the path alone. `RuleFile.in_project` then applies the project's sinks and defaults, which costs microseconds.
So a file whose text has not changed need not be compiled again, whatever else of the project has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import cast

from engine.errors import Position, Problem, RuleError
from engine.language.events import SOURCE_PREFIXES, events_of, is_event_filter, nearest_topic
from engine.language.ruleset import Ack, Rule
from engine.language.sql import (
    CompiledRule,
    SinkTarget,
    Source,
    Statement,
    compile_statement,
    first_error,
    parse,
    problems_of,
)

__all__ = ["OPTIONS", "Header", "RuleFile", "read_header", "read_rule_file"]

OPTIONS = {
    "enabled": "true or false; a disabled rule counts nothing and does nothing",
    "sinks": "names of sinks, separated by commas, for a statement without INSERT INTO",
    "ack": "receive or buffer: when a publish that this rule takes is acknowledged",
}
"""The options of the opening comment with their meanings."""

_VALUES = {"enabled": ("true", "false"), "ack": ("receive", "buffer")}

_OPTION = re.compile(r"--[ \t]*([A-Za-z_]+)[ \t]*:[ \t]*(.*?)[ \t]*$")
_SINK_NAME = re.compile(r"[^\s,]+")


@dataclass(slots=True)
class Header:
    """The opening comment of a rule file. ``statement`` is the file's text with that comment blanked out, so that
    positions in the statement are positions in the file."""

    description: str = ""
    options: dict[str, tuple[str, Position]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    statement: str = ""

    def option(self, name: str, default: str) -> str:
        """Return the value of an option, `default` where it is not given."""
        return self.options[name][0] if name in self.options else default


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A compiled rule file, before the project's sinks and defaults are applied.

    ``compiled`` is None where ``problems`` holds an error, ``targets`` where the statement could not be parsed.
    """

    rule_id: str
    path: str
    header: Header
    targets: tuple[SinkTarget, ...] | None
    compiled: CompiledRule | None
    problems: tuple[Problem, ...]

    def in_project(
        self, sink_ids: Collection[str] | None, default_ack: Ack = "buffer"
    ) -> tuple[Rule | None, list[Problem]]:
        """Return the rule, and all problems in the order of the text; None for the rule where one is an error.

        `sink_ids` are the sinks of the project, None where they are not known: then any name is accepted.
        """
        problems = list(self.problems)
        sinks: tuple[SinkTarget, ...] = ()
        if self.targets is not None or "sinks" in self.header.options:
            sinks, found = _sinks(self.targets or (), self.header, self.path, sink_ids)
            problems += found
            problems.sort(key=_place)
        if self.compiled is None or first_error(problems) is not None:
            return None, problems
        rule = Rule(
            id=self.rule_id,
            path=self.path,
            description=self.header.description,
            enabled=self.header.option("enabled", "true") == "true",
            ack=cast(Ack, self.header.option("ack", default_ack)),
            sinks=sinks,
            compiled=self.compiled,
        )
        return rule, problems


def read_rule_file(
    text: str, *, rule_id: str, path: str, parse_statement: Callable[[str], Statement] = parse
) -> RuleFile:
    """Parse, check and compile the text of a rule file; mistakes are in its ``problems``."""
    header = read_header(text, path)
    problems = list(header.problems)
    statement: Statement | None = None
    compiled: CompiledRule | None = None
    try:
        statement = parse_statement(header.statement)
        problems += (replace(problem, path=path) for problem in problems_of(statement))
        problems += _event_problems(statement.sources, path)
        if first_error(problems) is None:
            compiled = compile_statement(statement, rule_id=rule_id, path=path)
    except RuleError as error:
        problems.append(Problem(error.message, path, error.position, error.remedy))
    targets = None if statement is None else statement.sinks
    return RuleFile(rule_id, path, header, targets, compiled, tuple(sorted(problems, key=_place)))


def _place(problem: Problem) -> tuple[int, int]:
    at = problem.position
    return (at.line, at.column) if at is not None else (0, 0)


# -- the opening comment


def read_header(text: str, path: str) -> Header:
    """Split a rule file into description, options and statement."""
    header = Header()
    lines = text.splitlines(keepends=True)
    words: list[str] = []
    count = 0
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("--"):
            break
        count = number
        match = _OPTION.match(stripped)
        if match and _read_option(header, match, Position(number, line.find("--") + 1), path):
            continue
        words.append(stripped.removeprefix("--").strip())
    header.description = " ".join(word for word in words if word)
    header.statement = "".join("\n" for _ in lines[:count]) + "".join(lines[count:])
    header.problems += _unread_options(lines[count:], count + 1, path)
    return header


def _unread_options(lines: list[str], first: int, path: str) -> Iterator[Problem]:
    """Warn of options below the opening comment, where they have no effect."""
    for number, line in enumerate(lines, start=first):
        match = _OPTION.match(line.strip())
        if match and match[1] in OPTIONS:
            place = _within(Position(number, line.find("--") + 1), match, 1)
            message = f"option {match[1]!r} is not read here"
            yield Problem(message, path, place, "move it into the opening comment, to the top of the file", "warning")


def _read_option(header: Header, match: re.Match[str], start: Position, path: str) -> bool:
    """Read a comment line at `start` as an option. Return false where it is part of the description."""
    name, value = match.groups()
    place = _within(start, match, 1)
    if name not in OPTIONS:
        near = get_close_matches(name.lower(), OPTIONS, n=1, cutoff=0.8)
        if not near:
            return False
        header.problems.append(
            Problem(f"unknown option {name!r}", path, place, f"write -- {near[0]}: {value}", severity="error")
        )
        return True
    allowed = _VALUES.get(name)
    if name in header.options:
        header.problems.append(Problem(f"option {name!r} is given twice", path, place, "keep one of them"))
    elif allowed and value not in allowed:
        remedy = f"write {' or '.join(allowed)}"
        if name == "ack" and value == "sink":
            remedy += "; waiting for the sinks themselves comes with a later version"
        header.problems.append(Problem(f"{name} can't be {value!r}", path, _within(start, match, 2), remedy))
    else:
        header.options[name] = (value, _within(start, match, 2))
    return True


def _within(start: Position, match: re.Match[str], group: int) -> Position:
    """Return the position of a group of a match that begins at `start`."""
    return Position(start.line, start.column + match.start(group), max(1, len(match[group])))


# -- FROM


def _event_problems(sources: Iterable[Source], path: str) -> Iterator[Problem]:
    """Warn of items of FROM that never match: misspelt events, events of a later version, sources."""
    for source in sources:
        found = _never_matching(source.topic)
        if found is not None:
            message, remedy = found
            yield Problem(message, path, source.position, remedy, "warning")


def _never_matching(topic: str) -> tuple[str, str] | None:
    """Return why no message can match `topic`, and the remedy; None if its name does not show that."""
    if topic.startswith(SOURCE_PREFIXES):
        return (
            f"{topic} selects nothing in this version: sources are not available yet",
            "select from a topic or an event",
        )
    events = events_of(topic)
    if events:
        happens = any(event.happens for event in events)
        message = f"{topic} does not happen in this version, so the rule never runs"
        return None if happens else (message, "select from another event")
    if topic == "$events/message_publish" or not topic.startswith("$"):
        return None
    near = nearest_topic(topic)
    if near is None and not is_event_filter(topic):
        return None
    return (
        f"there is no event {topic}",
        f"did you mean {near}?" if near else "see the list of events in engine/README.md",
    )


# -- sinks


def _sinks(
    targets: tuple[SinkTarget, ...], header: Header, path: str, sink_ids: Collection[str] | None
) -> tuple[tuple[SinkTarget, ...], list[Problem]]:
    """Return the sinks of INSERT INTO or of the ``-- sinks:`` line, and the problems of either."""
    problems: list[Problem] = []
    if "sinks" in header.options:
        value, place = header.options["sinks"]
        if targets:
            message = "the sinks are named twice: by INSERT INTO and by the -- sinks: line"
            problems.append(Problem(message, path, place, "remove the -- sinks: line"))
        else:
            targets = tuple(_named(value, place))
            if not targets:
                problems.append(Problem("the -- sinks: line names no sink", path, place, "write -- sinks: a, b"))
    elif not targets:
        remedy = "begin the statement with INSERT INTO sink, or add a line -- sinks: sink"
        message = "the rule has no sink: it only counts"
        problems.append(Problem(message, path, _first_word(header.statement), remedy, "warning"))
    problems += _unknown_sinks(targets, path, sink_ids)
    return targets, problems


def _first_word(statement: str) -> Position:
    """Return the position of the first word of a statement."""
    before = statement[: len(statement) - len(statement.lstrip())]
    word = statement.split(maxsplit=1)[0]
    return Position(before.count("\n") + 1, len(before) - before.rfind("\n"), len(word))


def _named(value: str, place: Position) -> Iterator[SinkTarget]:
    """Yield the sinks of a ``-- sinks:`` line whose value stands at `place`."""
    for match in _SINK_NAME.finditer(value):
        yield SinkTarget(match[0], None, Position(place.line, place.column + match.start(), len(match[0])))


def _unknown_sinks(targets: Iterable[SinkTarget], path: str, sink_ids: Collection[str] | None) -> Iterator[Problem]:
    seen: set[str] = set()
    for target in targets:
        if target.name in seen:
            yield Problem(f"sink {target.name!r} is named twice", path, target.position, "name it once")
        elif sink_ids is not None and target.name not in sink_ids:
            yield Problem(f"unknown sink {target.name!r}", path, target.position, _sink_remedy(target.name, sink_ids))
        seen.add(target.name)


def _sink_remedy(name: str, sink_ids: Collection[str]) -> str:
    near = get_close_matches(name, sink_ids, n=1)
    if near:
        return f"did you mean {near[0]}? Otherwise add {name} under sinks: in connectors.yaml"
    known = f"; there are {', '.join(sorted(sink_ids))}" if sink_ids else ""
    return f"add {name} under sinks: in connectors.yaml{known}"
