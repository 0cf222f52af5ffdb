"""The whole model of a single-machine trainer: a scikit-learn pipeline that takes raw rows as pandas has them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from retune.data.table import pack_features, stack_features
from retune.errors import BadInput
from retune.features.base import FEATURES, Feature
from retune.handoff import Stage
from retune.placements.feature_list import has_bags, name_importances, read_features
from retune.placements.logged import log_whole, metadata_of, requirements_of
from retune.placements.task_rows import VECTOR_PARTS, read_plain_split
from retune.spark import quote
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
        self._features = read_features(stage)

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
        return Pipeline([("features", raw_features(self._features)), ("model", model)])

    def importances(self, model: Any) -> dict[str, float]:
        """Return how much each slot of the vector counts; see `Fitting`."""
        return name_importances(self._trainer.importances(model), self._features)


def raw_features(features: list[Feature]) -> ColumnTransformer:
    """Return what makes of raw rows the very features that featurize made, from scikit-learn's own parts."""
    steps: list[tuple[str, Any, list[str] | str]] = []
    for kind, group in groupby(features, key=lambda feature: feature.kind):
        if kind == "number":
            steps.append((f"numbers {len(steps)}", _numbers(), [feature.name for feature in group]))
            continue
        for feature in group:
            if kind == "bag":
                steps.append((f"bag {len(steps)}", _bag(), feature.name))
            else:
                known = [_as_raw(value, feature.type) for value in feature.values]
                steps.append((f"category {len(steps)}", _category(known), [feature.name]))  # no name may have a __
    example = {f.name: [dict.fromkeys(f.values, 1.0), {}] if f.kind == "bag" else [None] * 2 for f in features}
    # Sparse wherever the second of these rows has a zero, that is with bags: as the rows that models are fitted to.
    made = ColumnTransformer(steps, sparse_threshold=1.0)
    return made.fit(pd.DataFrame(example, dtype=object))


def _bag() -> Any:
    # Arrow and pandas may have a map as a list of pairs. Names it was not fitted to are left out.
    return make_pipeline(FunctionTransformer(pd.Series.map, kw_args={"func": dict}), DictVectorizer())


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


def check_features(spark: SparkSession, stage: Stage) -> None:
    """Check on some rows that the model will make of raw rows the features that it is fitted to.

    Raises:
        BadInput: It would not: pandas reads a column in another way than Spark does.
    """
    features = read_features(stage)
    raw = read_plain_split(spark, stage, "train").limit(_CHECKED_ROWS).toPandas()
    size, indices, values = zip(*map(itemgetter(*VECTOR_PARTS), raw[FEATURES]), strict=True)
    vectors = pack_features(np.array(size, dtype=float), list(indices), list(values))
    wanted = stack_features([vectors], has_bags(features))
    found, start = raw_features(features).transform(raw), 0
    for feature in features:
        slots = slice(start, start + len(feature.slots))
        if not _equal(wanted[:, slots], found[:, slots]):
            raise BadInput(
                f"column {feature.name!r}: a single-machine model cannot read it from raw rows as Spark does; "
                "prepare it in the data, leave it out by features.drop, or use a cluster trainer"
            )
        start = slots.stop


def _equal(wanted: Any, found: Any) -> bool:
    if sparse.issparse(wanted):
        return (wanted != sparse.csr_matrix(found)).nnz == 0
    return np.array_equal(wanted, found, equal_nan=True)


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
