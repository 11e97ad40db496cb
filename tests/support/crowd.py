"""Thousands of idle connections, in a process of their own.

    python -m support.crowd PORT COUNT NAME

prints ``ready`` when all are connected, pings all of them for each line of its input and prints ``ok`` when all have
answered, and closes them when its input ends. It is a process of its own, because client libraries that use ``select``
fail if more than a thousand files are open.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.packets import open_connection, read_packet

TESTS = Path(__file__).resolve().parent.parent
PINGREQ, PINGRESP = b"\xc0\x00", 0xD0


class Crowd:
    """The connections, controlled by the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ping(self) -> None:
        """Ping every connection. Raises `AssertionError` if one is not answered."""
        assert self._process.stdin is not None
        self._process.stdin.write("ping\n")
        self._process.stdin.flush()
        self.expect("ok")

    def expect(self, word: str) -> None:
        """Wait until the process prints `word`."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == word, f"the crowd said {said!r} instead of {word!r}"


@contextlib.contextmanager
def crowd(port: int, count: int, name: str = "crowd") -> Iterator[Crowd]:
    """Connect `count` clients. The caller has raised the limit of open files."""
    command = [sys.executable, "-m", "support.crowd", str(port), str(count), name]
    with subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            people = Crowd(process)
            people.expect("ready")
            yield people
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def main(port: int, count: int, name: str) -> None:
    """Run the connections in this process."""
    with contextlib.ExitStack() as stack:
        people = [stack.enter_context(open_connection(port, f"{name}-{number}")[0]) for number in range(count)]
        print("ready", flush=True)
        for _ in sys.stdin:
            for person in people:
                person.sendall(PINGREQ)
            answers = {read_packet(person)[0] for person in people}
            print("ok" if answers == {PINGRESP} else f"answers {answers}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
