"""jq programs, by the `jq` library (an extra, imported when first used).

Most programs only select and rearrange parts of their value, in time linear to it: they run in this process. Programs
that can loop, whose time or result can grow faster than their value, or that read the environment run in a worker
process with a deadline and a memory limit. (A request and its answer take some 20 µs.)
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import count, refuse
from engine.language.functions.registry import function
from engine.model.value import parse_json, to_json
from engine.service.extras import install_command

_OUTPUTS_MAX = 10_000
"""Bound of the outputs of a program: ``range(1e9)`` has a result of gigabytes for a value of one byte."""
_TIMEOUT_MS = 1_000
_TIMEOUT_MS_MAX = 60_000
"""Default and bound of the deadline. EMQX's default is ten seconds; here the event loop waits for the program."""

_ENDLESS = re.compile(
    r"\[\s*\]|\.\.|\b(?:map|map_values|with_entries|any|all|paths|leaf_paths|\w+_by|del|tostream|flatten|combinations)\b"
    r"|-(?!\s*\d)|\b(?:contains|inside|indices|index|rindex|IN|INDEX)\b"
    r"|\b(?:def|repeat|while|until|recurse|walk|range|limit|skip|reduce|foreach|inputs?|getpath|setpath"
    r"|test|match|capture|scan|splits?|sub|gsub|tojson|env|debug|stderr|halt|halt_error)\b"
    r"|\$ENV|\$__prog|\*(?!\s*-?\d)|(?<!\d)\]\s*[-+*/%|?]{0,3}=(?!=)"
)
"""Matches programs that may not end, or whose time or result may be much larger than their input.

By line: iteration (the rest of the program runs for each element); comparison and search of lists by lists; loops and
regular expressions; the environment, text times a number of the value, assignment to an index of the value."""


@function(
    ("jq('.', '{\"b\": 2}')", [{"b": 2}]),
    ("jq('.t, .t * 2', '{\"t\": 10}')", [10, 20]),
    pure=False,  # calls of pure functions are evaluated while a rule is loaded, where an endless program would block
    extra="jq",
)
def jq(program: str, value: Any, timeout_ms: int = _TIMEOUT_MS) -> list[Any]:
    """Return the list of all outputs of a jq program for a value, or for JSON text.

    Needs the library `jq`. Fails where the program fails, runs for more than `timeout_ms` (1,000 by default, at
    most 60,000), or has more than 10,000 outputs.
    """
    milliseconds = min(count("jq", 3, timeout_ms), _TIMEOUT_MS_MAX)
    if type(program) is not str:
        refuse("jq", 1, "a jq program", program)
    compiled, may_not_end = _compiled(program)
    if type(value) is str:
        parse_json(value)  # exactly one value: the library would take several
    written = value if type(value) is str else to_json(value)
    if may_not_end:
        outputs = _run_in_worker(program, written, milliseconds)
    else:
        outputs = _run_here(compiled, written, milliseconds)
    if len(outputs) > _OUTPUTS_MAX:
        raise EvaluationError(f"jq: expected at most {_OUTPUTS_MAX} outputs, found more")
    return outputs


@lru_cache(maxsize=128)
def _compiled(program: str) -> tuple[Any, bool]:
    try:
        library = import_module("jq")
    except ImportError as error:
        raise EvaluationError(
            f"jq: expected the jq library, found it not installed; install it: {install_command('jq')}"
        ) from error
    try:
        return library.compile(program), _ENDLESS.search(program) is not None
    except ValueError as error:
        raise EvaluationError(f"jq: {error}") from error


def _run_here(compiled: Any, written: str, milliseconds: int) -> list[Any]:
    outputs: list[Any] = []
    deadline = time.perf_counter() + milliseconds / 1000
    try:
        for output in compiled.input_text(written):
            outputs.append(output)
            if len(outputs) > _OUTPUTS_MAX:
                break
            if time.perf_counter() > deadline:
                raise _too_long(milliseconds)
    except ValueError as error:
        raise EvaluationError(f"jq: {error}") from error
    return outputs


def _run_in_worker(program: str, written: str, milliseconds: int) -> list[Any]:
    request = {"program": program, "input": written, "seconds": max(milliseconds, 1) / 1000, "most": _OUTPUTS_MAX}
    answer = _workers.ask(json.dumps(request))
    if answer is None:
        raise _too_long(milliseconds)
    if "error" in answer:
        raise EvaluationError(f"jq: {answer['error']}")
    outputs: list[Any] = answer["outputs"]
    return outputs


def _too_long(milliseconds: int) -> EvaluationError:
    return EvaluationError(
        f"jq: expected the program to end within {milliseconds} ms, found that it takes longer, or too much memory"
    )


class _WorkerPool:
    """Pool of processes for programs that may not end: started on demand, kept until a program ends one.

    A process is taken out of the pool while it works, so that threads which load rules never share one with the thread
    that evaluates them.
    """

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[str]] = []

    def ask(self, request: str) -> dict[str, Any] | None:
        """Return the answer to a request, or None where the process ended, as it does at the deadline."""
        try:
            process = self._idle.pop()
        except IndexError:
            process = _started()
        line = _exchange(process, request)
        if not line:
            _end(process)
            return None
        self._idle.append(process)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End all processes."""
        while self._idle:
            _end(self._idle.pop())


def _started() -> subprocess.Popen[str]:
    # An empty environment: $ENV of a program must not give it the secrets in ours.
    command = [sys.executable, "-P", str(Path(__file__).with_name("jq_worker.py"))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={}
    )


def _exchange(process: subprocess.Popen[str], request: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except OSError:
        return ""


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with suppress(OSError):  # closing flushes a request that the process has not read
        process.__exit__(None, None, None)


_workers = _WorkerPool()
atexit.register(_workers.close)
