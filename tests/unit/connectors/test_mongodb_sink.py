"""The MongoDB sink without a server: types of BSON, templates of documents and filters, error classes, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import errors as mongo

from connectors.mongodb import MongodbSink
from connectors.mongodb.errors import classify, classify_document, is_duplicate_of_id, write_concern_failure
from connectors.mongodb.operations import OperationPlanner
from connectors.mongodb.options import MongodbConfig
from connectors.mongodb.types import CONVERSIONS, TypeName
from engine.connector import SinkContext
from engine.errors import ConfigError, DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.errors import SplitError as Split
from engine.model.record import Row
from support.sinks.harness import batch_of

URI = "mongodb://h:27017/plant"


def config(**options: Any) -> MongodbConfig:
    return MongodbConfig.model_validate({"type": "mongodb", "uri": URI, **options})


def operations(row: Row, **options: Any) -> list[Any]:
    planned = OperationPlanner(config(**options)).plan(batch_of([row]))
    for error in planned.failures.values():
        raise error
    return planned.results


def document(row: Row, **options: Any) -> dict[str, Any]:
    (operation,) = operations(row, **options)
    return {key: value for key, value in bson.decode(operation.raw).items() if key != "_id"}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("date", 1_700_000_000, 1_700_000_000_000),
        ("date", 1_700_000_000.5, 1_700_000_000_500),
        ("date", 1_700_000_000_123, 1_700_000_000_123),
        ("date", 1_700_000_000_123_456, 1_700_000_000_123),
        ("date", 1_700_000_000_123_456_789, 1_700_000_000_123),
        ("date", "1700000000", 1_700_000_000_000),
        ("date", "2022-05-26T10:40:12.123456789Z", 1_653_561_612_123),
        ("date", "2022-05-26T12:40:12.123+02:00", 1_653_561_612_123),
        ("date", 'ISODate("2022-05-26T10:40:12.123Z")', 1_653_561_612_123),
        ("date", "2022-05-26T10:40:12.123", 1_653_561_612_123),
        ("date", "1969-12-31T23:59:59.999Z", -1),
        ("decimal", "0.10", Decimal128("0.10")),
        ("decimal", 0.1, Decimal128("0.1")),
        ("decimal", 2**63, Decimal128("9223372036854775808")),
        ("decimal", "123456789012345678901234567890.1234", Decimal128("123456789012345678901234567890.1234")),
        ("object_id", "507f1f77bcf86cd799439011", ObjectId("507f1f77bcf86cd799439011")),
        ("binary", "AAEC", b"\0\1\2"),
        ("binary", b"\xff", b"\xff"),
        ("long", "9007199254740993", Int64(2**53 + 1)),
        ("long", 5.0, Int64(5)),
        ("double", "1.5", 1.5),
        ("double", 2, 2.0),
    ],
)
def test_type_option_converts_exactly(name: TypeName, value: Any, found: Any) -> None:
    """A value that is off by a digit is not noticed until it is needed."""
    got = CONVERSIONS[name](value)
    assert (int(got) if name == "date" else got) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("date", "noon"), ("date", True), ("date", float("nan")), ("date", 10**30), ("decimal", "ten"),
        ("decimal", "1" * 35), ("decimal", 10**34 + 1), ("decimal", "9" * 20_000),
        ("object_id", "507f"), ("object_id", 5), ("binary", "?"), ("binary", 5), ("uuid", "x"), ("uuid", 5),
        ("long", 2**63), ("long", 1.5), ("long", "x"), ("double", "x"), ("double", [1]),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_its_type_is_rejected_with_the_field(name: TypeName, value: Any) -> None:
    """The reason names the field, so that whoever reads the dead letter can mend the rule."""
    with pytest.raises(RejectError, match=r"place\.value: expected"):
        operations({"place": {"value": value}}, types={"place.value": name})


def test_conversion_leaves_the_row_as_it_is() -> None:
    """Other sinks are given the same row."""
    row = {"place": {"at": 0, "n": None}, "n": None}
    found = document(row, types={"place.at": "date", "n": "long", "place.n": "date", "absent.at": "date"})
    assert found["n"] is None
    assert row == {"place": {"at": 0, "n": None}, "n": None}


def test_integers_beyond_64_bits_are_rejected_or_become_decimals() -> None:
    """BSON has no larger ones, and must not round them."""
    with pytest.raises(RejectError, match=r"'a\.1'.*64 bits.*large_integers"):
        operations({"a": [1, 2**63]})
    assert document({"a": [1, 2**63]}, large_integers="decimal") == {"a": [1, Decimal128(str(2**63))]}
    with pytest.raises(RejectError, match=r"a: expected a number of at most 34 digits"):
        operations({"a": 10**34 + 1}, large_integers="decimal")


def test_field_names_and_numbers_that_are_not_finite_follow_their_options() -> None:
    """Names that the server refuses can be kept out or replaced."""
    assert document({"a.b": 1, "$c": {"$d.e": 2}}, field_names="replace") == {"a．b": 1, "＄c": {"＄d．e": 2}}
    with pytest.raises(RejectError, match=r"place\.\$d"):
        operations({"place": {"$d": 2}}, field_names="reject")
    assert document({"a": [float("nan"), 1.5]}, non_finite="null") == {"a": [None, 1.5]}
    with pytest.raises(RejectError, match=r"a\[0\]: inf"):
        operations({"a": [float("inf")]}, non_finite="reject")
    with pytest.raises(RejectError, match="NUL"):
        operations({"a\0b": 1})


def test_limits_of_a_document_are_checked_before_it_is_sent() -> None:
    """The server would refuse all documents of the command."""
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    with pytest.raises(RejectError, match="a: nested deeper"):
        operations({"a": deep})
    with pytest.raises(RejectError, match="label: the document has"):
        operations({"n": 1, "label": "x" * (16 << 20)})


def test_document_template_keeps_the_kinds_of_values() -> None:
    """Text around a placeholder makes text; a placeholder alone is the value, whatever it holds."""
    template = {"t": "${payload.t}", "name": "dev ${n}", "fixed": 5, "list": ["${n}", True], "none": "${absent}"}
    row = {"payload": '{"t": 1.5}', "n": 2}
    expected = {"t": 1.5, "name": "dev 2", "fixed": 5, "list": [2, True], "none": None}
    assert document(row, document=template) == expected
    text = '{"t": "${payload.t}", "name": "dev ${n}", "fixed": 5, "list": ["${n}", true], "none": "${absent}"}'
    assert document(row, document=text) == expected
    assert document(row, document="${payload}") == {"t": 1.5}
    with pytest.raises(RejectError, match="`document` is not an object"):
        operations({"payload": "5"}, document="${payload}")


def test_modes_make_their_operations() -> None:
    """The driver's operations carry filter and change as the server gets them."""
    row = {"device": "d1", "temp": 1.5}
    (update,) = operations(row, mode="update", filter={"device": "${device}"})
    assert (update._filter, update._doc, update._upsert) == ({"device": "d1"}, {"$set": row}, False)
    operators = {"$set": {"temp": "${temp}"}, "$inc": {"count": 1}}
    (upsert,) = operations(row, mode="upsert", id="${device}", document=operators)
    assert (upsert._filter, upsert._doc, upsert._upsert) == (
        {"_id": "d1"}, {"$set": {"temp": 1.5}, "$inc": {"count": 1}}, True,
    )  # fmt: skip
    (replace,) = operations(row, mode="replace", id="${device}")
    assert (replace._filter, replace._doc, replace._upsert) == ({"_id": "d1"}, {**row, "_id": "d1"}, True)
    (delete,) = operations(row, mode="delete", filter={"device": "${device}"})
    assert delete._filter == {"device": "d1"}


