"""The whole model of a cluster trainer: a Spark pipeline that takes raw rows."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import mlflow
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.feature import IndexToString, SQLTransformer
from pyspark.sql import SparkSession

from retune.handoff import PROFILE, Stage
from retune.pipeline_reader import load_pipeline
from retune.placements.feature_list import name_importances, read_features
from retune.placements.logged import log_whole
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION


class ClusterModels:
    """Keeps and logs whole models; the part of `Fitting` that does not hang on where they were fitted."""

    def __init__(self, stage: Stage, spark: SparkSession) -> None:
        self._stage, self._spark = stage, spark

    @cached_property
    def classes(self) -> list[Any]:
        """The classes as the data spell them; empty for regression."""
        return list(self._stage.artifact("ingest", PROFILE)["classes"])

    def importances(self, model: Transformer) -> dict[str, float]:
        """Return how much each slot of the vector counts; see `Fitting`."""
        trainer = load_trainer(self._stage.experiment.model.trainer)
        return name_importances(trainer.importances(model), read_features(self._stage))

    def save(self, model: Transformer, name: str) -> str:
        """Write a Spark pipeline below the stage's folder; see `Fitting`."""
        uri = f"{self._stage.folder}/{name}"
        self._whole(model).write().save(uri)
        return uri

    def log(self, model: Transformer, run_id: str) -> str:
        """Log a Spark pipeline; see `Fitting`."""
        code = load_trainer(self._stage.experiment.model.trainer).model_code
        return log_whole(
            self._stage,
            run_id,
            self._spark,
            "mlflow.spark",
            mlflow.spark.save_model,
            spark_model=self._whole(model),
            code_paths=[str(path) for path in code],
            dfs_tmpdir=f"{self._stage.folder}/mlflow",
        )

    def _whole(self, model: Transformer) -> PipelineModel:
        return whole_model(self._features, model, self.classes)

    @cached_property
    def _features(self) -> PipelineModel:
        return load_pipeline(self._stage.output("featurize", "features"))


def whole_model(features: PipelineModel, model: Transformer, classes: list[Any]) -> PipelineModel:
    """Return features + model as one: raw rows in, `prediction` out (a number, or the class as the data spell it)."""
    name = "prediction"
    if not classes:
        last = [SQLTransformer(statement=f"SELECT *, {PREDICTION} AS {name} FROM __THIS__")]
    else:
        kind = {bool: "boolean", int: "bigint"}.get(type(classes[0]), "string")
        text = [str(value).lower() if isinstance(value, bool) else str(value) for value in classes]
        last = [
            IndexToString(inputCol=PREDICTION, outputCol="retune_class", labels=text),
            SQLTransformer(statement=f"SELECT *, CAST(retune_class AS {kind}) AS {name} FROM __THIS__"),
        ]
    # One flat pipeline: PySpark would write one within another so that only Python can read it.
    fitted = model.stages if isinstance(model, PipelineModel) else [model]
    return PipelineModel(stages=[*features.stages, *fitted, *last])
