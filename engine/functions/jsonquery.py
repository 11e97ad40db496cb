"""jq programs, through the `jq` library (an extra: it is imported when first used).

A program runs inside of the broker. Its outputs are bounded in number, and in time from one to the next; what a
program does between two outputs is not, so a program must not loop by a number out of the message.
"""

from __future__ import annotations

import time
from functools import lru_cache
from importlib import import_module
from typing import Any

from engine.errors import EvaluationError
from engine.functions.argument import count, text
from engine.functions.registry import function
from engine.value import parse_json, to_json

_OUTPUTS_MAX = 10_000
_TIMEOUT_MS = 1_000


@function(
    ("jq('.', '{\"b\": 2}')", [{"b": 2}]),
    ("jq('.t, .t * 2', '{\"t\": 10}')", [10, 20]),
)
def jq(program: str, value: Any, timeout_ms: int = _TIMEOUT_MS) -> list[Any]:
    """All outputs of a jq program for a value or a JSON text, as a list. Needs the extra `headgate[jq]`."""
    seconds = count("jq", 3, timeout_ms) / 1000
    compiled = _compiled(text("jq", 1, program))
    if type(value) is str:
        parse_json(value)  # exactly one value: the library would take several
    outputs: list[Any] = []
    deadline = time.perf_counter() + seconds
    try:
        for output in compiled.input_text(value if type(value) is str else to_json(value)):
            outputs.append(output)
            if len(outputs) > _OUTPUTS_MAX:
                raise EvaluationError(f"jq: the program has more than {_OUTPUTS_MAX} outputs")
            if time.perf_counter() > deadline:
                raise EvaluationError(f"jq: the program takes longer than {timeout_ms} ms")
    except ValueError as error:
        raise EvaluationError(f"jq: {error}") from error
    return outputs


@lru_cache(maxsize=128)
def _compiled(program: str) -> Any:
    try:
        library = import_module("jq")
    except ImportError as error:
        raise EvaluationError("jq: the jq library is missing; install it with: pip install 'headgate[jq]'") from error
    try:
        return library.compile(program)
    except ValueError as error:
        raise EvaluationError(f"jq: {error}") from error
