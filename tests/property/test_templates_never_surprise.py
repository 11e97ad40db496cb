"""Templates of any text with any row: a result, a `ConfigError` or a `TemplateError`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.language.template import Template, TemplateError, sql_parameters
from engine.language.template.kind import TEMPLATE_KINDS

PIECES = st.sampled_from(
    ["${", "}", "${a}", "${a.b}", "${.}", "${$}", "${a[0]}", '${"a"}', "${x:-", "!}", "'", '"', "\\", "{", "[", "/",
     "--", "{{", "}}", "{{ a }}", "{{ a.b[0] }}", "{% if a %}", "{% endif %}", "{% for b in a %}", "{% endfor %}",
     "|upper", "$$", r"{{ '\ud800' }}", "\ud800"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=6).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8)
    | st.sampled_from(["..", "/", "a/+/b", "$SYS", '{"b":[1]}', "[", "\r\n", "\ud800"])
    | st.builds(lambda bits: -(1 << bits), st.sampled_from([64, 80_000])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(["a", "b", "x"]), VALUES)


@pytest.mark.parametrize("kind", [*TEMPLATE_KINDS, "payload"])
@given(text=TEXTS, row=ROWS, unconfined=st.booleans())
def test_template_renders_or_raises_its_documented_errors(
    kind: Any, text: str, row: dict[str, Any], unconfined: bool
) -> None:
    """A sink renders its templates with rows of any rule: another error would end its batch."""
    try:
        template = Template.compile(text, kind=kind, allow_unconfined=unconfined)
    except ConfigError:
        return
    for act, result in ((template.render, str), (template.render_bytes, bytes), (template.value, object)):
        with suppress(TemplateError):
            assert isinstance(act(row), result)


@given(text=TEXTS, row=ROWS)
def test_sql_statement_does_not_depend_on_the_row(text: str, row: dict[str, Any]) -> None:
    """One statement for all rows, with one value for each parameter."""
    try:
        statement, templates = sql_parameters(text, style="?")
    except ConfigError:
        return
    assert statement.count("?") == text.count("?") + len(templates)
    for template in templates:
        with suppress(TemplateError):
            template.value(row)


@given(values=st.lists(st.sampled_from(["a", "é", "/", "..", ".", "%2e%2e", " ", "#", "?", "\\"]), max_size=4))
def test_no_value_changes_the_host_or_the_folder(values: list[str]) -> None:
    """Requests go to the author's host, files into the author's folder, for any name of a device."""
    row = {"a": "".join(values)}
    with suppress(TemplateError):
        url = Template.compile("http://host/in/${a}/x", kind="url_path").render(row)
        assert url.startswith("http://host/in/")
        assert url.count("/") == 5
        assert "?" not in url
        assert ".." not in url.split("/")
    with suppress(TemplateError):
        path = Template.compile("data/${a}.log", kind="path").render(row)
        assert path.startswith("data/")
        assert ".." not in path.split("/")
