"""The JSON Schema of the stored form, and the field of Pydantic models that it describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from callstats import DecodeError, StatSeries
from callstats._json import schema_text
from callstats.adapters.pydantic import Stats
from callstats.cli.app import cli
from callstats.demo import demo_calls
from support import strategies
from support.reference import Row
from support.vectors import load
from support.zoo import series_of

SCHEMA = json.loads(schema_text())
FIELD_SCHEMA = json.dumps({name: part for name, part in SCHEMA.items() if name != "$schema"})
VALIDATOR = Draft202012Validator(SCHEMA)
WIRE = [vector for vector in load("wire") if vector["blob"]]  # empty text is no JSON

BEYOND = {
    "feb-29-bad",  # a day that does not exist
    "zero-time",  # years out of range
    "far-future",
    "before-first-ms",
    "float-integral",  # for a schema 1.0, 1e3 and -0 are whole numbers
    "exponent",
    "minus-zero",
    "count-float",
    "name-lone-surrogate",
    "times-go-back",
}
"""The faults of shape among the vectors that no schema can express."""


class Call(BaseModel):
    """A model with a histogram."""

    id: str
    stats: Stats


def is_json(blob: str) -> bool:
    """Whether the blob is JSON as RFC 8259 has it: its fault, if any, is one of shape."""
    try:
        StatSeries.from_json(blob)
    except DecodeError as error:
        return error.offset is None
    return True


def test_the_schema_is_one() -> None:
    """It is valid by the schema of schemas, and `callstats schema` prints it."""
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(CliRunner().invoke(cli, ["schema"]).output) == SCHEMA


@pytest.mark.parametrize("vector", WIRE, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    """All that is accepted is valid; a fault of shape is not, unless no schema can express it."""
    if not is_json(vector["blob"]):
        assert vector["want"] == "error"
        return
    accepted = vector["want"] != "error" or vector["name"] in BEYOND
    assert VALIDATOR.is_valid(json.loads(vector["blob"])) == accepted


def test_the_vectors_reach_both_sides() -> None:
    """There are faults of shape that the schema tells, and every exception is among the vectors."""
    shapes = {vector["name"] for vector in WIRE if vector["want"] == "error" and is_json(vector["blob"])}
    assert len(shapes - BEYOND) >= 15 and shapes >= BEYOND


@given(strategies.rows(most=12))
def test_all_that_is_written_is_valid(rows: list[Row]) -> None:
    """With counts or without, to the millisecond or the nanosecond."""
    series = series_of(rows)
    for text in (series.to_json(), series.to_json(counts=False), series.to_json(digits=9)):
        assert VALIDATOR.is_valid(json.loads(text or b"[]"))


def test_the_example_is_valid() -> None:
    """So are the histograms of the example's calls."""
    for _, call in zip(range(100), demo_calls(), strict=False):
        assert VALIDATOR.is_valid(json.loads(str(call["stats"]) or "null"))


def test_openapi() -> None:
    """FastAPI describes the field by the same schema."""
    from fastapi import FastAPI  # takes as long as all else here

    app = FastAPI()

    @app.post("/calls")
    def add(call: Call) -> Call:
        return call

    described = app.openapi()["components"]["schemas"]["Call"]["properties"]["stats"]
    # FastAPI keeps the limits of numbers as floats.
    assert json.loads(json.dumps(described), parse_int=float) == json.loads(FIELD_SCHEMA, parse_int=float)


@given(strategies.rows(most=6))
def test_there_and_back(rows: list[Row]) -> None:
    """A model as JSON and back is the same to the millisecond; as Python it keeps the series itself."""
    series = series_of(rows)
    call = Call(id="1", stats=series)
    assert call.stats is series and call.model_dump()["stats"] is series
    again = Call.model_validate_json(call.model_dump_json())
    assert again.stats == StatSeries.from_json(series.to_json())
    assert Call(id="1", stats=series.to_json()) == again


def test_a_malformed_field() -> None:
    """The error names the field and the path in it."""
    with pytest.raises(ValidationError, match=r"stats\n.*\$\[0\]\.metrics\.x: expected a whole number") as caught:
        Call.model_validate({"id": "1", "stats": [{"timestamp": "2017-11-27T14:52:53Z", "metrics": {"x": -1}}]})
    assert caught.value.error_count() == 1
