"""jq programs, through the `jq` library (an extra: it is imported when first used).

Many programs only take values apart and put them together; they end when their value does, and run right here. One
that can loop, whose time grows faster than its value, that grows without bound or sees the environment runs in a
process of its own, which ends when its time is over. (The way there and back takes some 20 µs.)
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

_OUTPUTS_MAX = 10_000
_TIMEOUT_MS = 1_000
_TIMEOUT_MS_MAX = 60_000

_ENDLESS = re.compile(
    r"\[\s*\]|\.\.|\b(?:map|map_values|with_entries|any|all|paths|leaf_paths|\w+_by|del|tostream|flatten|combinations)\b"
    r"|-(?!\s*\d)|\b(?:contains|inside|indices|index|rindex|IN|INDEX)\b"
    r"|\b(?:def|repeat|while|until|recurse|walk|range|limit|skip|reduce|foreach|inputs?|getpath|setpath"
    r"|test|match|capture|scan|splits?|sub|gsub|tojson|env|debug|stderr|halt|halt_error)\b"
    r"|\$ENV|\$__prog|\*(?!\s*-?\d)|(?<!\d)\]\s*[-+*/%|?]{0,3}=(?!=)"
)
"""What a program has that may not end, or whose time or result may be much larger than its input. By line: iteration,
for what stands beside it is done for every element; lists compared or searched with lists; loops and regular
expressions; what looks at the process, texts times a number of the value, elements put at an index of the value."""


@function(
    ("jq('.', '{\"b\": 2}')", [{"b": 2}]),
    ("jq('.t, .t * 2', '{\"t\": 10}')", [10, 20]),
    pure=False,  # a program may use up its time, which no rule may while it is loaded
    extra="jq",
)
def jq(program: str, value: Any, timeout_ms: int = _TIMEOUT_MS) -> list[Any]:
    """All outputs of a jq program for a value or a JSON text, as a list. Needs the extra `headgate[jq]`.

    A program that takes longer than `timeout_ms` (1,000 unless given, at most 60,000) fails.
    """
    milliseconds = min(count("jq", 3, timeout_ms), _TIMEOUT_MS_MAX)
    if type(program) is not str:
        refuse("jq", 1, "a jq program", program)
    compiled, may_not_end = _compiled(program)
    if type(value) is str:
        parse_json(value)  # exactly one value: the library would take several
    written = value if type(value) is str else to_json(value)
    outputs = _outside(program, written, milliseconds) if may_not_end else _here(compiled, written, milliseconds)
    if len(outputs) > _OUTPUTS_MAX:
        raise EvaluationError(f"jq: the program has more than {_OUTPUTS_MAX} outputs")
    return outputs


@lru_cache(maxsize=128)
def _compiled(program: str) -> tuple[Any, bool]:
    try:
        library = import_module("jq")
    except ImportError as error:
        raise EvaluationError("jq: the jq library is missing; install it with: pip install 'headgate[jq]'") from error
    try:
        return library.compile(program), _ENDLESS.search(program) is not None
    except ValueError as error:
        raise EvaluationError(f"jq: {error}") from error


def _here(compiled: Any, written: str, milliseconds: int) -> list[Any]:
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


def _outside(program: str, written: str, milliseconds: int) -> list[Any]:
    request = {"program": program, "input": written, "seconds": max(milliseconds, 1) / 1000, "most": _OUTPUTS_MAX}
    answer = _workers.ask(json.dumps(request))
    if answer is None:
        raise _too_long(milliseconds)
    if "error" in answer:
        raise EvaluationError(f"jq: {answer['error']}")
    outputs: list[Any] = answer["outputs"]
    return outputs


def _too_long(milliseconds: int) -> EvaluationError:
    return EvaluationError(f"jq: the program takes longer than {milliseconds} ms, or too much memory")


class _Workers:
    """Processes for programs that may not end: started when needed, kept until a program ends one.

    One is taken out while it works, so that threads which load rules and the one that runs them never share it.
    """

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[str]] = []

    def ask(self, request: str) -> dict[str, Any] | None:
        """The answer to a request; None where the process ended over it, as it does when the time is over."""
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
    # An empty environment, so that no program of a rule reads the secrets out of ours.
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
    with suppress(OSError):  # a request that it did not read any more
        process.__exit__(None, None, None)


_workers = _Workers()
atexit.register(_workers.close)
