"""The whole model: raw rows in, predictions as the data spell them out; how it is built, logged and loaded."""

from __future__ import annotations

from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.feature import IndexToString, SQLTransformer
from pyspark.sql import SparkSession

from retune.handoff import Stage
from retune.registry import version_of_run
from retune.spark import copy_from_local, load_pipeline, quote, read_parquet
from retune.stages.featurize import FEATURE_LIST
from retune.stages.ingest import mlflow_schema
from retune.trainers.base import PREDICTION, Trainer

_EXAMPLE_ROWS = 5


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
    return PipelineModel(stages=[*features.stages, model, *last])


def log_model(
    stage: Stage, spark: SparkSession, model: PipelineModel, trainer: Trainer, profile: dict[str, Any]
) -> str:
    """Log the challenger with all that is needed to use it elsewhere; return its URI.

    A retry finds the version that an earlier attempt registered, and with it a model logged in whole.
    """
    registered = version_of_run(stage.client, stage.experiment.dag_id, stage.run_id)
    if registered:
        return str(registered.source)
    names = [feature["name"] for feature in stage.artifact("featurize", FEATURE_LIST)["features"]]
    kinds = {name: profile["schema"][name] for name in names}
    example = read_parquet(spark, stage.output("featurize", "train")).select(*map(quote, names)).limit(_EXAMPLE_ROWS)
    mlflow.start_run(run_id=stage.run_id, log_system_metrics=False)
    try:
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=_SPARK,
            flavor_name="mlflow.spark",
            validate_serving_input=False,
            spark_model=model,
            signature=_signature(kinds, profile),
            input_example=example.toPandas(),
            pip_requirements=[f"{name}=={version(name)}" for name in trainer.requirements],
            code_paths=[str(path) for path in trainer.model_code],
            dfs_tmpdir=f"{stage.folder}/mlflow",
            metadata={"retune_classes": profile["classes"], "retune_problem": stage.experiment.problem},
        )
    finally:
        mlflow.end_run("RUNNING")  # not FINISHED, as `with` would have it: only the job knows when it is
    return str(info.model_uri)


def load_model(spark: SparkSession, uri: str, folder: str) -> PipelineModel:
    """Load a logged model.

    `mlflow.spark.load_model` does the same by PySpark's reader, which starts a Python worker; see `load_pipeline`.

    Args:
        spark: The session.
        uri: Any that MLflow knows, such as `models:/name/1`.
        folder: Where the cluster can read a copy of it.
    """
    local = mlflow.artifacts.download_artifacts(uri)
    data = Model.load(local).flavors["spark"]["model_data"]
    return load_pipeline(copy_from_local(spark, f"{local}/{data}", f"{folder}/{uri.rpartition(':')[2].strip('/')}"))


def _save_spark(**arguments: Any) -> None:
    del arguments["validate_serving_input"]
    mlflow.spark.save_model(**arguments)


# MLflow would serve the example from the model it has just written, a second and more at every run: a test does that.
_SPARK = SimpleNamespace(save_model=_save_spark)


def _signature(kinds: dict[str, str], profile: dict[str, Any]) -> ModelSignature:
    classes = profile["classes"]
    output = {bool: "boolean", int: "long", str: "string"}[type(classes[0])] if classes else "double"
    return ModelSignature(mlflow_schema(kinds), Schema([ColSpec(output, "prediction")]))
