"""The whole model of a single-machine trainer: a scikit-learn pipeline that takes raw rows as pandas has them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from pyspark.ml.feature import StringIndexerModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from retune.errors import BadInput
from retune.features.base import FEATURES
from retune.handoff import FEATURE_LIST, PROFILE, Stage
from retune.pipeline_reader import load_pipeline
from retune.placements.logged import log_whole, metadata_of, requirements_of
from retune.spark import quote, read_parquet
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION, PROBABILITY

_AS: dict[str, Any] = {"serialization_format": "cloudpickle"}
_CHECKED_ROWS = 1000
_SCORED = "retune_scored"


class TaskModels:
    """Keeps and logs whole models; the part of `Fitting` that does not hang on where they were fitted."""

    def __init__(self, stage: Stage, spark: SparkSession) -> None:
        self._stage, self._spark = stage, spark
        self._trainer = load_trainer(stage.experiment.model.trainer)
        self._features = features_of(stage)

    def save(self, model: Any, name: str) -> str:
        """Log a scikit-learn model below the run's artifacts; see `Fitting`."""
        with tempfile.TemporaryDirectory() as folder:
            mlflow.sklearn.save_model(
                self._whole(model),
                f"{folder}/model",
                pip_requirements=requirements_of(self._trainer),
                metadata=metadata_of(self._stage),
                **_AS,
            )
            self._stage.client.log_artifacts(self._stage.run_id, f"{folder}/model", name)
        return f"runs:/{self._stage.run_id}/{name}"

    def log(self, model: Any, run_id: str) -> str:
        """Log a scikit-learn pipeline; see `Fitting`."""
        return log_whole(
            self._stage,
            run_id,
            self._spark,
            "mlflow.sklearn",
            mlflow.sklearn.save_model,
            sk_model=self._whole(model),
            **_AS,
        )

    def _whole(self, model: Any) -> Pipeline:
        return Pipeline([("features", self._features), ("model", model)])


def raw_features(columns: list[dict[str, Any]], labels: list[list[str]], schema: dict[str, str]) -> ColumnTransformer:
    """Return what makes of raw rows the very features that featurize made, from scikit-learn's own parts.

    Args:
        columns: Name and kind of each feature, in order.
        labels: Of each nominal one, its values in the order of their numbers, as text.
        schema: Spark's type of each raw column.
    """
    remaining = iter(labels)
    steps: list[tuple[str, Any, list[str]]] = []
    for kind, group in groupby(columns, key=lambda column: str(column["kind"])):
        names = [str(column["name"]) for column in group]
        if kind == "number":
            steps.append((f"numbers {len(steps)}", _numbers(), names))
            continue
        for name in names:
            known = [_as_raw(label, schema[name]) for label in next(remaining)]
            steps.append((f"category {name}", _category(known), [name]))
    made = ColumnTransformer(steps)
    return made.fit(pd.DataFrame({str(c["name"]): pd.Series(dtype=object) for c in columns}, index=[0]))


def _numbers() -> Any:
    # By functions of pandas itself, so that the model needs no code of ours: text that is no number is missing.
    return make_pipeline(
        FunctionTransformer(pd.DataFrame.apply, kw_args={"func": pd.to_numeric, "errors": "coerce"}),
        FunctionTransformer(pd.DataFrame.astype, kw_args={"dtype": "float64"}),
    )


def _category(known: list[Any]) -> Any:
    other = len(known)  # missing and unseen alike, as StringIndexer keeps them
    encoder = OrdinalEncoder(
        categories=[np.array(known, dtype=object)], handle_unknown="use_encoded_value", unknown_value=other,
        encoded_missing_value=other,
    )  # fmt: skip
    return make_pipeline(FunctionTransformer(pd.DataFrame.astype, kw_args={"dtype": object}), encoder)


def _as_raw(label: str, kind: str) -> Any:
    """Return a category as pandas has it in raw rows: Spark made text of it."""
    if kind == "boolean":
        return label == "true"
    if kind in ("tinyint", "smallint", "int", "bigint"):
        return int(label)
    return float(label) if kind in ("float", "double") else label


def features_of(stage: Stage) -> ColumnTransformer:
    """Return the features of the featurize run as part of a scikit-learn model; see `raw_features`."""
    columns = stage.artifact("featurize", FEATURE_LIST)["features"]
    stages = load_pipeline(stage.output("featurize", "features")).stages
    labels = [list(each) for one in stages if isinstance(one, StringIndexerModel) for each in one.labelsArray]
    return raw_features(columns, labels, stage.artifact("ingest", PROFILE)["schema"])


def check_features(spark: SparkSession, stage: Stage) -> None:
    """Check on some rows that the model will make of raw rows the features that it is fitted to.

    Raises:
        BadInput: It would not: pandas reads a column in another way than Spark does.
    """
    rows = read_parquet(spark, stage.output("featurize", "train")).limit(_CHECKED_ROWS)
    raw = rows.withColumn(FEATURES, vector_to_array(FEATURES)).toPandas()
    wanted, found = np.stack(raw[FEATURES].to_numpy()), features_of(stage).transform(raw)
    for index, column in enumerate(stage.artifact("featurize", FEATURE_LIST)["features"]):
        if not np.array_equal(wanted[:, index], found[:, index], equal_nan=True):
            raise BadInput(
                f"column {column['name']!r}: a single-machine model cannot read it from raw rows as Spark does; "
                "prepare it in the data, leave it out by features.drop, or use a cluster trainer"
            )


class TaskModel:
    """A whole model as evaluate uses it: in Spark tasks, on batches of rows; see `WholeModel`."""

    def __init__(self, model: Pipeline, classes: list[Any]) -> None:
        self._model, self._classes = model, classes

    def transform(self, rows: DataFrame) -> DataFrame:
        """Score raw rows; see `WholeModel`."""
        sent, classes = rows.sparkSession.sparkContext.broadcast(self._model), self._classes

        def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for batch in batches:
                yield _predict(sent.value, batch, classes)

        predict = F.pandas_udf(score, "prediction double, probability array<double>")
        names = [str(name) for name in self._model.named_steps["features"].feature_names_in_]
        scored = rows.withColumn(_SCORED, predict(F.struct(*map(quote, names))))
        scored = scored.withColumn(PREDICTION, F.col(f"{_SCORED}.prediction"))
        if classes:
            scored = scored.withColumn(PROBABILITY, array_to_vector(F.col(f"{_SCORED}.probability")))
        return scored.drop(_SCORED)


def _predict(model: Pipeline, batch: pd.DataFrame, classes: list[Any]) -> pd.DataFrame:
    if not classes:
        return pd.DataFrame({"prediction": model.predict(batch).astype(float), "probability": None})
    index = {value: number for number, value in enumerate(classes)}
    predicted = np.array([index[value] for value in model.predict(batch).tolist()])
    if hasattr(model, "predict_proba"):
        probability = model.predict_proba(batch)[:, np.argsort([index[value] for value in model.classes_.tolist()])]
    else:
        probability = np.eye(len(classes))[predicted]
    return pd.DataFrame({"prediction": predicted.astype(float), "probability": list(probability)})
