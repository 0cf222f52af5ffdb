"""Spark's linear and logistic regression, fitted on the cluster."""

from __future__ import annotations

from typing import Any

from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import OneHotEncoder, SQLTransformer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.regression import LinearRegression
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.data.splits import LABEL
from retune.features.base import FEATURES
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers._spark_ml import SparkTrainer, nominal, nominal_slots, with_classes
from retune.trainers.base import PREDICTION, PROBABILITY
from retune.trainers.base_cluster import EarlyStopping

_ROW, _VECTOR, _SLOT, _FILLED = "retune_row", "retune_vector", "retune_slot", "retune_filled"
_ACCURACY = 10_000  # of medians: up to so many values a partition, they are exact
_FIELDS = "v STRUCT<type: INT, size: INT, indices: ARRAY<INT>, values: ARRAY<DOUBLE>>"


class SparkLinear(SparkTrainer):
    """`LinearRegression` and `LogisticRegression`.

    They take neither missing values nor categories, so the model is a pipeline: missing and infinite numbers become
    the median of the fit's rows, and each category but the last, which is that of missing and unseen values, a slot of
    0 and 1. All its stages are Spark's own, and none leaves a column behind.
    """

    name = "spark_linear"
    regressor = LinearRegression
    classifier = LogisticRegression

    def fit(
        self,
        rows: DataFrame,
        parameters: Parameters,
        problem: Problem,
        classes: int,
        seed: int,
        early_stopping: EarlyStopping | None = None,
    ) -> Transformer:
        """Fit one model; see `Trainer`."""
        categories, fills = nominal_slots(rows), _fills(rows)
        numbers = PipelineModel(stages=[_unpack_row(), _fill_slots(fills)])
        slots = numbers.transform(rows)
        one_hot = [_one_hot(slots, categories)] if categories else []
        names = [f"{_SLOT}_{slot}{'_hot' if slot in categories else ''}" for slot in range(len(fills))]
        stages = [*numbers.stages, *one_hot, VectorAssembler(inputCols=names, outputCol=_FILLED)]
        filled = PipelineModel(stages=stages).transform(rows).withColumn(LABEL, F.col(f"{_ROW}.{LABEL}"))
        model = self.estimator(problem, _FILLED, parameters).fit(with_classes(filled.select(_FILLED, LABEL), classes))
        added = [PREDICTION, *([PROBABILITY] if classes else [])]
        last = SQLTransformer(statement=f"SELECT {_ROW}.*, {', '.join(added)} FROM __THIS__")
        return PipelineModel(stages=[*stages, model, last])


def _fills(rows: DataFrame) -> list[float]:
    """Return what stands in for a missing value of each slot: for categories the last, else the median."""
    categories, first = nominal_slots(rows), rows.select(FEATURES).first()
    if first is None:
        raise ValueError("there are no rows to fit to")
    slots = range(first[FEATURES].size)
    values = rows.select(vector_to_array(FEATURES).alias(_VECTOR))
    finite = [F.when(F.abs(F.col(_VECTOR)[slot]) < float("inf"), F.col(_VECTOR)[slot]) for slot in slots]
    medians = values.agg(*[F.percentile_approx(finite[slot], 0.5, _ACCURACY) for slot in slots]).first() or ()
    return [float(categories[slot] - 1 if slot in categories else medians[slot] or 0) for slot in slots]


def _unpack_row() -> SQLTransformer:
    """Set the row aside, and make of its vector what SQL can take apart.

    SQL has no function that does, and a Python one would need retune wherever the model goes; JSON leads there too, and
    changes no number.
    """
    return SQLTransformer(
        statement=f"SELECT struct(*) AS {_ROW}, "
        f"from_json(to_json(struct({FEATURES} AS v)), '{_FIELDS}').v AS {_VECTOR} FROM __THIS__"
    )


def _fill_slots(fills: list[float]) -> SQLTransformer:
    """Make a column of each slot, without missing values. A sparse vector has no type 1, and lists what is not 0."""
    dense = (
        f"if({_VECTOR}.type = 1, {_VECTOR}.values, transform(sequence(0, {_VECTOR}.size - 1), slot -> "
        f"coalesce(get({_VECTOR}.values, int(array_position({_VECTOR}.indices, slot)) - 1), 0D)))"
    )
    columns = ", ".join(
        f"if(abs(get(x, {slot})) < double('Infinity'), get(x, {slot}), {fill!r}D) AS {_SLOT}_{slot}"
        for slot, fill in enumerate(fills)
    )
    return SQLTransformer(statement=f"SELECT {_ROW}, {columns} FROM (SELECT {_ROW}, {dense} AS x FROM __THIS__)")


def _one_hot(slots: DataFrame, categories: dict[int, int]) -> Any:
    for slot, count in categories.items():
        slots = slots.withMetadata(f"{_SLOT}_{slot}", nominal(count))
    names = [f"{_SLOT}_{slot}" for slot in categories]
    return OneHotEncoder(inputCols=names, outputCols=[f"{name}_hot" for name in names]).fit(slots)


TRAINER = SparkLinear()
