"""Fixtures of the acceptance tests: Headgate as a process, with its project in a temporary folder."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.process import Headgate, MakeHeadgate


@pytest.fixture
def headgate(tmp_path: Path) -> Iterator[MakeHeadgate]:
    """Return a function that makes projects; see `Headgate` for its arguments. Running processes are killed at the end.

    A traceback in the output of a process fails the test: every expected failure has a sentence instead.
    """
    made: list[Headgate] = []

    def make(name: str = "project", **project: Any) -> Headgate:
        made.append(Headgate(tmp_path / name, **project))
        return made[-1]

    yield make
    for process in made:
        process.close()
        print(process.log_tail())
    for process in made:
        assert "Traceback" not in process.log(), process.log_tail(200)


@pytest.fixture
def chance() -> random.Random:
    """Return a random generator with a seed that a failing test prints; ``HEADGATE_TEST_SEED`` repeats it."""
    seed = int(os.environ.get("HEADGATE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"HEADGATE_TEST_SEED={seed}")
    return random.Random(seed)
