"""One Spark session for all tests below, and what most of them build upon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.experiment import Experiment
from retune.metrics import Problem

# PySpark 3.5's assertions import its pandas API, which pandas 3 breaks; those on Spark's own DataFrames do without it.
sys.modules["pyspark.pandas"] = None  # type: ignore[assignment]
_pandas_assertions = ModuleType("pyspark.testing.pandasutils")
_pandas_assertions.assertPandasOnSparkEqual = None  # type: ignore[attr-defined]
sys.modules["pyspark.testing.pandasutils"] = _pandas_assertions


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    """One session for all modules, unless a job that ran in this very process has stopped it in between.

    SynapseML's jars come from the spark-defaults.conf in SPARK_CONF_DIR.
    """
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", False)
        .config("spark.sql.shuffle.partitions", 2)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")  # tests of failures would fill pages with stack traces
    return session


@pytest.fixture(scope="session")
def build_experiment() -> Callable[..., Experiment]:
    """Build an experiment on a file with the target `y`; keywords replace its sections."""

    def build(problem: Problem = "regression", **sections: Any) -> Experiment:
        fields: dict[str, Any] = {
            "name": "trial_run",
            "data": {"source": "file", "path": "rows.parquet", "target": "y"},
            "problem": problem,
            "model": {"trainer": "synapseml_lightgbm"},
            "search": {
                "metric": "r2" if problem == "regression" else "accuracy",
                "max_trials": 1,
                "space": {"numLeaves": {"type": "uniformint", "low": 3, "high": 9}},
            },
        }
        return Experiment.model_validate(fields | sections)

    return build


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., str]:
    """Write a text to a new file and return its path."""

    def write(text: str, name: str = "rows.csv") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)

    return write


@pytest.fixture(scope="module")
def numbered(spark: SparkSession) -> DataFrame:
    """1,000 rows: `id` (0 to 999), `x` (double), `color` (three values and null), `group` (50 values), `y`."""
    color = F.element_at(F.array(*map(F.lit, ("red", "green", "blue")), F.lit(None)), (F.col("id") % 4 + 1).cast("int"))
    return (
        spark.range(1000)
        .select(
            "id",
            (F.col("id") * 37 % 101 / 100).alias("x"),
            color.alias("color"),
            (F.col("id") % 50).alias("group"),
        )
        .withColumn("y", F.col("x") * 2 + F.col("group"))
        .cache()
    )
