"""A missing extra: one line that names the module or function, and what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

CASES = [
    ("arrow", "pyarrow", "arrow"),
    ("parquet", "pyarrow", "arrow"),
    ("spark", "pyspark", "spark"),
    ("spark", "pyarrow", "spark"),
    ("pandas", "pandas", "pandas"),
    ("polars", "polars", "polars"),
    ("duckdb", "duckdb", "duckdb"),
    ("duckdb", "pyarrow", "duckdb"),
    ("sqlalchemy", "sqlalchemy", "sqlalchemy"),
    ("pydantic", "pydantic", "pydantic"),
    ("prometheus", "prometheus_client", "prometheus"),
]


PLOTS = [("figure", "plotly", "report"), ("png", "matplotlib", "plot")]
SERIES = "StatSeries([0], {'x': [1]})"


def error_of(line: str, missing: str) -> str:
    """Run a line without a package, and return its error."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from callstats import StatSeries\nfrom callstats import plot\n"
        f"try:\n    {line}\nexcept ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("module", "missing", "extra"), CASES)
def test_a_missing_extra(module: str, missing: str, extra: str) -> None:
    """The import of an adapter says in one line what is missing, whatever else is installed."""
    found = error_of(f"from callstats.adapters import {module}", missing)
    assert found == f'callstats.adapters.{module} needs {missing}: install callstats with the extra "{extra}"\n'


@pytest.mark.parametrize(("function", "missing", "extra"), PLOTS)
def test_a_missing_extra_of_a_plot(function: str, missing: str, extra: str) -> None:
    """A plot loads its library when it is called, and says in one line what is missing."""
    found = error_of(f"plot.{function}({SERIES})", missing)
    assert found == f'callstats.plot.{function} needs {missing}: install callstats with the extra "{extra}"\n'


def test_to_pandas_without_pandas() -> None:
    """A method of a series says the same."""
    found = error_of("StatSeries([], {}).to_pandas()", "pandas")
    assert found == 'callstats.StatSeries.to_pandas needs pandas: install callstats with the extra "pandas"\n'
