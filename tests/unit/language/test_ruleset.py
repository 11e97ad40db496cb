"""The index of compiled rules by topic and by event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.topics import topic_matches
from engine.language.rulefile import read_rule_file
from engine.language.ruleset import Rule, Ruleset

LEVELS = st.sampled_from(["a", "b", "", "$SYS", "c"])
FILTER_LEVELS = st.sampled_from(["a", "b", "", "$SYS", "c", "+", "a+", "#"])


def rule(rule_id: str, *topic_filters: str, enabled: bool = True) -> Rule:
    items = ", ".join(f'"{topic_filter}"' for topic_filter in topic_filters)
    text = f"-- enabled: {str(enabled).lower()}\nSELECT 1 AS x FROM {items}"
    made, _ = read_rule_file(text, rule_id=rule_id, path=f"{rule_id}.sql").in_project([])
    assert made is not None
    return made


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(FILTER_LEVELS, min_size=1, max_size=4))
    return "/".join(levels + (["#"] if draw(st.booleans()) else []))


@given(st.lists(filters(), max_size=8), st.lists(LEVELS, min_size=1, max_size=5))
def test_rules_of_a_topic_are_those_whose_filter_matches(topic_filters: list[str], levels: list[str]) -> None:
    """The index agrees with one comparison per filter, for filters that are not well-formed as well."""
    ruleset = Ruleset(rule(f"r{number}", topic_filter) for number, topic_filter in enumerate(topic_filters))
    topic = "/".join(levels)
    expected = [f"r{number}" for number, topic_filter in enumerate(topic_filters) if topic_matches(topic_filter, topic)]
    assert [found.id for found in ruleset.for_topic(topic)] == sorted(expected)


def test_rule_with_several_matching_filters_is_found_once() -> None:
    """A message runs through a rule once, whatever its FROM overlaps with."""
    ruleset = Ruleset([rule("b", "t/+", "t/#", "t/a"), rule("a", "#")])
    assert [found.id for found in ruleset.for_topic("t/a")] == ["a", "b"]


def test_event_finds_rules_by_both_spellings_of_its_topic() -> None:
    """Rules written for any version of EMQX name events either way; publishes on such a topic match no rule."""
    topic_filters = (
        "$events/client/connected",
        "$events/client_connected",
        "$events/client/+",
        "$events/#",
        "#",
        "+/#",
    )
    ruleset = Ruleset(rule(f"r{number}", item) for number, item in enumerate(topic_filters))
    for topic in ("$events/client/connected", "$events/client_connected"):
        assert [found.id for found in ruleset.for_event(topic)] == ["r0", "r1", "r2", "r3"]
        assert ruleset.for_topic(topic) == ()
    assert [found.id for found in ruleset.for_event("$events/unknown")] == ["r3"]


def test_disabled_rule_is_kept_and_never_found() -> None:
    """It is listed, and it selects nothing."""
    ruleset = Ruleset([rule("off", "t", "$events/client/connected", enabled=False)])
    assert list(ruleset.rules) == ["off"]
    assert ruleset.for_topic("t") == ruleset.for_event("$events/client/connected") == ()


def test_a_rule_with_changed_topics_is_found_by_the_new_ones_after_a_reload() -> None:
    """The index is shared between two sets only where every rule selects the same in both."""
    before = Ruleset([rule("a", "t"), rule("b", "u")])
    for changed, topic, expected in (
        ([rule("a", "t"), rule("b", "v")], "v", ["b"]),
        ([rule("a", "t"), rule("b", "u", enabled=False)], "u", []),
        ([rule("a", "t")], "u", []),
        ([rule("a", "t"), rule("b", "u"), rule("c", "u")], "u", ["b", "c"]),
    ):
        assert [found.id for found in Ruleset(changed, previous=before).for_topic(topic)] == expected
    edited = rule("b", "u")
    assert Ruleset([rule("a", "t"), edited], previous=before).for_topic("u") == (edited,)
