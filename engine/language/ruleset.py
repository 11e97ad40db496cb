"""The rules of a project: one statement a file, compiled, indexed by topic, swapped as a whole on reload.

A rule file is an opening comment and a statement::

    -- Hot rooms go to PostgreSQL and to the alarm topic.
    -- ack: receive
    INSERT INTO readings, alarms
    SELECT clientid AS device, payload.temp AS temp FROM "sensors/+/temp" WHERE payload.temp > 30

The file's name is the rule's id. Lines of the opening comment that read ``-- name: value`` with a name of
`OPTIONS` are options; the others are the description.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, Literal, TypeVar, cast

from engine.errors import Position, Problem, RuleError
from engine.language.events import SOURCE_PREFIXES, events_of, is_event_filter, matches, nearest_topic
from engine.language.sql import CompiledRule, SinkTarget, Source, check_rule, compile_rule, parse

Ack = Literal["receive", "buffer"]

Item = TypeVar("Item")

OPTIONS = {
    "enabled": "true or false; a disabled rule counts nothing and does nothing",
    "sinks": "names of sinks, separated by commas, for a statement without INSERT INTO",
    "ack": "receive or buffer: when a publish that this rule takes is acknowledged",
}
"""What may stand in the opening comment of a rule, and what it means."""

_OPTION = re.compile(r"--[ \t]*([A-Za-z_]+)[ \t]*:[ \t]*(.*?)[ \t]*$")
_SINK_NAME = re.compile(r"[^\s,]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. ``sinks`` holds those of INSERT INTO, else those of the ``-- sinks:`` line."""

    id: str
    path: str
    description: str
    enabled: bool
    ack: Ack
    sinks: tuple[SinkTarget, ...]
    compiled: CompiledRule

    @property
    def topics(self) -> tuple[str, ...]:
        """The items of FROM, as written."""
        return tuple(source.topic for source in self.compiled.sources)


