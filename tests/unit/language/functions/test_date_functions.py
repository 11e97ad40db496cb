"""Date functions on a clock that the test sets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from engine.errors import EvaluationError
from engine.language.functions import FUNCTIONS
from engine.language.functions.date import use_clock
from engine.language.functions.format import compile_format, parse_date

NOW_NS = 1_661_326_462_115_226_789


@pytest.fixture(autouse=True)
def clock() -> Iterator[list[int]]:
    """Return the list whose only element is the time in nanoseconds."""
    now = [NOW_NS]
    previous = use_clock(lambda: now[0])
    yield now
    use_clock(previous)


def test_now_timestamp_is_truncated_to_its_unit() -> None:
    """A rounded time could lie in the future."""
    now = FUNCTIONS["now_timestamp"].call
    assert now() == 1_661_326_462
    assert now("millisecond") == 1_661_326_462_115
    assert now("microsecond") == 1_661_326_462_115_226
    assert now("nanosecond") == NOW_NS


def test_now_rfc3339_has_the_fraction_digits_of_its_unit() -> None:
    """Sinks sort by this text: its width must not depend on the time."""
    now = FUNCTIONS["now_rfc3339"].call
    assert now("second", "Z") == "2022-08-24T07:34:22+00:00"
    assert now("millisecond", "+08:00") == "2022-08-24T15:34:22.115+08:00"
    assert now("nanosecond", "Asia/Kolkata") == "2022-08-24T13:04:22.115226789+05:30"


def test_cached_text_of_a_second_is_not_used_for_the_next(clock: list[int]) -> None:
    """The text before and after the fraction is cached by second and zone."""
    now = FUNCTIONS["now_rfc3339"].call
    before = now("second", "Z")
    clock[0] += 10**9
    assert (before, now("second", "Z")) == ("2022-08-24T07:34:22+00:00", "2022-08-24T07:34:23+00:00")


def test_zone_with_daylight_saving_has_the_offset_of_the_time(clock: list[int]) -> None:
    """A rule that runs from summer to winter must change its offset."""
    now = FUNCTIONS["now_rfc3339"].call
    summer = now("second", "Europe/Berlin")
    clock[0] += 120 * 86400 * 10**9
    assert (summer[-6:], now("second", "Europe/Berlin")[-6:]) == ("+02:00", "+01:00")


def test_date_functions_without_a_time_use_the_current_time() -> None:
    """EMQX users call `format_date` with three arguments to add the time to a row."""
    assert FUNCTIONS["format_date"].call("second", "Z", "%Y-%m-%d %H:%M:%S") == "2022-08-24 07:34:22"
    assert FUNCTIONS["mongo_date"].call() == "ISODate(2022-08-24T07:34:22.115Z)"


def test_default_zone_is_the_zone_of_the_server() -> None:
    """As in EMQX. The text has an offset, so that it denotes the same time in any zone."""
    written = FUNCTIONS["now_rfc3339"].call("nanosecond")
    assert FUNCTIONS["rfc3339_to_unix_ts"].call(written, "nanosecond") == NOW_NS


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server eight hours ahead of UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_shanghai")
def test_local_is_the_zone_of_the_server_for_formatting_and_parsing() -> None:
    """A local time of a device would otherwise be stored with an error of hours."""
    zoned = "%Y-%m-%d %H:%M:%S"
    assert FUNCTIONS["format_date"].call("second", "local", zoned, 1708671600) == "2024-02-23 15:00:00"
    assert FUNCTIONS["date_to_unix_ts"].call("second", "local", zoned, "2024-02-23 15:00:00") == 1708671600


@pytest.mark.usefixtures("in_shanghai")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unix_ts_to_rfc3339", [253402300799]),
        ("format_date", ["second", "America/New_York", "%Y", -62135596800]),
        ("date_to_unix_ts", ["second", "local", "%Y-%m-%d", "0001-01-01"]),
    ],
)
def test_time_that_its_zone_moves_out_of_the_calendar_is_refused(name: str, arguments: list[object]) -> None:
    """An absurd time of a device causes the documented error, not one of Python's calendar."""
    with pytest.raises(EvaluationError, match=f"{name}: expected a time within the years 1 to 9999"):
        FUNCTIONS[name].call(*arguments)


@pytest.mark.parametrize("source", ["%Y-%m-%d %H:%M:%S.%3N%z", "%d.%m.%Y, %H:%M:%S %6N%:z", "%N %::z %Y%m%d%H%M%S"])
def test_formatted_date_is_parsed_as_the_same_time(source: str) -> None:
    """A rule may parse a date that another rule formatted."""
    written = FUNCTIONS["format_date"].call("millisecond", "+05:30", source, NOW_NS // 10**6)
    assert FUNCTIONS["date_to_unix_ts"].call("millisecond", source, written) == NOW_NS // 10**6
    assert parse_date("test", compile_format(source), written).offset == 19800
