"""A Spark of two cores for the tests that need one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.databases import Database

JARS = {"postgres": Path("/usr/share/java/postgresql.jar"), "mysql": Path("/usr/share/java/mariadb-java-client.jar")}
"""The drivers of JDBC that Debian has."""


def has_java() -> bool:
    """Whether there is a Java to run Spark on."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java") is not None or (home is not None and Path(home, "bin", "java").is_file())


def need_java() -> None:
    """Without Java the test is passed over, or fails where servers are required."""
    if not has_java():
        reason = "Spark needs Java 17: apt-get install openjdk-17-jre-headless"
        if os.environ.get("CALLSTATS_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    if "LD_PRELOAD" in os.environ:
        pytest.skip("Spark's scripts hang under a sanitizer that is preloaded")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session on this machine alone."""
    need_java()
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
            patch.setenv(name, sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            SparkSession.builder.master("local[2]")
            .appName("callstats tests")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.shuffle.partitions", "4")
            .config("spark.driver.memory", "1g")
            # To compile Java well takes longer than these tests run.
            .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
            .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
            .config("spark.local.dir", str(folder))
            .config("spark.driver.extraClassPath", os.pathsep.join(map(str, JARS.values())))
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1000")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


def jdbc(database: Database) -> tuple[str, dict[str, str]]:
    """URL and properties of a database for JDBC; without a driver the test is passed over, or fails where it may not be."""
    if not JARS[database.kind].exists():
        reason = "JDBC needs a driver: apt-get install libpostgresql-jdbc-java libmariadb-java"
        if os.environ.get("CALLSTATS_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    assert database.server is not None
    address = database.server.address
    scheme, driver = {
        "postgres": ("postgresql", "org.postgresql.Driver"),
        "mysql": ("mysql", "org.mariadb.jdbc.Driver"),
    }[database.kind]
    url = f"jdbc:{scheme}://{address['host']}:{address['port']}/{database.name}"
    return url, {"user": address["user"], "password": address["password"], "driver": driver}
