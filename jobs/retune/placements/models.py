"""Whole models read back, whatever placement fitted them: raw rows in, predictions out."""

from __future__ import annotations

from typing import Protocol

import mlflow
from mlflow.models import Model
from pyspark.sql import DataFrame, SparkSession

from retune.pipeline_reader import load_pipeline
from retune.spark import copy_from_local


class WholeModel(Protocol):
    """Scores raw rows."""

    def transform(self, rows: DataFrame) -> DataFrame:
        """Add `retune_prediction` (double) and, for classes, `retune_probability` (vector, one slot a class)."""
        ...


def load_model(spark: SparkSession, uri: str, folder: str) -> WholeModel:
    """Load a whole model.

    `mlflow.spark.load_model` does the same by PySpark's reader, which starts a Python worker; see `load_pipeline`.

    Args:
        spark: The session.
        uri: A Spark pipeline's, or any of a model that MLflow knows, such as `models:/name/1`.
        folder: Where the cluster can read a copy of it.
    """
    if not uri.startswith(("models:/", "runs:/")):
        return load_pipeline(uri)
    local = mlflow.artifacts.download_artifacts(uri)
    logged = Model.load(local)
    if "sklearn" in logged.flavors:
        from retune.placements.task_model import TaskModel  # brings scikit-learn and pandas

        return TaskModel(mlflow.sklearn.load_model(local), (logged.metadata or {})["retune_classes"])
    data = logged.flavors["spark"]["model_data"]
    return load_pipeline(copy_from_local(spark, f"{local}/{data}", f"{folder}/{uri.partition(':')[2].strip('/')}"))
