"""The command line: one module per command, imported only for that command.

Exit codes, the same for all commands:

    0  done
    1  mistakes were found, or the operation failed
    2  the command line is wrong
    3  Headgate or the broker is not running or not reachable
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

COMMANDS = {
    "init": "engine.cli.init",
    "run": "engine.cli.run",
    "check": "engine.cli.check",
    "test": "engine.cli.test",
    "eval": "engine.cli.evaluate",
    "status": "engine.cli.status",
    "dlq": "engine.cli.dlq",
    "pub": "engine.cli.pub",
    "sub": "engine.cli.sub",
    "schema": "engine.cli.schema",
    "version": "engine.cli.version",
    "demo": "engine.cli.demo",
}
"""Command to module, in the order of the help. Each module has ``register(app)``."""

HELP = """The MQTT rules engine that keeps every acknowledged message.

Devices publish to the embedded broker, rules/*.sql filter and transform, sinks receive the rows.

\b
  headgate init plant && cd plant   make a project
  headgate run                      start it; files are reloaded when they change
  headgate check                    report all mistakes without starting
  headgate status                   rules, sinks, backlog, last errors

Exit codes: 0 done, 1 mistakes found or operation failed, 2 wrong command line, 3 not running or not reachable.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    debug = "--debug" in arguments[: arguments.index(command)] if command is not None else False
    try:
        if arguments in (["version"], ["--version"]):
            # Scripts and editors ask for it often: importing typer would take longer than all the rest.
            from engine.cli.version import print_version

            return print_version(as_json=False)
        build([command] if command in COMMANDS else COMMANDS)(arguments, prog_name="headgate")
    except Exception as error:
        from engine.cli.report import print_failure, print_traceback

        sys.exit(print_traceback() if debug else print_failure(error))


def build(names: Iterable[str]) -> typer.Typer:
    """Return the application with the commands `names`. Importing only one of them makes a command start fast."""
    import typer

    app = typer.Typer(
        help=HELP, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
    )

    @app.callback()
    def headgate(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
        pass

    headgate.__doc__ = HELP
    for name in names:
        import_module(COMMANDS[name]).register(app)
    return app
