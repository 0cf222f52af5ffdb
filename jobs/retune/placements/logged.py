"""A model as MLflow keeps it: whole, with signature, example and requirements."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from pyspark.sql import SparkSession

from retune.handoff import PROFILE, Stage
from retune.placements.feature_list import read_features
from retune.spark import quote, read_parquet
from retune.tracking import mlflow_schema
from retune.trainers import load_trainer
from retune.trainers.base import Trainer

_EXAMPLE_ROWS = 5


def log_whole(
    stage: Stage,
    run_id: str,
    spark: SparkSession,
    flavor: str,
    save_model: Callable[..., None],
    **model: Any,
) -> str:
    """Log a model with all that is needed to use it elsewhere; return its URI.

    Args:
        stage: Fitted it.
        run_id: The MLflow run it belongs to.
        spark: The session.
        flavor: MLflow's module for models of its kind.
        save_model: That module's.
        model: What `save_model` needs of its own: the model first of all.
    """

    def save(validate_serving_input: bool, **arguments: Any) -> None:  # noqa: ARG001 - means `Model.log`
        save_model(**arguments)

    mlflow.start_run(run_id=run_id, log_system_metrics=False)
    try:
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=SimpleNamespace(save_model=save),
            flavor_name=flavor,
            # MLflow would serve the example from what it has just written, a second at every run: a test does that.
            validate_serving_input=False,
            pip_requirements=requirements_of(load_trainer(stage.experiment.model.trainer)),
            metadata=metadata_of(stage),
            **_contract(stage, spark),
            **model,
        )
    finally:
        mlflow.end_run("RUNNING")  # not FINISHED, as `with` would have it: the run goes on
    return str(info.model_uri)


def requirements_of(trainer: Trainer) -> list[str]:
    """Return what a model of the trainer needs to be loaded, in the versions that are here."""
    return [f"{name}=={version(name)}" for name in trainer.requirements]


def metadata_of(stage: Stage) -> dict[str, Any]:
    """Return what evaluate asks of a model before it scores with it."""
    return {
        "retune_classes": stage.artifact("ingest", PROFILE)["classes"],
        "retune_problem": stage.experiment.problem,
    }


def _contract(stage: Stage, spark: SparkSession) -> dict[str, Any]:
    classes = stage.artifact("ingest", PROFILE)["classes"]
    columns = {feature.name: feature.type for feature in read_features(stage)}
    example = read_parquet(spark, stage.output("featurize", "train")).select(*map(quote, columns)).limit(_EXAMPLE_ROWS)
    output = {bool: "boolean", int: "long", str: "string"}[type(classes[0])] if classes else "double"
    return {
        "signature": ModelSignature(mlflow_schema(columns), Schema([ColSpec(output, "prediction")])),
        "input_example": example.toPandas(),
    }