@dataclass(slots=True)
class Header:
    """The opening comment of a rule file. ``statement`` is the file's text with that comment blanked out, so that
    positions in the statement are positions in the file."""

    description: str = ""
    options: dict[str, tuple[str, Position]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    statement: str = ""


class Ruleset:
    """Rules by id and by what they select from. Never changes; a reload makes a new one."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        self._index = TopicIndex[Rule]()
        self._event_rules: list[tuple[str, Rule]] = []
        for rule in self.rules.values():
            if rule.enabled:
                self._add(rule)

    def for_topic(self, topic: str) -> tuple[Rule, ...]:
        """The enabled rules that select from a publish on `topic`, in the order of their ids, each once."""
        return tuple(sorted(set(self._index.find(topic)), key=lambda rule: rule.id))

    def for_event(self, event_topic: str) -> tuple[Rule, ...]:
        """The enabled rules that select from an event, by its topic (``$events/client/connected``)."""
        found = {rule for topic_filter, rule in self._event_rules if matches(topic_filter, event_topic)}
        return tuple(sorted(found, key=lambda rule: rule.id))

    def _add(self, rule: Rule) -> None:
        for topic_filter in rule.topics:
            if is_event_filter(topic_filter):
                self._event_rules.append((topic_filter, rule))
            else:
                self._index.add(topic_filter, rule)


class TopicIndex(Generic[Item]):
    """Topic filters to items, as a tree of levels; finding costs by the depth of the topic, not by the filters."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Level[Item] = _Level()

    def add(self, topic_filter: str, item: Item) -> None:
        """Let `find` answer `item` for every topic that `topic_filter` matches."""
        level = self._root
        for word in topic_filter.split("/"):
            level = level.children.setdefault(word, _Level())
        level.items.append(item)

    def find(self, topic: str) -> list[Item]:
        """The items whose filter matches `topic`; one with several matching filters comes several times.

        Topics that begin with ``$`` are not matched by a filter that begins with a wildcard (MQTT-4.7.2-1).
        """
        levels = [self._root]
        found: list[Item] = []
        for depth, word in enumerate(topic.split("/")):
            below: list[_Level[Item]] = []
            wildcards = depth > 0 or not topic.startswith("$")
            for level in levels:
                children = level.children
                if word in children:
                    below.append(children[word])
                if wildcards and "+" in children:
                    below.append(children["+"])
                if wildcards and "#" in children:
                    found += children["#"].items
            levels = below
        for level in levels:
            found += level.items
            if "#" in level.children:
                found += level.children["#"].items
        return found


class _Level(Generic[Item]):
    __slots__ = ("children", "items")

    def __init__(self) -> None:
        self.children: dict[str, _Level[Item]] = {}
        self.items: list[Item] = []


@dataclass(slots=True)
class LoadedRules:
    """What `load_rules` found: the rules without errors, all problems, and the texts by path for showing them."""

    ruleset: Ruleset
    problems: list[Problem]
    texts: dict[str, str]


def load_rules(
    directory: Path, project: Path, sink_ids: Collection[str] | None, default_ack: Ack = "buffer"
) -> LoadedRules:
    """Compile every ``*.sql`` of `directory` that is not hidden. Paths in problems are relative to `project`.

    `sink_ids` may be named, and any name where it is None because nobody knows which there are.
    A missing directory holds no rules.
    """
    rules: list[Rule] = []
    problems: list[Problem] = []
    texts: dict[str, str] = {}
    try:
        # Hidden files are not the user's: editors keep their locks there.
        names = sorted(name for name in os.listdir(directory) if name.endswith(".sql") and not name.startswith("."))
    except OSError as error:
        if not directory.exists():
            return LoadedRules(Ruleset(), [], texts)
        message = f"the folder of the rules can't be read: {error.strerror or error}"
        return LoadedRules(Ruleset(), [Problem(message, _relative(directory, project))], texts)
    for file in (directory / name for name in names):
        path = _relative(file, project)
        text = _read(file, path)
        if isinstance(text, Problem):
            problems.append(text)
            continue
        texts[path] = text
        rule, found = load_rule(text, rule_id=file.stem, path=path, sink_ids=sink_ids, default_ack=default_ack)
        problems += sorted(found, key=_place)
        if rule is not None:
            rules.append(rule)
    return LoadedRules(Ruleset(rules), problems, texts)


def _read(file: Path, path: str) -> str | Problem:
    """The text of a rule's file, called `path` in problems, or why it can't be had."""
    if not file.name.isprintable():
        shown = "".join(char if char.isprintable() else "?" for char in path)
        return Problem("the file's name can't be that of a rule", shown, remedy="rename it")
    try:
        data = file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        return Problem(f"the rule can't be read: {error.strerror or error}", path)
    except UnicodeDecodeError as error:
        position = Position(data.count(b"\n", 0, error.start) + 1, 1)
        return Problem("the rule is not UTF-8", path, position, "save it as UTF-8 in your editor")


def load_rule(
    text: str, *, rule_id: str, path: str, sink_ids: Collection[str] | None, default_ack: Ack = "buffer"
) -> tuple[Rule | None, list[Problem]]:
    """One rule from the text of its file, and its problems; None where one of them is an error."""
    header = read_header(text, path)
    problems = list(header.problems)
    try:
        statement = parse(header.statement)
    except RuleError as error:
        if "sinks" in header.options:
            problems += _sinks((), header, path, sink_ids)[1]
        return None, [*problems, Problem(error.message, path, error.position, error.remedy)]
    problems += (_in_file(problem, path) for problem in check_rule(header.statement))
    problems += _event_problems(statement.sources, path)
    sinks, found = _sinks(statement.sinks, header, path, sink_ids)
    problems += found
    if _has_error(problems):
        return None, problems
    compiled = compile_rule(header.statement, rule_id=rule_id, path=path)
    rule = Rule(
        id=rule_id,
        path=path,
        description=header.description,
        enabled=_option(header, "enabled", "true") == "true",
        ack=cast(Ack, _option(header, "ack", default_ack)),
        sinks=sinks,
        compiled=compiled,
    )
    return rule, problems


def read_header(text: str, path: str) -> Header:
    """Take the opening comment of a rule file apart."""
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
    """Warnings for options behind the opening comment, where they are comments like any other."""
    for number, line in enumerate(lines, start=first):
        match = _OPTION.match(line.strip())
        if match and match[1] in OPTIONS:
            place = _within(Position(number, line.find("--") + 1), match, 1)
            message = f"option {match[1]!r} is not read here"
            yield Problem(message, path, place, "move it into the opening comment, to the top of the file", "warning")


_VALUES = {"enabled": ("true", "false"), "ack": ("receive", "buffer")}


def _read_option(header: Header, match: re.Match[str], start: Position, path: str) -> bool:
    """Whether the line, a comment at `start`, was an option or meant to be one."""
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
        header.problems.append(Problem(f"option {name!r} is there twice", path, place, "keep one of them"))
    elif allowed and value not in allowed:
        remedy = f"write {' or '.join(allowed)}"
        if name == "ack" and value == "sink":
            remedy += "; waiting for the sinks themselves comes with a later version"
        header.problems.append(Problem(f"{name} can't be {value!r}", path, _within(start, match, 2), remedy))
    else:
        header.options[name] = (value, _within(start, match, 2))
    return True


def _within(start: Position, match: re.Match[str], group: int) -> Position:
    """The place of a group of a match that begins at `start`."""
    return Position(start.line, start.column + match.start(group), max(1, len(match[group])))


def _start(statement: str) -> Position:
    """Where the text of a statement begins, its first word long."""
    before = statement[: len(statement) - len(statement.lstrip())]
    word = statement.split(maxsplit=1)[0]
    return Position(before.count("\n") + 1, len(before) - before.rfind("\n"), len(word))


def _option(header: Header, name: str, default: str) -> str:
    return header.options[name][0] if name in header.options else default


def _event_problems(sources: Iterable[Source], path: str) -> Iterator[Problem]:
    """Warnings for what never happens: misspelt events, those of a later version, and sources."""
    for source in sources:
        found = _what_never_happens(source.topic)
        if found is not None:
            message, remedy = found
            yield Problem(message, path, source.position, remedy, "warning")


def _what_never_happens(topic: str) -> tuple[str, str] | None:
    """Why a rule never sees anything of `topic`, and what to do; None where that can't be told from its name."""
    if topic.startswith(SOURCE_PREFIXES):
        return f"{topic} gives nothing in this version: there are no sources yet", "select from a topic or an event"
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


def _sinks(
    targets: tuple[SinkTarget, ...], header: Header, path: str, sink_ids: Collection[str] | None
) -> tuple[tuple[SinkTarget, ...], list[Problem]]:
    problems: list[Problem] = []
    if "sinks" in header.options:
        value, place = header.options["sinks"]
        if targets:
            problems.append(
                Problem(
                    "the sinks are named twice: by INSERT INTO and by the -- sinks: line",
                    path,
                    place,
                    "remove the -- sinks: line",
                )
            )
        else:
            targets = tuple(_named(value, place))
            if not targets:
                problems.append(Problem("the -- sinks: line names no sink", path, place, "write -- sinks: a, b"))
    elif not targets:
        problems.append(
            Problem(
                "the rule has no sink: it only counts",
                path,
                _start(header.statement),
                remedy="begin the statement with INSERT INTO sink, or add a line -- sinks: sink",
                severity="warning",
            )
        )
    problems += _unknown_sinks(targets, path, sink_ids)
    return targets, problems


def _named(value: str, place: Position) -> Iterator[SinkTarget]:
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


def _place(problem: Problem) -> tuple[int, int]:
    at = problem.position
    return (at.line, at.column) if at is not None else (0, 0)


def _in_file(problem: Problem, path: str) -> Problem:
    return Problem(problem.message, path, problem.position, problem.remedy, problem.severity)


def _has_error(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _relative(file: Path, project: Path) -> str:
    return str(file.relative_to(project)) if file.is_relative_to(project) else str(file)
