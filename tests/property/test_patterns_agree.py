"""Regular expressions: the linear and the backtracking engine give the same results."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.language.functions import pattern
from engine.language.functions.pattern import regex_extract, regex_match, regex_replace

ATOMS = st.sampled_from(
    ["a", "b", "é", ".", r"\d", r"\w", "[ab]", "[^a]", "[[:alpha:]]", r"\b", "^", "$", r"\.", "(?i:A)"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "+?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        )
        | st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})")
        | inner.map(lambda p: f"({p})")
    ),
    max_leaves=6,
)
SUBJECTS = st.text("abAé1.\n", max_size=10)


@given(source=PATTERNS, subject=SUBJECTS)
@settings(max_examples=400, deadline=None)
def test_both_engines_give_the_same_results(source: str, subject: str) -> None:
    """The choice of the engine must change the speed of a rule only."""
    linear = _answers(subject, source)
    slow = _answers(subject, f"(?=){source}")
    assert linear == slow


def _answers(subject: str, source: str) -> list[object]:
    return [
        regex_match(subject, source),
        regex_extract(subject, source),
        regex_replace(subject, source, "<&>"),
    ]


def test_look_around_is_matched_by_the_backtracking_engine() -> None:
    """The comparison above relies on it."""
    assert pattern._compiled("test", "(?=)a").linear is None
    assert pattern._compiled("test", "a").linear is not None
