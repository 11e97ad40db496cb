"""A process that runs jq programs which might not end, or take more memory than there is.

The library runs a program inside of the calling thread and can't be interrupted. Here the kernel does it: a timer that
nobody handles ends the process, whatever it is doing, and a limit on its memory does the same for what grows. The
caller sees the end of the stream and starts another one. Requests and answers are lines of JSON.

This file is run by its path, so that it starts quickly; it imports nothing of its package.
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
    """Answer lines until there are no more."""
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
