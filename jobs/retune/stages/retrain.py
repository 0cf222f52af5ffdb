"""Retrain: fit the best and the untuned setting on train + validation, and register the best as challenger."""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.feature import IndexToString, SQLTransformer
from pyspark.sql import SparkSession

from retune.handoff import Stage
from retune.registry import register_challenger, version_of_run
from retune.space import flatten
from retune.spark import load_pipeline, quote, read_parquet, spark_session
from retune.stages.featurize import FEATURE_LIST
from retune.stages.fitting import laid_out, read_split
from retune.stages.ingest import PROFILE, mlflow_schema
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION, Trainer

log = logging.getLogger(__name__)
_EXAMPLE_ROWS = 5


def run(stage: Stage) -> None:
    """Publish `challenger` (version in the registry), `challenger_model` and `untuned_model` (URIs)."""
    experiment, profile = stage.experiment, stage.artifact("ingest", PROFILE)
    trainer, classes = load_trainer(experiment.model.trainer), profile["classes"]
    best = {**experiment.model.fixed, **flatten(json.loads(stage.output("tune", "best_setting")))}
    if rounds := int(stage.output("tune", "best_rounds")):
        best = trainer.with_rounds(best, rounds)
    with spark_session(f"{experiment.name} retrain") as spark:
        trainer.require(spark)
        features = load_pipeline(stage.output("featurize", "features"))
        rows = read_split(spark, stage, "train").unionByName(read_split(spark, stage, "validation"))
        with laid_out(rows, trainer) as fit_rows:
            log.info("fitting the best setting: %s", best)
            tuned = trainer.fit(fit_rows, best, experiment.problem, len(classes), experiment.search.seed)
            log.info("fitting the untuned setting: %s", experiment.untuned_parameters)
            untuned = trainer.fit(
                fit_rows, experiment.untuned_parameters, experiment.problem, len(classes), experiment.search.seed
            )
            stage.log_metrics({"fit_rows": fit_rows.count()})
        untuned_uri = f"{stage.folder}/untuned"
        whole_model(features, untuned, classes).write().save(untuned_uri)
        model_uri = _log_model(stage, spark, whole_model(features, tuned, classes), trainer, profile)
    stage.ensure_current()
    challenger = register_challenger(stage.client, experiment.dag_id, model_uri, stage.run_id)
    log.info("registered %s version %s as challenger", experiment.dag_id, challenger)
    stage.publish(challenger=challenger, challenger_model=model_uri, untuned_model=untuned_uri)


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


def _log_model(
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
        info = mlflow.spark.log_model(
            model,
            artifact_path="model",
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


def _signature(kinds: dict[str, str], profile: dict[str, Any]) -> ModelSignature:
    classes = profile["classes"]
    output = {bool: "boolean", int: "long", str: "string"}[type(classes[0])] if classes else "double"
    return ModelSignature(mlflow_schema(kinds), Schema([ColSpec(output, "prediction")]))
