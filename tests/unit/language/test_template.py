"""Templates: EMQX's placeholders with their meaning, typed by where they stand; Jinja2; SQL parameters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, RejectError
from engine.language.template import KindName, Template, TemplateError, sql_parameters
from engine.model import jsontext

ROW: dict[str, Any] = {
    "i": 1,
    "f": 1.5,
    "n": None,
    "t": True,
    "m": {"k": [1, {"x": None}], "a.b": 2},
    "l": [1, 2],
    "payload": '{"a":{"b":1},"j":"{\\"z\\":9}"}',
    "s": 'say "hi"\n',
    "device": "d/1 ü",
    "up": "..",
    "wild": "a/+/b",
    "raw": b"\xff\x00",
    "a-b": "dash",
    "big": 123456789012345678901234567890,
}


def render(text: str, kind: KindName = "text", **options: Any) -> str:
    return Template.compile(text, kind=kind, **options).render(ROW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${i}-${f} ${t}", "1-1.5 true"),
        ("${m}", '{"k":[1,{"x":null}],"a.b":2}'),
        ("${m.k}", '[1,{"x":null}]'),
        ("${m.k[0]}|${m.k[-1]}|${m.k[7]}", '1|{"x":null}|null'),
        ("${m.\"a.b\"}${m.'a.b'}", "22"),
        ("${payload.a.b} ${payload.a}", '1 {"b":1}'),
        ("${payload.j.z}", "9"),
        ("${.i}${ i }", "11"),
        ("$${i} ${$}{i} $x {i}", "$1 ${i} $x {i}"),
        ("${a-b}", "dash"),
        ("${big}", "123456789012345678901234567890"),
        ("${n}${nope}${m.k.x}", "nullnullnull"),
        ("${nope:-none}${n:-}${i:-9}", "none1"),
        ("${m.k[9]:-a: b}", "a: b"),
    ],
)
def test_placeholders_are_written_as_emqx_writes_them(text: str, expected: str) -> None:
    """Templates that people bring along from EMQX must come out as they did there."""
    assert render(text) == expected


def test_the_whole_row_is_json() -> None:
    """`${.}` is the default of most payloads; bytes that are no UTF-8 are marked, not lost."""
    assert jsontext.decode(render("${.}"))["raw"] == {"$base64": "/wA="}
    assert render("${}") == render("${.}")


@pytest.mark.parametrize("text", ["${", "${a", "a ${a b} c", "${a..b}", "${[0]}", "${a.}", "${a[x]}", "${!}", "${:-x}"])
def test_what_looks_like_a_placeholder_and_is_none_is_a_mistake(text: str) -> None:
    """EMQX leaves it in the text, where nobody finds it; here it is found when the configuration is read."""
    with pytest.raises(ConfigError) as caught:
        Template.compile(text, kind="text")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("missing", "expected"), [("null", "a null null"), ("empty", "a  "), ("undefined", "a undefined undefined")]
)
def test_missing_values_become_what_was_asked_for(missing: Any, expected: str) -> None:
    """Null and missing are one thing in a row; what stands for them is the sink's choice."""
    assert render("a ${nope} ${n}", missing=missing) == expected


def test_a_required_value_rejects_the_record() -> None:
    """The rejection names the placeholder: it is what a person reads in the dead letter."""
    with pytest.raises(RejectError, match=r"\$\{nope!\} has no value"):
        render("${nope!}")
    with pytest.raises(TemplateError):
        render("${n}", missing="error")
    assert render("${i!}") == "1"


def test_a_lone_placeholder_keeps_its_kind() -> None:
    """A number must reach a database as a number, and bytes a bytea column as bytes."""
    for name in ("i", "f", "n", "t", "m", "raw", "big"):
        assert Template.compile(f"${{{name}}}", kind="sql").value(ROW) is ROW[name]
    assert Template.compile("${m.k[0]}", kind="text").value(ROW) == 1
    assert Template.compile("${nope}", kind="sql").value(ROW) is None
    assert Template.compile("x${i}", kind="sql").value(ROW) == "x1"
    assert Template.compile("5", kind="text").value(ROW) == "5"


def test_bytes_stay_bytes() -> None:
    """A binary payload passes through unchanged; only a text has no place for it."""
    template = Template.compile("${raw}", kind="text")
    assert template.render_bytes(ROW) == b"\xff\x00"
    assert Template.compile("ü${raw}${i}", kind="text").render_bytes(ROW) == b"\xc3\xbc\xff\x001"
    with pytest.raises(TemplateError, match="bytes"):
        template.render(ROW)


def test_constants_and_names_are_known_before_any_record() -> None:
    """A sink prepares for a constant route once, and asks for the record only where a template does."""
    constant = Template.compile("a/${$}b", kind="topic")
    assert (constant.is_constant, constant.names, constant.render({})) == (True, (), "a/$b")
    assert Template.compile("x/${_id}/${a.b}/${_id}", kind="topic").names == ("_id", "a")
    assert Template.compile("{{ a.b }} {% for x in c %}{{ x }}{% endfor %}", kind="text").names == ("a", "c")


