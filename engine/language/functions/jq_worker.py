"""Worker process for jq programs that may not end or may exhaust the memory.

The library runs a program in the calling thread and can't be interrupted. Here the kernel ends the process: by SIGALRM,
which has no handler, at the deadline, or by its memory limit. The caller reads the end of the stream and starts another
process. Requests and answers are lines of JSON.

The file is run by its path and imports nothing of its package, so that a process starts fast.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from functools import lru_cache
from importlib import import_module
from typing import Any

MEMORY_BYTES_MAX = 1 << 30
"""Bound of a worker's address space: far above what a value of 1 MiB takes, below what a small machine has."""


@lru_cache(maxsize=128)
def _compiled(program: str) -> Any:
    return import_module("jq").compile(program)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    outputs: list[Any] = []
    try:
        for output in _compiled(request["program"]).input_text(request["input"]):
            outputs.append(output)
            if len(outputs) > request["most"]:
                break
    except ValueError as error:
        return {"error": str(error)}
    return {"outputs": outputs}


def main() -> None:
    """Answer request lines until the input ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        answer = json.dumps(_answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
