"""Bounds of functions: size of results, time, and state beyond one message."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from uuid import UUID

import pytest

from engine.errors import EvaluationError
from engine.language.functions import FUNCTIONS
from engine.language.functions.compression import DECOMPRESSED_BYTES_MAX
from engine.language.functions.identity import use_random
from engine.language.functions.memo import remembered
from engine.language.functions.memory import Memory, use_store
from engine.model.jsontext import UNDEFINED
from engine.model.message import ClientIdentity, Occurrence
from engine.model.value import Bits


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the body takes more CPU time of this thread, whether it raises or not."""
    started = time.thread_time()
    try:
        yield
    finally:
        assert time.thread_time() - started < seconds


BOMB = b"\0" * (DECOMPRESSED_BYTES_MAX + 1)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gunzip", gzip.compress(BOMB)),
        ("zip_uncompress", zlib.compress(BOMB)),
        ("unzip", zlib.compress(BOMB, wbits=-15)),
        ("gunzip", gzip.compress(b"") * 65),
        ("gunzip", gzip.compress(BOMB[:-1]) + gzip.compress(b"\0")),
    ],
    ids=["gzip", "zlib", "deflate", "many members", "in two members"],
)
def test_compressed_data_beyond_the_bound_is_refused(name: str, data: bytes) -> None:
    """Eight kilobytes from a device must not become more than eight megabytes in the journal."""
    with pytest.raises(EvaluationError, match=name):
        FUNCTIONS[name].call(data)


def test_compressed_data_up_to_the_bound_is_decompressed() -> None:
    """The bound itself is allowed, and the members of a gzip file are joined."""
    assert len(FUNCTIONS["gunzip"].call(gzip.compress(BOMB[:-1]))) == DECOMPRESSED_BYTES_MAX
    assert FUNCTIONS["gunzip"].call(gzip.compress(b"a") + gzip.compress(b"b")) == "ab"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("replace", ["a" * 10_000, "a", "b" * 10_000]),
        ("regex_replace", ["a" * 10_000, "a", "b" * 10_000]),
        ("regex_replace", ["a" * 10_000, "(?=a)", "b" * 10_000]),
        ("pad", ["a", 10_000, "leading", "b" * 10_000]),
        ("join_to_string", ["b" * 10_000, ["a"] * 10_000]),
        ("sprintf", ["~*s", 1 << 30, "a"]),
        ("bitsl", [1, 1 << 40]),
    ],
)
def test_result_much_larger_than_its_arguments_is_refused(name: str, arguments: list[object]) -> None:
    """Ten thousand times ten thousand characters are a hundred megabytes for each message."""
    with pytest.raises(EvaluationError, match="expected a result of at most"):
        FUNCTIONS[name].call(*arguments)


@pytest.mark.parametrize("name", ["strlen", "reverse"])
def test_text_of_flags_is_segmented_in_linear_time(name: str) -> None:
    """A payload of flags took minutes, in which the broker served no client."""
    with within(1.0):
        FUNCTIONS[name].call("🇩🇪" * 60_000)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("format_date", ["second", "Z", "%Y" * 3000, 0]), ("date_to_unix_ts", ["second", "%Y" * 3000, "2"])],
)
def test_format_beyond_the_bound_is_refused(name: str, arguments: list[object]) -> None:
    """A format may come from a payload: a megabyte of directives took seconds."""
    with pytest.raises(EvaluationError, match="expected a format of at most"):
        FUNCTIONS[name].call(*arguments)


def test_tokens_takes_time_independent_of_its_separators() -> None:
    """Separators may come from a payload: a megabyte of them must not be searched one by one."""
    with within(0.5):
        assert FUNCTIONS["tokens"].call("a" * 1_000_000, "ab" * 100_000) == []
        assert FUNCTIONS["tokens"].call(b"\xff" * 1_000_000, "ab" * 100_000) == [b"\xff" * 1_000_000]


def test_long_texts_are_not_cached() -> None:
    """A hundred compiled patterns of a megabyte each would take gigabytes."""
    calls: list[int] = []

    @remembered
    def length(text: str) -> int:
        calls.append(len(text))
        return len(text)

    assert [length("ab"), length("ab"), length("a" * 5000), length("a" * 5000)] == [2, 2, 5000, 5000]
    assert calls == [2, 5000, 5000]