def test_json_takes_values_as_json() -> None:
    """Quotes and line breaks in a value can't break out of a JSON body, with quotes around it or without."""
    text = '{"s": "${s}", "bare": ${s}, "i": ${i}, "is": "${i}", "n": "${n}", "x": ${nope}, "in": "<${s}${n}>"}'
    assert jsontext.decode(render(text, "json")) == {
        "s": ROW["s"], "bare": ROW["s"], "i": 1, "is": "1", "n": None, "x": None, "in": f"<{ROW['s']}>",
    }  # fmt: skip


def test_json_in_a_text_is_put_in_as_json() -> None:
    """`{"data": ${payload}}` embeds the payload in EMQX, and so it does here; other texts become JSON strings."""
    assert jsontext.decode(render('{"data": ${payload}, "text": "${payload}"}', "json")) == {
        "data": jsontext.decode(ROW["payload"]),
        "text": ROW["payload"],
    }
    assert render("[${x}]", "json").__class__ is str
    assert Template.compile("[${x}]", kind="json").render({"x": '{"a":1}, {"b":2}'}) == '["{\\"a\\":1}, {\\"b\\":2}"]'


def test_an_escaped_quote_does_not_end_a_json_string() -> None:
    """What is inside of a string is found by reading the text as JSON does."""
    assert jsontext.decode(render(r'{"a": "\"${i}", "b\\": "${i}\\"}', "json")) == {"a": '"1', "b\\": "1\\"}


def test_a_json_template_that_is_no_json_is_a_mistake() -> None:
    """A missing brace is found when the configuration is read, not by the server that gets the body."""
    with pytest.raises(ConfigError, match="not JSON"):
        Template.compile('{"a": ${i}', kind="json")


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{"a": "${s}"}', "json"), ("[${i}]", "json"), ("${payload}", "text"), ("{${i}", "text"), ("${i} ${f}", "text")],
)
def test_a_payload_is_json_where_it_looks_so(text: str, kind: str) -> None:
    """Whoever writes a JSON payload must not have to say so."""
    assert Template.compile(text, kind="payload").kind == kind


@given(value=st.text() | st.integers() | st.floats(allow_nan=False) | st.none() | st.booleans() | st.binary())
def test_no_value_breaks_a_json_body(value: Any) -> None:
    """The body stays one object with the keys that the author wrote, whatever a device sends."""
    text = Template.compile('{"a": "${x}", "b": ${x}, "c": "(${x})", "d": 1}', kind="json").render({"x": value})
    assert list(jsontext.decode(text)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("topic", "alarms/${device}", "alarms/d/1 ü"),
        ("kafka_topic", "line-${i}", "line-1"),
        ("path", "data/${device}.log", "data/d/1 ü.log"),
        ("path", "../data/${i}.log", "../data/1.log"),
        ("url_path", "http://h/${device}?q=${f}&s=${i}", "http://h/d%2F1%20%C3%BC?q=1.5&s=1"),
        ("url_path", "/in/{{ device }}", "/in/d%2F1%20%C3%BC"),
        ("header", "Bearer ${i}", "Bearer 1"),
        ("header", "${nope}", ""),
    ],
)
def test_places_get_what_may_stand_there(kind: KindName, text: str, expected: str) -> None:
    """A value fits into its place by being encoded for it."""
    assert render(text, kind) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("topic", "a/${wild}"),
        ("topic", "a/${nope}"),
        ("topic", "a/${n}"),
        ("topic", "a/${raw}"),
        ("kafka_topic", "k-${device}"),
        ("path", "data/${up}/x"),
        ("path", "data/a${nope}"),
        ("path", "data/${s}"),
        ("url_path", "http://h/a/${up}/b"),
        ("url_path", "http://h/a/{{ up }}/b"),
        ("url_path", "http://h/${nope}"),
        ("header", "a ${s}"),
    ],
)
def test_places_reject_what_may_not_stand_there(kind: KindName, text: str) -> None:
    """The record becomes a dead letter with the reason; it must not go where it was not meant to."""
    with pytest.raises(RejectError):
        render(text, kind)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("topic", "${device}/state"),
        ("kafka_topic", "${device}"),
        ("path", "${device}"),
        ("path", "{{ device }}/x"),
        ("url_path", "${device}"),
        ("url_path", "http://${device}/in"),
        ("url_path", "http://h${device}/in"),
        ("url_path", "http://user${device}@h/"),
        ("url_path", "${scheme}://h/in"),
    ],
)
def test_a_message_alone_decides_no_place(kind: KindName, text: str) -> None:
    """Whoever can publish would otherwise choose the topic, the file or the host."""
    with pytest.raises(ConfigError, match="decided by the message alone") as caught:
        Template.compile(text, kind=kind)
    assert "allow_unconfined: true" in str(caught.value.remedy)
    assert not Template.compile(text, kind=kind, allow_unconfined=True).is_constant


