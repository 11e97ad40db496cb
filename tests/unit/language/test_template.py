"""Templates: EMQX's placeholders, kinds of templates, Jinja2, SQL parameters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, RejectError
from engine.language.template import Template, TemplateError, TemplateKindName, sql_parameters
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


def render(text: str, kind: TemplateKindName = "text", **options: Any) -> str:
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
def test_placeholder_is_rendered_as_in_emqx(text: str, expected: str) -> None:
    """Templates are moved from EMQX unchanged."""
    assert render(text) == expected


def test_placeholder_of_the_whole_row_is_json() -> None:
    """`${.}` is the default of most payloads; bytes that are not UTF-8 are kept as base64."""
    assert jsontext.decode(render("${.}"))["raw"] == {"$base64": "/wA="}
    assert render("${}") == render("${.}")


@pytest.mark.parametrize("text", ["${", "${a", "a ${a b} c", "${a..b}", "${[0]}", "${a.}", "${a[x]}", "${!}", "${:-x}"])
def test_broken_placeholder_is_a_configuration_error(text: str) -> None:
    """EMQX leaves it in the text, unnoticed."""
    with pytest.raises(ConfigError) as caught:
        Template.compile(text, kind="text")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("missing", "expected"), [("null", "a null null"), ("empty", "a  "), ("undefined", "a undefined undefined")]
)
def test_missing_value_is_written_by_its_policy(missing: Any, expected: str) -> None:
    """Null and missing are treated alike; the sink chooses the policy."""
    assert render("a ${nope} ${n}", missing=missing) == expected


def test_missing_required_value_rejects_the_record() -> None:
    """The dead letter shows the reason, which names the placeholder."""
    with pytest.raises(RejectError, match=r"expected a value for \$\{nope!\}"):
        render("${nope!}")
    with pytest.raises(TemplateError):
        render("${n}", missing="error")
    assert render("${i!}") == "1"


def test_single_placeholder_keeps_the_kind_of_its_value() -> None:
    """A number must reach a database as a number, and bytes as bytes."""
    for name in ("i", "f", "n", "t", "m", "raw", "big"):
        assert Template.compile(f"${{{name}}}", kind="sql").value(ROW) is ROW[name]
    assert Template.compile("${m.k[0]}", kind="text").value(ROW) == 1
    assert Template.compile("${nope}", kind="sql").value(ROW) is None
    assert Template.compile("x${i}", kind="sql").value(ROW) == "x1"
    assert Template.compile("5", kind="text").value(ROW) == "5"


def test_binary_data_is_unchanged_in_rendered_bytes() -> None:
    """A binary payload must reach the sink unchanged; text can't hold it."""
    template = Template.compile("${raw}", kind="text")
    assert template.render_bytes(ROW) == b"\xff\x00"
    assert Template.compile("ü${raw}${i}", kind="text").render_bytes(ROW) == b"\xc3\xbc\xff\x001"
    with pytest.raises(TemplateError, match="bytes"):
        template.render(ROW)


@pytest.mark.parametrize("text", ["${x}", "a${x}", "ü${raw}${x}", "{{ x }}", r"{{ '\ud83d' }}"])
def test_half_of_a_surrogate_pair_rejects_the_record(text: str) -> None:
    """UTF-8 has no such text: an error of the encoder would end the batch of the record."""
    with pytest.raises(TemplateError, match="half of a surrogate pair"):
        Template.compile(text, kind="text").render_bytes(ROW | {"x": "\ud83d"})


def test_constant_templates_and_column_names_are_known_when_compiled() -> None:
    """A sink prepares a constant route once, and makes records only where a template needs them."""
    constant = Template.compile("a/${$}b", kind="topic")
    assert (constant.is_constant, constant.names, constant.render({})) == (True, (), "a/$b")
    assert Template.compile("x/${_id}/${a.b}/${_id}", kind="topic").names == ("_id", "a")
    assert Template.compile("{{ a.b }} {% for x in c %}{{ x }}{% endfor %}", kind="text").names == ("a", "c")


def test_values_in_json_are_written_as_json() -> None:
    """Quotes and line feeds in a value must not end its string, with quotes around the placeholder or without."""
    text = '{"s": "${s}", "bare": ${s}, "i": ${i}, "is": "${i}", "n": "${n}", "x": ${nope}, "in": "<${s}${n}>"}'
    assert jsontext.decode(render(text, "json")) == {
        "s": ROW["s"], "bare": ROW["s"], "i": 1, "is": "1", "n": None, "x": None, "in": f"<{ROW['s']}>",
    }  # fmt: skip


def test_text_that_is_json_is_written_unchanged_in_json() -> None:
    """`{"data": ${payload}}` embeds the payload, as in EMQX; other texts become JSON strings."""
    assert jsontext.decode(render('{"data": ${payload}, "text": "${payload}"}', "json")) == {
        "data": jsontext.decode(ROW["payload"]),
        "text": ROW["payload"],
    }
    assert render("[${x}]", "json").__class__ is str
    assert Template.compile("[${x}]", kind="json").render({"x": '{"a":1}, {"b":2}'}) == '["{\\"a\\":1}, {\\"b\\":2}"]'


def test_escaped_quote_does_not_end_a_json_string() -> None:
    """Otherwise a placeholder within a string would be written with quotes of its own."""
    assert jsontext.decode(render(r'{"a": "\"${i}", "b\\": "${i}\\"}', "json")) == {"a": '"1', "b\\": "1\\"}


