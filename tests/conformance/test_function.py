"""The examples of the function reference, evaluated as rules."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from engine.language.functions import FUNCTIONS
from engine.language.functions.date import use_clock
from engine.language.functions.identity import use_random
from engine.language.functions.memory import Memory, use_store
from engine.language.sql import compile_rule
from engine.model.jsontext import encode
from engine.model.message import ClientIdentity, Message

EXAMPLES = [(function.name, example) for function in FUNCTIONS.values() for example in function.examples]


@pytest.fixture(autouse=True)
def fixed_state() -> Iterator[None]:
    """Set clock, random source and store to the same state for every example."""
    clock, random_source, store = (
        use_clock(lambda: 1_722_945_600_123_456_789),
        use_random(Random(1)),
        use_store(Memory(9, 999)),
    )
    yield
    use_clock(clock)
    use_random(random_source)
    use_store(store)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example.expression for _, example in EXAMPLES])
def test_example_gives_its_documented_result(name: str, example: tuple[str, str]) -> None:
    """The examples are published in the reference."""
    if name == "jq":
        pytest.importorskip("jq")
    expression, expected = example
    rule = compile_rule(f'SELECT {expression} AS result FROM "#"', rule_id="example")
    client = ClientIdentity("c1", "u1", "127.0.0.1:52918")
    row = rule.evaluate(Message("t/a", b"{}", 1, False, False, client, 1_722_945_600_123))
    assert encode(row["result"]).decode() == expected
