"""What the trainers of Spark's own estimators share."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pyspark import SparkContext
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID
from retune.features.base import FEATURES
from retune.metrics import Problem
from retune.space import Parameters
from retune.spark import Slots
from retune.trainers._parameters import SHARE, Range, above, at_least, half_open, within
from retune.trainers.base import PREDICTION, PROBABILITY
from retune.trainers.base_cluster import ClusterTrainer, EarlyStopping

_ROWS_PER_PARTITION = 100
_HUGE = 1e300
_OURS = frozenset(
    (
        *("self", "featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "leafCol"),
        *("weightCol", "validationIndicatorCol", "validationTol", "thresholds"),
        # Matrices and vectors, which a file cannot hold.
        *("lowerBoundsOnCoefficients", "upperBoundsOnCoefficients", "lowerBoundsOnIntercepts"),
        "upperBoundsOnIntercepts",
    )
)

# By Spark's own validators, which only Java knows.
_RANGES = {
    "maxIter": at_least(0),
    "maxDepth": within(0, 30),
    "maxBins": at_least(2),
    "minInstancesPerNode": at_least(1),
    "minWeightFractionPerNode": half_open(0, 0.5),
    "minInfoGain": at_least(0),
    "numTrees": at_least(1),
    "stepSize": SHARE,
    "subsamplingRate": SHARE,
    "regParam": at_least(0),
    "elasticNetParam": within(0, 1),
    "tol": at_least(0),
    "aggregationDepth": at_least(2),
    "epsilon": above(1),
    "threshold": within(0, 1),
}


class SparkTrainer(ClusterTrainer):
    """A trainer of one of Spark's regressors and its classifier; parameters go by Spark's names.

    Attributes:
        regressor: The estimator of Spark's for regression.
        classifier: That for classes.
    """

    requirements = ("mlflow", "pyspark", "numpy", "pandas")
    regressor: Any
    classifier: Any

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return Spark's parameters, less those that retune sets itself."""
        signature = inspect.signature(self._estimator_class(problem).__init__)
        return {name: p.default for name, p in signature.parameters.items() if name not in _OURS}

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what Spark's own validators take; see `Trainer`."""
        return _RANGES

    def require(self, spark: SparkSession) -> None:
        """Spark is all it needs."""

    def layout(self, rows: DataFrame, slots: Slots) -> DataFrame:
        """Give each core one partition, in an order that hangs on the rows alone.

        The order makes a fit repeatable whatever wrote the rows; a task for a few rows would cost more than it gains.
        """
        cores = slots.executors * slots.cores
        partitions = max(1, min(cores, rows.count() // _ROWS_PER_PARTITION)) if cores > 1 else 1
        spread = rows.repartition(partitions, ROW_ID) if partitions > 1 else rows.coalesce(1)
        return spread.sortWithinPartitions(ROW_ID)

    def model_size(self, model: Transformer) -> int:
        """Return the bytes of Java's serialisation, counted where they are: a large model stays out of Python."""
        stages = model.stages if isinstance(model, PipelineModel) else [model]
        return sum(_serialized_bytes(stage._java_obj) for stage in stages)

    def estimator(self, problem: Problem, features: str, parameters: Mapping[str, Any]) -> Any:
        """Return the estimator for `problem`, with retune's columns and the vectors of column `features`."""
        columns = {"featuresCol": features, "labelCol": LABEL, "predictionCol": PREDICTION}
        estimator = self._estimator_class(problem)(**parameters, **columns)
        # Raw predictions tell no more than probabilities do, so they need no column.
        return (
            estimator if problem == "regression" else estimator.setProbabilityCol(PROBABILITY).setRawPredictionCol("")
        )

    def _estimator_class(self, problem: Problem) -> Any:
        return self.regressor if problem == "regression" else self.classifier


class SparkTrees(SparkTrainer):
    """Trees of Spark's, which take a missing number for one larger than all others, in fits and in predictions.

    Spark refuses missing values in a fit, so they become a huge number there. Predictions need no such step: a tree
    asks whether a value is at most a threshold, which neither a huge number nor NaN is. Categories are split as such;
    `maxBins`, unless the user sets it, is Spark's default or the most categories of a feature, where these are more.
    """

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
        bins = max([cast(int, self.defaults(problem)["maxBins"]), *nominal_slots(rows).values()])
        estimator = self.estimator(problem, FEATURES, {"seed": seed, "maxBins": bins, **parameters})
        finite = F.transform(vector_to_array(FEATURES), lambda x: F.greatest(F.least(x, F.lit(_HUGE)), F.lit(-_HUGE)))
        metadata = rows.schema[FEATURES].metadata
        return estimator.fit(
            with_classes(rows.withColumn(FEATURES, array_to_vector(finite)).withMetadata(FEATURES, metadata), classes)
        )

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return the gains of splits; see `Trainer`."""
        return list(model.featureImportances.toArray())


def nominal_slots(rows: DataFrame) -> dict[int, int]:
    """Return how many categories each nominal slot of the features has, that of missing and unseen values included."""
    attributes = rows.schema[FEATURES].metadata.get("ml_attr", {}).get("attrs", {})
    return {slot["idx"]: len(slot["vals"]) for slot in attributes.get("nominal", [])}


def nominal(categories: int) -> dict[str, Any]:
    """Return the metadata by which Spark knows a column of categories."""
    return {"ml_attr": {"type": "nominal", "num_vals": categories}}


def with_classes(rows: DataFrame, classes: int) -> DataFrame:
    """Tell Spark how many classes there are: it would count those of the rows, and a fold may lack one."""
    return rows.withMetadata(LABEL, nominal(classes)) if classes else rows


def _serialized_bytes(java_object: Any) -> int:
    java_io = cast(Any, SparkContext._jvm).java.io
    buffer = java_io.ByteArrayOutputStream()
    stream = java_io.ObjectOutputStream(buffer)
    stream.writeObject(java_object)
    stream.close()
    return int(buffer.size())