def test_json_template_that_is_not_json_is_a_configuration_error() -> None:
    """A missing brace must be found before a server receives the body."""
    with pytest.raises(ConfigError, match="expected JSON"):
        Template.compile('{"a": ${i}', kind="json")


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{"a": "${s}"}', "json"), ("[${i}]", "json"), ("${payload}", "text"), ("{${i}", "text"), ("${i} ${f}", "text")],
)
def test_payload_is_json_where_the_text_around_placeholders_is(text: str, kind: str) -> None:
    """Users do not have to declare a JSON payload."""
    assert Template.compile(text, kind="payload").kind == kind


@given(value=st.text() | st.integers() | st.floats(allow_nan=False) | st.none() | st.booleans() | st.binary())
def test_no_value_changes_the_structure_of_a_json_body(value: Any) -> None:
    """The body is one object with the author's keys for any value of a device."""
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
def test_value_is_encoded_for_the_kind_of_its_template(kind: TemplateKindName, text: str, expected: str) -> None:
    """A slash of a device name must not add a segment to a URL."""
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
def test_value_that_the_kind_does_not_allow_is_rejected(kind: TemplateKindName, text: str) -> None:
    """The record becomes a dead letter; it must not be sent to another destination."""
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
def test_routing_template_without_constant_prefix_is_a_configuration_error(kind: TemplateKindName, text: str) -> None:
    """Any client that may publish would choose the topic, the file or the host."""
    with pytest.raises(ConfigError, match="that begins with") as caught:
        Template.compile(text, kind=kind)
    assert "allow_unconfined: true" in str(caught.value.remedy)
    assert not Template.compile(text, kind=kind, allow_unconfined=True).is_constant


def test_unconfined_templates_keep_the_checks_of_their_kind() -> None:
    """A value that may choose the topic must not choose `$SYS`, nor leave the folder."""
    for kind, value in (("topic", "$SYS/x"), ("path", "/etc/passwd"), ("path", "../x"), ("kafka_topic", "..")):
        template = Template.compile("${x}", kind=kind, allow_unconfined=True)  # type: ignore[arg-type]
        with pytest.raises(RejectError):
            template.render({"x": value})


def test_constant_that_its_kind_does_not_allow_is_a_configuration_error() -> None:
    """A wildcard in a constant topic would reject every record."""
    for kind, text in (("topic", "a/#"), ("kafka_topic", "a b"), ("path", ""), ("header", "a\nb")):
        with pytest.raises(ConfigError):
            Template.compile(text, kind=kind)  # type: ignore[arg-type]


def test_jinja_expressions_are_written_as_placeholders_are() -> None:
    """true is not True, null is not None, and a JSON payload has fields."""
    text = "{{ t }} {{ n }} {{ f }} {{ m.k }} {{ payload.a.b }} {{ s|upper|trim }} {% for x in l %}{{ x }},{% endfor %}"
    assert render(text) == 'true null 1.5 [1,{"x":null}] 1 SAY "HI" 1,2,'
    assert render("{{ nope }}|{{ nope.x if nope }}") == "null|null"


def test_jinja_loops_have_index_and_length() -> None:
    """The time checks in loops must not change the variable `loop`."""
    text = "{% for x in l %}{{ loop.index }}/{{ loop.length }}={{ x }}{{ '' if loop.last else ',' }}{% endfor %}"
    assert render(text) == "1/2=1,2/2=2"
    assert render("{% for x in nope %}{{ x }}{% else %}empty{% endfor %}") == "empty"


def test_jinja_result_is_checked_by_its_kind() -> None:
    """Jinja2 has no notion of JSON or topics."""
    assert render('{"s": {{ s|tojson }}, "l": {{ l }}}', "json") == '{"s": "say \\"hi\\"\\n", "l": [1,2]}'
    with pytest.raises(TemplateError, match="expected a result that is JSON"):
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
def test_jinja_template_is_bounded_in_time_memory_and_access(text: str) -> None:
    """A template must not reach Python's objects, nor block the broker."""
    started = time.thread_time()
    with pytest.raises((ConfigError, TemplateError)):
        render(text)
    assert time.thread_time() - started < 5


def test_broken_jinja_template_is_a_configuration_error_with_its_line() -> None:
    """Users find the mistake by its line."""
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
def test_placeholders_of_sql_become_parameters(text: str, statement: str, sources: list[str]) -> None:
    """No value may become part of a statement, with quotes around its placeholder or without."""
    found, templates = sql_parameters(text)
    assert (found, [template.source for template in templates]) == (statement, sources)


def test_sql_parameters_have_the_style_of_the_driver() -> None:
    """SQLite has question marks."""
    assert sql_parameters("VALUES (${a}, 'x${b}')", style="?")[0] == "VALUES (?, ?)"


@pytest.mark.parametrize(
    "text",
    ['INSERT INTO "t_${a}" VALUES (1)', "SELECT E'${a}'", "SELECT $x$${a}$x$", "VALUES ({{ a }})", "VALUES (${a)"],
)
def test_placeholder_that_can_not_be_a_parameter_is_a_configuration_error(text: str) -> None:
    """A table chosen by a message, or text inserted into code, would be an SQL injection."""
    with pytest.raises(ConfigError):
        sql_parameters(text)