@pytest.mark.parametrize("base", [2, 16, 36])
def test_long_integer_is_written_fast_or_refused(base: int) -> None:
    """A payload of 100 kB as one integer took a second to be written digit by digit."""
    with within(0.5), suppress(EvaluationError):
        FUNCTIONS["sprintf"].call(f"~.{base}b", (1 << 800_000) - 1)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sqrt", [-(1 << 30_000)]), ("power", [2, 1 << 30_000]), ("nth", [1 << 30_000, []]), ("str", [1 << 30_000]),
        ("round", [1.5, 1 << 30_000]), ("sprintf", ["~b", 1 << 30_000]), ("json_encode", [1 << 30_000]),
        ("mget", [1 << 30_000, {}]),
    ],
)  # fmt: skip
def test_integer_of_too_many_digits_is_refused_in_our_words(name: str, arguments: list[object]) -> None:
    """Bits of a payload make such integers; Python's message names its own settings."""
    with pytest.raises(EvaluationError) as caught:
        FUNCTIONS[name].call(*arguments)
    assert "limit" not in caught.value.message


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(\w+\s?)*$", "(?=(a+)+$)b", r"(a*)*\1c", "(?>a*)*?c"])
def test_no_pattern_runs_without_end(pattern: str) -> None:
    """A device that knows a rule's pattern must not be able to stop the broker."""
    with suppress(EvaluationError), within(2):
        FUNCTIONS["regex_match"].call("a" * 5_000 + "!", pattern)


def test_replacing_in_a_large_text_has_a_deadline() -> None:
    """Each match may look at the rest of the text: linear matches add up to quadratic time."""
    with suppress(EvaluationError), within(2):
        FUNCTIONS["regex_replace"].call("a" * 200_000, "a.*b|a", "c")


def test_pattern_beyond_the_bound_is_refused() -> None:
    """Patterns may come from messages, and compiling takes time by their length."""
    with pytest.raises(EvaluationError, match="at most 4096 characters, found 5000"):
        FUNCTIONS["regex_match"].call("a", "a" * 5000)


def test_store_is_bounded_in_entries_and_bytes() -> None:
    """Keys made of message ids would fill the memory within a day."""
    store = Memory(entries_max=2, bytes_max=10_000)
    store.put("a", 1)
    store.put("b", 2)
    store.put("a", 3)
    with pytest.raises(EvaluationError, match="2 entries"):
        store.put("c", 1)
    store.delete("b")
    with pytest.raises(EvaluationError, match="10000 bytes"):
        store.put("c", "x" * 10_000)
    with pytest.raises(EvaluationError, match="10000 bytes"):
        store.put("c", 1 << 80_000)
    store.put("c", "x" * 9_000)
    assert (store.get("a"), store.get("b"), len(store.get("c"))) == (3, UNDEFINED, 9_000)


def test_equal_keys_of_different_kinds_are_different_keys() -> None:
    """1, '1', 1.0 and true are four keys, as in EMQX."""
    store = Memory(entries_max=10, bytes_max=10_000)
    keys = (1, "1", 1.0, True, None, UNDEFINED, [1], Bits(1, 3), 1 << 20_000)
    for number, key in enumerate(keys):
        store.put(key, number)
    assert [store.get(key) for key in keys] == list(range(len(keys)))


def test_all_rules_share_one_store() -> None:
    """One rule reads the value that another one stored."""
    previous = use_store(Memory(entries_max=10, bytes_max=1000))
    try:
        assert FUNCTIONS["kv_store_put"].call("k", [1]) is True
        assert FUNCTIONS["kv_store_get"].call("k") == [1]
        assert FUNCTIONS["kv_store_del"].call("k") is True
        assert FUNCTIONS["kv_store_get"].call("k", "gone") == "gone"
    finally:
        use_store(previous)


def test_connections_do_not_share_their_store() -> None:
    """No value of one client may reach another client."""
    first, second = (Occurrence("t", {}, ClientIdentity(name), 0) for name in ("a", "b"))
    put, get, delete = (FUNCTIONS[f"proc_dict_{verb}"].call for verb in ("put", "get", "del"))
    assert put(first, "k", 1) is UNDEFINED
    assert put(first, "k", 2) == 1
    assert (get(first, "k"), get(second, "k")) == (2, UNDEFINED)
    assert (delete(first, "k"), get(first, "k"), delete(second, "k")) == (2, UNDEFINED, UNDEFINED)


def test_getenv_reads_prefixed_variables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The author of a rule must not read the secrets of the process."""
    monkeypatch.setenv("HEADGATEVAR_SITE", "north")
    monkeypatch.setenv("EMQXVAR_LINE", "7")
    monkeypatch.setenv("SECRET", "no")
    getenv = FUNCTIONS["getenv"].call
    assert [getenv(name) for name in ("SITE", "LINE", "SECRET", "a\0b", "")] == ["north", "7", "", "", ""]


def test_uuids_have_version_4_and_are_repeatable_by_seed() -> None:
    """Databases check version and variant; tests need repeatable ids."""
    previous = use_random(Random(7))
    try:
        written = FUNCTIONS["uuid_v4"].call()
    finally:
        use_random(previous)
    assert UUID(written).version == 4
    assert written == str(UUID(written))
    assert FUNCTIONS["uuid_v4"].call() != FUNCTIONS["uuid_v4"].call()
    assert len(FUNCTIONS["uuid_v4_no_hyphen"].call()) == 32
    assert 0 <= FUNCTIONS["random"].call() < 1