@pytest.mark.parametrize("filter_", [{"device": "${device}"}, "${payload}", {"$or": [{"device": "${device}"}]}])
def test_device_cannot_put_an_operator_into_a_filter(filter_: Any) -> None:
    """``{"$ne": null}`` in place of a name would change or delete documents of other devices."""
    row = {"device": {"$ne": None}, "payload": {"device": {"$gt": ""}}}
    with pytest.raises(RejectError, match="operator"):
        operations(row, mode="delete", filter=filter_)


def test_filter_without_a_value_rejects_the_record() -> None:
    """A filter for null would match every document without the field."""
    for row in ({}, {"device": None}):
        with pytest.raises(RejectError, match="device"):
            operations(row, mode="delete", filter={"device": "${device}"})
    with pytest.raises(RejectError, match="empty"):
        operations({"payload": {}}, mode="delete", filter="${payload}")


def test_operators_of_a_row_are_data() -> None:
    """The template's own text decides what an update does."""
    (update,) = operations({"$unset": {"a": 1}}, mode="update", filter={"n": 1})
    assert update._doc == {"$set": {"$unset": {"a": 1}}}
    with pytest.raises(RejectError, match=r"\$unset"):
        operations({"n": 1, "$unset": 1}, mode="replace", filter={"n": "${n}"})


