"""A whole project: its YAML files, rules and sinks, read and checked together, as ``headgate check`` does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from connectors import load_kind
from engine.config.connectors import SinkEntry
from engine.config.project import LoadedProject, in_order, load_project
from engine.config.settings import Settings
from engine.connector import Publish, Sink, SinkContext
from engine.errors import ConfigError, HeadgateError, Problem
from engine.language.ruleloader import RuleLoader
from engine.language.ruleset import Ruleset
from engine.service.clock import Clock, SystemClock


class ProjectError(HeadgateError):
    """The project has errors: `problems` lists them all, `texts` has the files by path, to show them with."""

    def __init__(self, problems: list[Problem], texts: Mapping[str, str]) -> None:
        errors = [problem for problem in problems if problem.severity == "error"]
        super().__init__(f"the project has {len(errors)} mistake{'s' * (len(errors) != 1)}: {errors[0].message}")
        self.problems = problems
        self.texts = texts


@dataclass(frozen=True, slots=True)
class Project:
    """A project as read: `files` are its YAML files, `ruleset` its rules without errors."""

    files: LoadedProject[type[Sink]]
    ruleset: Ruleset
    problems: list[Problem]
    texts: dict[str, str]
    compiled: int = 0
    """The number of rules that were compiled, not taken over from the load before."""

    @property
    def has_errors(self) -> bool:
        """Whether any problem is an error."""
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def sinks(self) -> dict[str, SinkEntry[type[Sink]]]:
        """The sinks of the project by id, disabled ones included."""
        return self.files.sinks

    @property
    def active_sinks(self) -> dict[str, SinkEntry[type[Sink]]]:
        """The sinks that are enabled."""
        return {sink_id: entry for sink_id, entry in self.sinks.items() if entry.config.enable}

    def within(self, running: Settings) -> Project:
        """Return the project with the settings `running` of the process: of a changed headgate.yaml only the section
        ``rules`` takes effect before the next start."""
        settings = running.model_copy(update={"rules": self.files.settings.rules})
        return replace(self, files=replace(self.files, settings=settings))

    def make_sink(self, entry: SinkEntry[type[Sink]], publish: Publish | None, clock: Clock) -> Sink:
        """Return a sink, not yet connected. Raises `ConfigError` where its options contradict each other."""
        context = SinkContext(entry.sink_id, self.files.directory, self.files.data_dir, clock, publish)
        return entry.kind_class(entry.config, context)


def read_project(
    directory: Path, environ: Mapping[str, str] | None = None, rule_loader: RuleLoader | None = None
) -> Project:
    """Read the project in `directory`. Mistakes of its author never raise: they are in ``problems``.

    The `rule_loader` of an earlier call compiles only the rules that changed since.
    """
    files = load_project(directory, load_kind, os.environ if environ is None else environ)
    settings = files.settings
    loader = RuleLoader() if rule_loader is None else rule_loader
    rules = loader.load(files.rules_dir, files.directory, files.sink_names, settings.rules.ack)
    problems = [*files.problems, *rules.problems]
    project = Project(files, rules.ruleset, problems, {**files.texts, **rules.texts}, rules.compiled)
    for entry in (*files.sinks.values(), *files.drafts):
        try:
            project.make_sink(entry, None, SystemClock())
        except ConfigError as error:
            project.problems.extend(entry.problems(error))
    project.problems.extend(_disabled_targets(project))
    project.problems[:] = in_order(project.problems)
    return project


def _disabled_targets(project: Project) -> Iterator[Problem]:
    """Warn of rules that name a disabled sink."""
    disabled = project.sinks.keys() - project.active_sinks.keys()
    if not disabled:
        return
    for rule in project.ruleset.rules.values():
        for target in rule.sinks:
            if target.name in disabled:
                message = f"sink {target.name!r} is disabled: it gets nothing of this rule"
                remedy = f"remove enable: false from {target.name} in connectors.yaml"
                yield Problem(message, rule.path, target.position, remedy, "warning")


def check_project(directory: Path, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return all problems of the project in `directory`, warnings included."""
    return read_project(directory, environ).problems
