"""A field type for Pydantic models, and so for FastAPI, whose OpenAPI schema is that of the stored form."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeAlias

from callstats._extras import needs
from callstats._json import schema_text
from callstats.series import StatSeries

with needs("adapters.pydantic", "pydantic"):
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import core_schema


class _Field:
    """How Pydantic validates, serializes and describes a series."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        rows = core_schema.plain_serializer_function_ser_schema(_to_rows, when_used="json")
        return core_schema.no_info_plain_validator_function(_series, serialization=rows)

    @classmethod
    def __get_pydantic_json_schema__(
        cls,
        schema: core_schema.CoreSchema,
        handler: GetJsonSchemaHandler,
    ) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(schema_text())
        del stored["$schema"]
        return stored


def _series(value: object) -> StatSeries:
    return value if isinstance(value, StatSeries) else StatSeries.from_json(value)


def _to_rows(series: StatSeries) -> object:
    return json.loads(series.to_json() or b"[]")


Stats: TypeAlias = Annotated[StatSeries, _Field]
"""A series as a field of a model.

It takes a `StatSeries`, and whatever `StatSeries.from_json` takes: a list of rows as JSON has them, stored text, or None. In JSON
it is the list that `StatSeries.to_json` writes. A malformed value is an error of Pydantic, with the path of the fault.
"""
