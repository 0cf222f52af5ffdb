"""The whole model of a cluster trainer: a Spark pipeline that takes raw rows."""

from __future__ import annotations

from typing import Any

from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.feature import IndexToString, SQLTransformer

from retune.trainers.base import PREDICTION


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
