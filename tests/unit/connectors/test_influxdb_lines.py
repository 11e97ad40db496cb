"""Points in line protocol: templates, types, escaping and timestamps, read back by a parser written for this test."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.influxdb.lines import BatchLines, LineEncoder
from connectors.influxdb.options import InfluxdbConfig
from connectors.influxdb.syntax import parse_write_syntax
from engine.errors import ConfigError, RejectError
from engine.model.record import Row
from support.sinks.harness import batch_of

TIME_MS = 1_700_000_000_001
"""The time of the message of the first record of `batch_of`."""


def encoded(rows: list[Row], **options: Any) -> BatchLines:
    defaults: dict[str, Any] = {"type": "influxdb", "url": "http://influxdb:8086", "database": "d"}
    if "write_syntax" not in options:
        defaults |= {"measurement": "m", "timestamp": "1"}
    config = InfluxdbConfig.model_validate({**defaults, **options})
    config.check()
    return LineEncoder(config).encode(batch_of(rows))


def line(row: Row, **options: Any) -> str:
    lines = encoded([row], **options)
    assert not lines.failures, lines.failures[0].message
    return lines.texts[0].decode()


def refusal(row: Row, **options: Any) -> str:
    error = encoded([row], **options).failures[0]
    assert isinstance(error, RejectError)
    return error.message


# A parser of line protocol, by its reference and not by the code under test.


def parsed(text: str) -> tuple[str, dict[str, str], dict[str, Any], int]:
    """Return measurement, tags, fields and timestamp of a line."""
    measurement, at = element(text, 0, ", ", escapes=", ")
    tags: dict[str, str] = {}
    while text[at] == ",":
        key, at = element(text, at + 1, "=")
        tags[key], at = element(text, at + 1, ", ")
    fields: dict[str, Any] = {}
    while not fields or text[at] == ",":
        key, at = element(text, at + 1, "=")
        fields[key], at = field_value(text, at + 1)
    assert text[at] == " "
    return measurement, tags, fields, int(text[at + 1 :])


def element(text: str, at: int, ends: str, escapes: str = ",= ") -> tuple[str, int]:
    """Read up to one of `ends`. A backslash before one of `escapes` escapes it; any other backslash is one."""
    found = ""
    while text[at] not in ends:
        assert text[at] != "\n"
        if text[at] == "\\" and text[at + 1] in escapes:
            at += 1
        found += text[at]
        at += 1
    return found, at


def field_value(text: str, at: int) -> tuple[Any, int]:
    if text[at] == '"':
        found, at = "", at + 1
        while text[at] != '"':
            at += text[at] == "\\" and text[at + 1] in '\\"'
            found += text[at]
            at += 1
        return found, at + 1
    end = re.compile(r"[, ]").search(text, at)
    assert end is not None
    return plain_value(text[at : end.start()]), end.start()


def plain_value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text[-1] in "iu" else float(text)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t"), min_size=1, max_size=12).filter(
    lambda text: not text.endswith("\\")
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(NAMES, TEXTS, st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_lines_are_read_back_as_they_were(tag: str, text: str, number: float, count: int, flag: bool) -> None:
    """Hypothesis searches for values that change the structure of a line."""
    row = {"tag": tag, "text": text, "number": number, "count": count, "flag": flag}
    fields = {"text": "${text}", "number": "${number}", "count": "${count}i", "flag": "${flag}"}
    found = parsed(line(row, measurement="m ${tag}", tags={"a tag": "${tag}"}, fields=fields))
    assert found == (
        f"m {tag}",
        {"a tag": tag},
        {"text": text, "number": number, "count": count, "flag": flag},
        1,
    )


@given(
    st.dictionaries(NAMES.filter(lambda name: name != "timestamp"), TEXTS | st.integers(-(2**53), 2**53), min_size=1)
)
def test_all_columns_are_read_back_by_their_names(row: dict[str, Any]) -> None:
    """Without `fields`, devices may choose the keys."""
    assert parsed(line(row))[2] == row


def test_fields_have_the_types_of_their_values_and_suffixes() -> None:
    """Numbers are floats unless the suffix says otherwise, so that 21 and 21.5 do not conflict."""
    fields = {
        "f": "${n}", "i": "${n}i", "u": "${n}u", "s": '"${n}"', "mixed": "no ${n}", "b": "${b}", "t": "${t}",
        "map": "${map}", "one": "1.5", "two": "2i", "yes": "true", "word": "room", "quoted": '"7"',
    }  # fmt: skip
    text = line({"n": 21, "b": True, "t": "x", "map": {"a": [1]}}, fields=fields)
    assert text == (
        'm f=21,i=21i,u=21u,s="21",mixed="no 21",b=true,t="x",map="{\\"a\\":[1]}",one=1.5,two=2i,yes=true,'
        'word="room",quoted="7" 1'
    )


@pytest.mark.parametrize(
    ("value", "template", "expected"),
    [
        (2**63 - 1, "${v}i", "9223372036854775807i"),
        (-(2**63), "${v}i", "-9223372036854775808i"),
        (2**64 - 1, "${v}u", "18446744073709551615u"),
        (3.0, "${v}i", "3i"),
        ("42", "${v}i", "42i"),
        (2**53 + 2, "${v}", "9007199254740994"),
        (1e300, "${v}", "1e+300"),
        (-0.0, "${v}", "-0.0"),
        (b"text", "${v}", '"text"'),
        ("two\nlines", "${v}", '"two\nlines"'),
        ('a"b\\', "${v}", '"a\\"b\\\\"'),
        ("", "${v}", '""'),
    ],
)
def test_values_that_are_stored(value: Any, template: str, expected: str) -> None:
    """Bounds of each type, and the escaping of text."""
    assert line({"v": value}, fields={"x": template}) == f"m x={expected} 1"


@pytest.mark.parametrize(
    ("value", "template", "words"),
    [
        (2**63, "${v}i", "field x is 9223372036854775808, which exceeds a signed integer of 64 bits"),
        (-1, "${v}u", "exceeds an unsigned integer"),
        (2**64, "${v}u", "exceeds an unsigned integer"),
        (1.5, "${v}i", "field x is 1.5, a float; expected a signed integer"),
        ("warm", "${v}i", 'field x is "warm", text; expected'),
        (True, "${v}i", "a boolean; expected"),
        (2**53 + 1, "${v}", "can't hold exactly; write it as an integer, with the suffix i"),
        (10**400, "${v}", "can't hold exactly"),
        (math.nan, "${v}", "field x is nan, which InfluxDB can't store"),
        (-math.inf, "${v}", "field x is -inf"),
        (b"\xff", "${v}", "field x is binary data that is not UTF-8"),
        ("\ud800", "${v}", "lone surrogate"),
        (None, "${v}", "no field of the point has a value, and a point needs one"),
    ],
)
def test_values_that_are_rejected_with_a_reason(value: Any, template: str, words: str) -> None:
    """Each reason names the field."""
    assert words in refusal({"v": value}, fields={"x": template})


def test_integers_may_stay_integers() -> None:
    """`integers: integer` writes them as such, also in the columns of the default."""
    assert line({"n": 2**53 + 1, "f": 1.5}, integers="integer") == "m n=9007199254740993i,f=1.5 1"
    assert "64 bits" in refusal({"n": 2**63}, integers="integer")


def test_missing_values_are_left_out() -> None:
    """Null, missing and empty tags; a tag and a field without a value."""
    tags = {"a": "${a}", "b": "${b}", "c": "${c}", "d": "${a}-${d}"}
    text = line({"a": None, "c": "", "d": "x", "n": 1}, tags=tags, fields={"n": "${n}", "o": "${o}", "p": "${a}"})
    assert text == "m,d=-x n=1 1"


def test_columns_named_elsewhere_are_no_fields() -> None:
    """Without `fields`, the other columns are."""
    row = {"area": "hall", "device": "d1", "at": 5, "temp": 1.5, "note": None}
    text = line(row, measurement="climate_${area}", tags={"device": "${device}"}, timestamp="${at}")
    assert text == "climate_hall,device=d1 temp=1.5 5"


def test_names_are_escaped_and_line_breaks_written_as_letters() -> None:
    """A line break in a tag would begin another line."""
    text = line({"v": "a b,c=d\ne"}, measurement="m ${v}", tags={"t=": "${v}"}, fields={"f ": "1"})
    assert text == "m\\ a\\ b\\,c=d\\ne,t\\==a\\ b\\,c\\=d\\ne f\\ =1 1"


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"t": "a\\", "n": 1}, {"tags": {"t": "${t}"}}, "tag t ends with a backslash"),
        ({"t": "a\\"}, {"measurement": "m-${t}", "fields": {"x": "1"}}, "the measurement ends with a backslash"),
        ({"a\\": 1}, {}, "the key of a field ends with a backslash"),
        ({"": 1}, {}, "a field has an empty key"),
        ({"t": "#"}, {"measurement": "${t}", "allow_unconfined": True, "fields": {"x": "1"}}, "begins a comment"),
        ({"t": ""}, {"measurement": "${t}", "allow_unconfined": True, "fields": {"x": "1"}}, "found an empty text"),
        ({"n": 1}, {"measurement": "m_${t}"}, "expected a value for ${t}, found a missing one"),
    ],
)
def test_names_without_a_form_are_rejected(row: Row, options: dict[str, Any], words: str) -> None:
    """A backslash at the end would escape the separator behind it."""
    assert words in refusal(row, **options)


@pytest.mark.parametrize(
    ("value", "precision", "expected"),
    [
        (1_700_000_000, "s", "1700000000"),
        (1_700_000_000_123.9, "ms", "1700000000123"),
        ("1700000000123", "ms", "1700000000123"),
        ("2023-11-14T22:13:20Z", "s", "1700000000"),
        ("2023-11-14T23:13:20.123456789+01:00", "ns", "1700000000123456789"),
        ("2023-11-14 22:13:20.123456789Z", "us", "1700000000123456"),
        ("2023-11-14T22:13:20.5Z", "ms", "1700000000500"),
        ("1969-12-31T23:59:59.9Z", "s", "-1"),
        (9223372036854775806, "ns", "9223372036854775806"),
    ],
)
def test_timestamps(value: Any, precision: str, expected: str) -> None:
    """Numbers are units of the precision; times keep all digits that fit."""
    assert line({"at": value, "n": 1}, timestamp="${at}", precision=precision) == f"m n=1 {expected}"


@pytest.mark.parametrize(
    ("value", "precision", "words"),
    [
        ("yesterday", "ms", "expected a number of ms or a time like"),
        (math.nan, "ms", "expected a number of ms"),
        (True, "ms", "expected a number of ms"),
        ("2023-02-30T00:00:00Z", "ms", "not a time of the calendar"),
        (1_700_000_000_000, "s", "check `precision`"),
        (2**63 - 1, "ns", "not between the years 1677 and 2262"),
    ],
)
def test_impossible_timestamps_are_rejected(value: Any, precision: str, words: str) -> None:
    """Milliseconds in place of seconds are found."""
    assert words in refusal({"at": value, "n": 1}, timestamp="${at}", precision=precision)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(None, TIME_MS * 10**6 + 1), ("us", TIME_MS * 1000 + 1), ("ms", TIME_MS), ("s", TIME_MS // 1000)],
)
def test_time_of_the_message_is_the_default(precision: str | None, expected: int) -> None:
    """The sequence number below the millisecond keeps two points of one millisecond apart."""
    assert line({"n": 1}, timestamp=None, precision=precision) == f"m n=1 {expected}"
    assert line({"n": 1, "at": None}, timestamp="${at}") == f"m n=1 {TIME_MS}"


def test_bad_record_fails_alone() -> None:
    """Its neighbours have their lines."""
    lines = encoded([{"n": 1}, {"n": math.nan}, {"n": 3}])
    assert (list(lines.indices), list(lines.texts), list(lines.failures)) == ([0, 2], [b"m n=1 1", b"m n=3 1"], [1])


class TestWriteSyntax:
    def test_emqx_example(self) -> None:
        """A line copied from EMQX means the same here; the default precision is ms, as there."""
        syntax = 'climate,site=${site},unit=C temp=${temp},n=${n}i,ok=${ok},note="${note}",v="1.0" ${timestamp}'
        row = {"site": "a b", "temp": 21, "n": 3, "ok": False, "note": 'say "x"', "timestamp": 1_700_000_000_000}
        assert line(row, write_syntax=syntax) == (
            'climate,site=a\\ b,unit=C temp=21,n=3i,ok=false,note="say \\"x\\"",v="1.0" 1700000000000'
        )

    def test_missing_fields_and_tags_are_left_out(self) -> None:
        """As in EMQX; a line that loses all its fields is left out where another one has some."""
        syntax = "a,t=${t} x=${x},y=${y} 1\n\n# comment\nb z=${z}u 2\n"
        assert line({"x": 1}, write_syntax=syntax) == "a x=1 1"
        assert line({"x": 1, "z": 2}, write_syntax=syntax) == "a x=1 1\nb z=2u 2"
        assert "no field" in refusal({"t": 1}, write_syntax=syntax)

    def test_escapes_and_placeholders_hold_separators(self) -> None:
        """A backslash, quotes and placeholders keep text together."""
        (point,) = parse_write_syntax(r'a\ b,k\,1=${x."p q"} f\=1="a, b = ${c}",g={{ d ~ " " }} ${e}')
        assert point.measurement == "a b"
        assert point.tags == [("k,1", '${x."p q"}')]
        assert point.fields == [("f=1", '"a, b = ${c}"'), ("g", '{{ d ~ " " }}')]
        assert point.timestamp == "${e}"

    def test_keys_may_be_templates(self) -> None:
        """As in EMQX."""
        syntax = "m,${k}=x ${k}_v=${v} 1"
        assert line({"k": "a b", "v": 1}, write_syntax=syntax) == "m,a\\ b=x a\\ b_v=1 1"
        assert "found a missing one" in refusal({"v": 1}, write_syntax=syntax)

    @pytest.mark.parametrize("syntax", ["", "m", "m a=1 2 3", "m,t a=1", "m a", "m =1", "# only a comment"])
    def test_other_text_is_refused_with_the_form(self, syntax: str) -> None:
        """At load time."""
        with pytest.raises(ConfigError) as caught:
            parse_write_syntax(syntax)
        assert "measurement,tag=${x} field=${y} ${timestamp}" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"measurement": None}, "no point to write"),
        ({"write_syntax": "m a=1"}, "found `measurement` as well"),
        ({"fields": {}}, "`fields` is empty"),
        ({"database": None}, "InfluxDB 1 needs `database`"),
        ({"version": 2, "bucket": "b"}, "needs `org`"),
        ({"bucket": "b", "org": "o", "retention_policy": "r"}, "`retention_policy` is an option of InfluxDB 1"),
        ({"username": "u"}, "go together"),
        ({"username": "u", "password": "p", "token": "t"}, "two logins"),
        ({"token": "a\nb"}, "control character"),
        ({"url": "http://h:1/?x=1"}, "more than a path"),
        ({"url": "influxdb.plant"}, "must begin with http"),
        ({"measurement": "${area}"}, "begins with constant text"),
        ({"version": 4}, "version"),
        ({"tags": {"": "x"}}, "has no key"),
        ({"measurement": "m\\"}, "ends with a backslash"),
        ({"tags": {"t": "x\\"}}, "tag t ends with a backslash"),
        ({"fields": {"f\\": "1"}}, "the key of a field ends with a backslash"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    """When the project is loaded, not with the first record."""
    given = {"type": "influxdb", "url": "http://influxdb:8086", "database": "d", "measurement": "m", **options}
    with pytest.raises((ConfigError, ValidationError), match=re.escape(words)):
        new_encoder(given)


def new_encoder(options: dict[str, Any]) -> None:
    config = InfluxdbConfig.model_validate(options)
    config.check()
    LineEncoder(config)


@pytest.mark.parametrize(
    ("options", "url", "login"),
    [
        ({"database": "d b"}, "/write?db=d+b&precision=n", None),
        (
            {"database": "d", "retention_policy": "r", "consistency": "all", "username": "u", "password": "p",
             "precision": "us"},
            "/write?db=d&rp=r&consistency=all&precision=u", "Basic dTpw",
        ),
        ({"bucket": "b", "org": "o", "token": "t"}, "/api/v2/write?org=o&bucket=b&precision=ns", "Token t"),
        ({"database": "d", "token": "t"}, "/api/v3/write_lp?db=d&precision=nanosecond", "Bearer t"),
        ({"version": "victoriametrics", "precision": "ms", "token": "t"}, "/write?precision=ms", "Bearer t"),
    ],
)  # fmt: skip
def test_version_follows_from_the_options(options: dict[str, Any], url: str, login: str | None) -> None:
    """Each version has its own path, names of parameters and login. The URL holds no secret."""
    config = InfluxdbConfig.model_validate(
        {"type": "influxdb", "url": "http://h:8086/proxy/", "measurement": "m", **options}
    )
    config.check()
    assert config.write_url() == f"http://h:8086/proxy{url}"
    assert config.headers().get("Authorization") == login
