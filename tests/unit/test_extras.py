"""A missing extra: one line that names the function and what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERIES = "StatSeries([], {})"
CASES = [
    ("arrow", "reduce", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "reduce_checked", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "read_stored", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "read", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "write", SERIES, "pyarrow", "pyarrow", "arrow"),
    ("arrow", "read_lists", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "write_lists", SERIES, "pyarrow", "pyarrow", "arrow"),
    ("arrow", "read_long", "None", "pyarrow", "pyarrow", "arrow"),
    ("arrow", "write_long", SERIES, "pyarrow", "pyarrow", "arrow"),
    ("parquet", "read", "None", "pyarrow", "pyarrow", "arrow"),
    ("parquet", "write", f"{SERIES}, None", "pyarrow", "pyarrow", "arrow"),
    ("parquet", "Writer", "''", "pyarrow", "pyarrow", "arrow"),
    ("spark", "reduce_stats", "None", "pyspark", "pyspark", "spark"),
    ("spark", "summarize_stats", "None", "pyspark", "pyspark", "spark"),
    ("spark", "reduce_stats", "None", "pyarrow", "pyarrow", "spark"),
    ("pandas", "read", "None", "pandas", "pandas", "pandas"),
    ("pandas", "write", SERIES, "pandas", "pandas", "pandas"),
    ("polars", "read", "None", "polars", "polars", "polars"),
    ("polars", "write", SERIES, "polars", "polars", "polars"),
    ("duckdb", "register", "None", "duckdb", "duckdb", "duckdb"),
    ("duckdb", "register", "None", "pyarrow", "pyarrow", "duckdb"),
    ("sqlalchemy", "StatsType", "", "sqlalchemy", "SQLAlchemy", "sqlalchemy"),
]


def test_to_pandas_without_pandas() -> None:
    """A method of a series says the same."""
    program = "import sys; sys.modules['pandas'] = None\nimport callstats; callstats.StatSeries([], {}).to_pandas()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.splitlines()[-1] == (
        'ImportError: callstats.StatSeries.to_pandas needs pandas: pip install "callstats[pandas]"'
    )


@pytest.mark.parametrize(("module", "function", "argument", "missing", "package", "extra"), CASES)
def test_a_missing_extra(module: str, function: str, argument: str, missing: str, package: str, extra: str) -> None:
    """The error is one line in the house's words, whatever else is installed; the module itself can be imported."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from callstats import StatSeries\n"
        f"try:\n    from callstats.adapters import {module}\n    {module}.{function}({argument})\n"
        "except ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == (
        f'callstats.adapters.{module}.{function} needs {package}: pip install "callstats[{extra}]"\n',
        "",
    )