COMMAND_ERRORS = {
    RetryableError: [6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 64, 50, 112],
    HoldError: [13, 18, 26, 59, 8000, 79, 100],
    Split: [2, 9, 14, 121, 10334, 52],
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in COMMAND_ERRORS.items() for code in codes])
def test_code_decides_the_error_class(kind: type[DeliveryError], code: int) -> None:
    """A wrong class would dead-letter documents, or retry them for ever."""
    found = classify(mongo.OperationFailure("the server's words", code), "MongoDB at h/plant")
    assert type(found) is kind
    assert found is not None
    assert found.code == str(code)
    assert "the server's words" in found.message
    document_kind = RejectError if kind is Split else kind
    assert type(classify_document({"code": code, "errmsg": "x"}, "MongoDB")) is document_kind


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (NotConnectedError, mongo.ServerSelectionTimeoutError("no servers")),
        (HoldError, mongo.ServerSelectionTimeoutError("SSL handshake failed: h:27017")),
        (NotConnectedError, mongo.InvalidOperation("closed")),
        (RetryableError, mongo.AutoReconnect("cut")),
        (RetryableError, mongo.NetworkTimeout("slow")),
        (RetryableError, mongo.NotPrimaryError("stepped down")),
        (RetryableError, mongo.WaitQueueTimeoutError("busy")),
        (RetryableError, mongo.OperationFailure("x", 1, {"errorLabels": ["RetryableWriteError"]})),
        (HoldError, mongo.ConfigurationError("no such option")),
        (None, mongo.OperationFailure("x", 1)),
    ],
)
def test_drivers_error_decides_the_error_class(kind: type[DeliveryError] | None, error: mongo.PyMongoError) -> None:
    """The driver connects again by itself; only a failed search for a server asks for another client."""
    found = classify(error, "MongoDB")
    assert type(found) is (type(None) if kind is None else kind)


def test_reason_of_a_document_names_its_fields() -> None:
    """MongoDB puts the fields into details beside the message."""
    duplicate = {"code": 11000, "errmsg": "E11000 …", "keyPattern": {"device": 1}, "keyValue": {"device": "d1"}}
    assert classify_document(duplicate, "M").message == (
        'M: device: the unique index has this value already: {"device":"d1"}'
    )
    rules = [
        {"operatorName": "required", "missingProperties": ["at"]},
        {"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "temp", "details": []}]},
    ]
    invalid = {"code": 121, "errmsg": "Document failed validation", "errInfo": {"details": {"rules": rules}}}
    assert classify_document(invalid, "M").message == "M: at, temp: Document failed validation"
    assert not is_duplicate_of_id(duplicate)
    assert is_duplicate_of_id({"code": 11000, "keyPattern": {"_id": 1}})
    assert is_duplicate_of_id({"code": 11000, "errmsg": "collection: p.r index: _id_ dup key: { _id: 1 }"})


def test_write_concern_failure_is_an_unknown_outcome_or_a_mistake() -> None:
    """A custom write concern that the replica set lacks never succeeds."""
    assert isinstance(
        write_concern_failure([{"code": 64, "errmsg": "waiting for replication timed out"}], "M"), RetryableError
    )
    assert isinstance(write_concern_failure([{"code": 79, "errmsg": "No write concern mode"}], "M"), HoldError)
    assert write_concern_failure([], "M") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"uri": "mongodb://user:p@ss@h/plant"}, "not an address of MongoDB"),
        ({"uri": "http://h/plant"}, "not an address of MongoDB"),
        ({"uri": "mongodb+srv://a,b/plant"}, "not an address of MongoDB"),
        ({"uri": "mongodb://h"}, "`database`"),
        ({"filter": {"a": "${a}"}}, "`filter`"),
        ({"mode": "delete"}, "`filter` or an `id`"),
        ({"mode": "upsert", "id": "${a}", "exactly_once": True}, "`exactly_once`"),
        ({"id": "${a}", "time_series": {"time_field": "at"}}, "time series"),
        ({"tls": {"key": "k.pem"}}, "tls.key"),
        ({"collection": "${a}"}, "begins with constant text"),
        ({"document": {"$set": {"a": 1}}}, r"\$set"),
        ({"document": '{"a": ${a}}'}, "not JSON"),
        ({"document": "[1]"}, "object"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Before the sink starts; a password is never shown."""
    with pytest.raises(ConfigError, match=words) as caught:
        MongodbSink(config(**options), SinkContext("s", tmp_path, tmp_path))
    assert "p@ss" not in str(caught.value)


def test_srv_address_and_options_of_atlas_are_accepted(tmp_path: Path) -> None:
    """Its hosts are looked up when the sink connects."""
    uri = "mongodb+srv://u:p@plant.abcde.mongodb.net/plant?retryWrites=true&w=majority&appName=x"
    MongodbSink(config(uri=uri), SinkContext("s", tmp_path, tmp_path))
