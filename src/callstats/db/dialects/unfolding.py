"""The SQL of each database for the rows of a blob and their values, of which the views of a table are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callstats.db.dialects.base import Dialect


@dataclass(frozen=True, kw_only=True)
class Unfolding:
    """SQL for the rows of a blob: items to join with its table, and expressions over them."""

    rows: str
    is_row: str
    """The condition that a row of `rows` meets."""
    number: str
    """The number of a row in its blob."""
    samples: str
    """The samples that a row stands for; NULL for one."""
    metric: Callable[[str], str]
    """The value of a metric in a row; NULL if it is absent."""
    values: str
    """All values of all rows, for each its `time`, its metric's `name` and the `value`."""
    is_value: str
    time: str
    name: str
    value: str
    whole: str
    """The type of the largest whole numbers."""
    greatest: str = "GREATEST"
    join: str = "CONCAT({}, {})"
    """The text of two values, one after the other."""
    fold: Callable[[Sequence[str]], tuple[str, Sequence[str]]] | None = None
    """A single row with aggregates of a blob's rows, and the expression for each of them; None if GROUP BY serves as well."""
    first: str | None = None
    """A statement to run before a view is created."""
    replace: Sequence[str] = ("CREATE OR REPLACE VIEW {0} AS {1}",)
    """The statements that create a view or replace it. Privileges on it stay."""


def unfold(dialect: Dialect, blob: str, metrics: Sequence[str], prefix: str) -> Unfolding:
    """Return the SQL for a blob's column.

    Parameters
    ----------
    dialect : Dialect
        It has inspected the column, unless the table is about to be created.
    blob : str
        The column in SQL.
    metrics : sequence of str
        The metrics whose values can be asked for.
    prefix : str
        The quoted schema of the table and a dot, or nothing.
    """
    return {"SQLite": _sqlite, "PostgreSQL": _postgres, "MySQL": _mysql}[dialect.name](dialect, blob, metrics, prefix)


def _sqlite(_dialect: Dialect, blob: str, _metrics: Sequence[str], _prefix: str) -> Unfolding:
    text = f"CAST({blob} AS TEXT)"
    rows = f"json_each(CASE WHEN json_valid({text}) THEN {text} END) r"
    is_row = "r.type = 'object' AND typeof(r.key) = 'integer'"  # the key is text in an object

    def fold(aggregates: Sequence[str]) -> tuple[str, Sequence[str]]:
        # For GROUP BY the planner would read the whole table in the order of the key.
        row = f"SELECT json_array(json_array({', '.join(aggregates)})) FROM {rows} WHERE {is_row}"  # noqa: S608
        return f"json_each(({row})) u", [f"json_extract(u.value, '$[{index}]')" for index in range(len(aggregates))]

    return Unfolding(
        rows=rows,
        is_row=is_row,
        number="r.key",
        samples="json_extract(r.value, '$.count')",
        metric=lambda name: f"json_extract(r.value, '$.metrics.\"{name}\"')",
        values=f"{rows}, json_each(CASE r.type WHEN 'object' THEN r.value END, '$.metrics') m",
        is_value="typeof(r.key) = 'integer' AND typeof(m.key) = 'text' AND m.type = 'integer'",
        time="json_extract(r.value, '$.timestamp')",
        name="m.key",
        value="m.value",
        whole="INTEGER",
        greatest="MAX",
        join="(({}) || {})",
        fold=fold,
        replace=("DROP VIEW IF EXISTS {0}", "CREATE VIEW {0} AS {1}"),
    )


_ARRAY_FUNCTION = """
CREATE OR REPLACE FUNCTION {}callstats_array(blob bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE found jsonb;
BEGIN
    found := convert_from(blob, 'UTF8');
    RETURN CASE jsonb_typeof(found) WHEN 'array' THEN found END;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END $$"""
"""A blob as an array; NULL for a malformed one, for which a cast would end the whole query."""


def _postgres(dialect: Dialect, blob: str, _metrics: Sequence[str], prefix: str) -> Unfolding:
    is_jsonb = dialect.rewrites
    utf8 = blob if dialect.blob_kind == "blob" else f"convert_to({blob}::text, 'UTF8')"
    array = f"CASE jsonb_typeof({blob}) WHEN 'array' THEN {blob} END" if is_jsonb else f"{prefix}callstats_array({utf8})"
    rows, metrics = f"jsonb_array_elements({array}) WITH ORDINALITY r(item, number)", "r.item -> 'metrics'"

    def whole(json: str) -> str:
        return f"CASE jsonb_typeof({json}) WHEN 'number' THEN ({json})::numeric END"  # a cast alone fails for other values

    return Unfolding(
        rows=rows,
        is_row="TRUE",
        number="r.number",
        samples=whole("r.item -> 'count'"),
        metric=lambda name: whole(f"{metrics} -> '{name}'"),
        values=f"{rows}, jsonb_each(CASE jsonb_typeof({metrics}) WHEN 'object' THEN {metrics} END) m(name, value)",
        is_value="jsonb_typeof(m.value) = 'number'",
        time="r.item ->> 'timestamp'",
        name="m.name",
        value=whole("m.value"),
        whole="numeric",
        first=None if is_jsonb else _ARRAY_FUNCTION.format(prefix),
    )


def _mysql(_dialect: Dialect, blob: str, metrics: Sequence[str], _prefix: str) -> Unfolding:
    text = f"CONVERT({blob} USING utf8mb4)"
    table = f"JSON_TABLE(CASE WHEN JSON_VALID({text}) THEN {text} END, '$[*]' COLUMNS(number FOR ORDINALITY, "
    columns = ", ".join(f"`{name}` BIGINT UNSIGNED PATH '$.metrics.\"{name}\"'" for name in metrics)
    nested = "NESTED PATH '$.metrics.*' COLUMNS(n FOR ORDINALITY, value BIGINT UNSIGNED PATH '$')"
    return Unfolding(
        rows=f"{table}samples BIGINT PATH '$.count', {columns})) r",
        is_row="1 = 1",
        number="r.number",
        samples="r.samples",
        metric=lambda name: f"r.`{name}`",
        values=f"{table}time VARCHAR(64) PATH '$.timestamp', metrics JSON PATH '$.metrics', {nested})) r",
        is_value="r.value IS NOT NULL",
        time="r.time",
        # By its number, as MariaDB does not find a name that the blob has with escapes.
        name="JSON_UNQUOTE(JSON_EXTRACT(JSON_KEYS(r.metrics), CONCAT('$[', r.n - 1, ']')))",
        value="r.value",
        whole="UNSIGNED",
    )
