"""What acceptance tests share: Headgate as a process, its projects in temporary folders."""

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
    """Makes projects; see `Headgate` for the arguments. Whatever runs at the end is killed.

    A traceback in what a process said fails the test: every failure that is meant has a sentence instead.
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
    """Chance from a seed that a failing test shows; ``HEADGATE_TEST_SEED`` runs it again."""
    seed = int(os.environ.get("HEADGATE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"HEADGATE_TEST_SEED={seed}")
    return random.Random(seed)