def test_unconfined_places_keep_their_rules() -> None:
    """Free to choose the topic is not free to publish to $SYS, nor to leave the folder."""
    for kind, value in (("topic", "$SYS/x"), ("path", "/etc/passwd"), ("path", "../x"), ("kafka_topic", "..")):
        template = Template.compile("${x}", kind=kind, allow_unconfined=True)  # type: ignore[arg-type]
        with pytest.raises(RejectError):
            template.render({"x": value})


def test_a_constant_that_can_never_work_is_a_mistake() -> None:
    """A wildcard in a fixed topic would reject every record; better not to start with it."""
    for kind, text in (("topic", "a/#"), ("kafka_topic", "a b"), ("path", ""), ("header", "a\nb")):
        with pytest.raises(ConfigError):
            Template.compile(text, kind=kind)  # type: ignore[arg-type]


def test_jinja_expressions_are_written_like_placeholders() -> None:
    """true is not True, null is not None, and a JSON payload has fields, also here."""
    text = "{{ t }} {{ n }} {{ f }} {{ m.k }} {{ payload.a.b }} {{ s|upper|trim }} {% for x in l %}{{ x }},{% endfor %}"
    assert render(text) == 'true null 1.5 [1,{"x":null}] 1 SAY "HI" 1,2,'
    assert render("{{ nope }}|{{ nope.x if nope }}") == "null|null"


def test_jinja_loops_know_their_place_and_length() -> None:
    """Loops are timed, which must not take from them what Jinja2's own have."""
    text = "{% for x in l %}{{ loop.index }}/{{ loop.length }}={{ x }}{{ '' if loop.last else ',' }}{% endfor %}"
    assert render(text) == "1/2=1,2/2=2"
    assert render("{% for x in nope %}{{ x }}{% else %}none{% endfor %}") == "none"


def test_jinja_results_are_checked() -> None:
    """Jinja2 knows nothing of JSON: what comes out is looked at before it is sent."""
    assert render('{"s": {{ s|tojson }}, "l": {{ l }}}', "json") == '{"s": "say \\"hi\\"\\n", "l": [1,2]}'
    with pytest.raises(TemplateError, match="not JSON"):
        render('{"s": "{{ s }}"}', "json")
    with pytest.raises(TemplateError):
        render("a/{{ nope }}", "topic")


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}{{ nope! }}",
        "{{ 'a' * 100000000 }}",
        "{{ 10 ** 100000 }}",
        "{{ range(100000000)|list|length }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% if a < 0 %}x{% endif %}{% endfor %}{% endfor %}",
        "{% set x %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endset %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% if a == 10000 %}x{% endif %}{% endfor %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ i.x.y }}",
    ],
)
def test_jinja_is_bounded(text: str) -> None:
    """A template may neither reach into Python nor take the broker's time or memory."""
    started = time.perf_counter()
    with pytest.raises((ConfigError, TemplateError)):
        render(text)
    assert time.perf_counter() - started < 5


def test_a_broken_jinja_template_is_a_mistake_with_its_line() -> None:
    """The line counts within the template's text."""
    with pytest.raises(ConfigError) as caught:
        Template.compile("a\n{{ b", kind="text")
    assert caught.value.position is not None
    assert caught.value.position.line == 2


@pytest.mark.parametrize(
    ("text", "statement", "sources"),
    [
        ("INSERT INTO t VALUES (${a}, ${b})", "INSERT INTO t VALUES ($1, $2)", ["${a}", "${b}"]),
        ("VALUES ('${a}', \"${b}\", 'it''s ${c}')", "VALUES ($1, $2, $3)", ["${a}", "${b}", "it's ${c}"]),
        ("VALUES ('x', ${a:-b}) -- ${c}\n/* ${d} */", "VALUES ('x', $1) -- ${c}\n/* ${d} */", ["${a:-b}"]),
        ("SELECT ${m.\"it's\"}::int, $$ body $$, '${$}'", "SELECT $1::int, $$ body $$, $2", ['${m."it\'s"}', "${$}"]),
        ("SELECT ${$}", "SELECT $", []),
    ],
)
def test_sql_takes_values_as_parameters(text: str, statement: str, sources: list[str]) -> None:
    """No value ever becomes part of a statement, quotes around its placeholder or not."""
    found, templates = sql_parameters(text)
    assert (found, [template.source for template in templates]) == (statement, sources)


def test_sql_parameters_have_the_drivers_style() -> None:
    """SQLite counts question marks."""
    assert sql_parameters("VALUES (${a}, 'x${b}')", style="?")[0] == "VALUES (?, ?)"


@pytest.mark.parametrize(
    "text",
    ['INSERT INTO "t_${a}" VALUES (1)', "SELECT E'${a}'", "SELECT $x$${a}$x$", "VALUES ({{ a }})", "VALUES (${a)"],
)
def test_sql_refuses_what_can_be_no_parameter(text: str) -> None:
    """A table chosen by a message, or text pasted into code, is a hole; it is refused when the sink is configured."""
    with pytest.raises(ConfigError):
        sql_parameters(text)
