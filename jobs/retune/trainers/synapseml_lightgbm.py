"""SynapseML's LightGBM: distributed gradient boosting, fitted on the cluster."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.ml import Transformer
from pyspark.ml.wrapper import JavaParams
from pyspark.sql import DataFrame, SparkSession
from synapse.ml import lightgbm

from retune.data.splits import LABEL, ROW_ID
from retune.errors import BadInput
from retune.features.base import FEATURES
from retune.metrics import Problem
from retune.space import Parameters
from retune.spark import Slots
from retune.trainers._lightgbm import ranges
from retune.trainers._parameters import Range
from retune.trainers.base import MODEL_CODE, PREDICTION, PROBABILITY
from retune.trainers.base_cluster import WATCHED, ClusterTrainer, EarlyStopping, FitPlan

_ROWS_PER_TASK = 10_000
_VALUES_PER_THREAD = 500_000
_BYTES_PER_VALUE = 16  # two copies of a float64
_OURS = frozenset(
    (
        *("self", "java_obj", "fobj", "modelString", "referenceDataset", "executionMode", "numBatches"),
        *("featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "featuresShapCol"),
        *("leafPredictionCol", "initScoreCol", "weightCol", "validationIndicatorCol", "repartitionByGroupingColumn"),
        *("slotNames", "categoricalSlotIndexes", "categoricalSlotNames", "thresholds"),
        *("defaultListenPort", "driverListenPort"),
    )
)


class SynapseMLLightGBM(ClusterTrainer):
    """`LightGBMRegressor` and `LightGBMClassifier`; parameters go by SynapseML's names."""

    name = "synapseml_lightgbm"
    requirements = ("mlflow", "pyspark", "synapseml", "numpy", "pandas")
    rounds_parameter = "numIterations"
    model_code = (MODEL_CODE / "com",)

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return SynapseML's parameters, less those that retune sets itself."""
        signature = inspect.signature(_estimator(problem).__init__)
        known = {name: p.default for name, p in signature.parameters.items() if name not in _OURS}
        return {**known, "objective": problem}

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what LightGBM's documentation says; see `Trainer`."""
        own = {name.replace("_", ""): allowed for name, allowed in ranges(problem).items()}
        known = {name: name.lower() for name in self.defaults(problem)}  # featureFraction is feature_fraction
        return {name: own[same] for name, same in known.items() if same in own}

    def require(self, spark: SparkSession) -> None:
        """Check that SynapseML's jars are on the class path; see `Trainer`."""
        jvm: Any = spark._jvm
        try:
            jvm.java.lang.Class.forName(
                "com.microsoft.azure.synapse.ml.lightgbm.LightGBMRegressor",
                False,
                jvm.java.lang.Thread.currentThread().getContextClassLoader(),
            )
        except Exception as error:
            raise BadInput(
                "SynapseML's jars are not on Spark's class path; run `make setup` and `. .retune/env`, "
                "or give spark-submit `--packages com.microsoft.azure:synapseml-lightgbm_2.12:1.1.3`"
            ) from error

    def plan(self, values: int, slots: Slots, memory: int, parallel: int) -> FitPlan:
        """Choose threads and the way of the rows into native memory; see `ClusterTrainer`.

        A fit takes one task an executor, and of its cores at most an equal part. Measured on 2 cores: with 0.1 M values
        a second thread doubles a fit's time, with 1 M it changes nothing, with 7 M it saves a fifth. Fits side by side
        with a thread each take at least a quarter less than one after the other at every size, so as many are proposed
        as memory has room for. Bulk transfer beat streaming at every size; it copies all values twice.
        """
        of_executor = values // slots.executors
        useful = max(1, of_executor // _VALUES_PER_THREAD)
        threads = min(useful, max(1, slots.cores // parallel))
        copies = max(1, memory // max(1, of_executor * _BYTES_PER_VALUE))
        mode = "bulk" if of_executor * _BYTES_PER_VALUE * parallel <= memory else "streaming"
        reason = (
            f"a task an executor with {threads} of {max(1, slots.cores // parallel)} threads "
            f"(one pays for each {_VALUES_PER_THREAD:,} values, "
            f"and there are {of_executor:,}) and {mode} transfer ({parallel} × "
            f"{of_executor * _BYTES_PER_VALUE / 2**20:.0f} MB in bulk, of {memory / 2**20:.0f} MB an executor)"
        )
        return FitPlan({"numThreads": threads, "dataTransferMode": mode}, min(slots.cores, copies), reason)

    def safer(self, rung: int) -> Parameters:
        """Barrier mode, so that all tasks start or none; then a single task, which needs no network. Both in bulk."""
        ladder: tuple[Parameters, ...] = (
            {},
            {"dataTransferMode": "bulk", "useBarrierExecutionMode": True},
            {"dataTransferMode": "bulk", "useBarrierExecutionMode": False, "numTasks": 1},
        )
        return ladder[min(rung, len(ladder) - 1)]

    def model_size(self, model: Transformer) -> int:
        """Return the bytes of LightGBM's own text form."""
        return len(model.getNativeModel().encode())

    def layout(self, rows: DataFrame, slots: Slots) -> DataFrame:
        """Give each executor one partition, in an order that hangs on the rows alone.

        A fit waits until all its tasks run at once and uses all cores of an executor from one task, so more partitions
        gain nothing and could deadlock it; the order makes a fit repeatable whatever wrote the rows.
        """
        partitions = max(1, min(slots.executors, rows.count() // _ROWS_PER_TASK)) if slots.executors > 1 else 1
        spread = rows.repartition(partitions, ROW_ID) if partitions > 1 else rows.coalesce(1)
        return spread.sortWithinPartitions(ROW_ID)

    def rounds(self, model: Transformer) -> int:
        """Return the best iteration of LightGBM's own early stopping, counted from 1; see `Trainer`."""
        best = int(model.getBoosterBestIteration())
        return best if best > 0 else int(model.getBoosterNumTotalIterations())

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return gains; see `Trainer`."""
        return list(model.getFeatureImportances("gain"))

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
        partitions = rows.rdd.getNumPartitions()
        # A fit waits for all its tasks: with more than there are partitions it would never begin.
        tasks = min(partitions, parameters.get("numTasks") or partitions)
        if early_stopping:
            rows = early_stopping.beside(rows)
        if parameters.get("useBarrierExecutionMode") or tasks < partitions:
            # A barrier stage must not join partitions of the stage before, as `layout` and early stopping do, and
            # SynapseML joins them by where they lie, which would make a fit hang on that.
            rows = rows.repartition(tasks, ROW_ID).sortWithinPartitions(ROW_ID)
        settings: dict[str, Any] = {
            "seed": seed % (2**31),
            "deterministic": True,
            "verbosity": -1,
            "dataTransferMode": "bulk",
            **({} if "numThreads" in parameters else {"numThreads": Slots.of(rows.sparkSession).cores}),
            **({"objective": problem} if problem != "regression" else {}),
            **parameters,
            "numTasks": tasks,
            "featuresCol": FEATURES,
            "labelCol": LABEL,
            "predictionCol": PREDICTION,
            **({"probabilityCol": PROBABILITY} if problem != "regression" else {}),
            **(
                {"validationIndicatorCol": WATCHED, "earlyStoppingRound": early_stopping.rounds}
                if early_stopping
                else {}
            ),
        }
        return _estimator(problem)(**settings).fit(rows)


class _Terse(JavaParams):
    """Part of an estimator that tells Java what was set and asks for nothing back.

    SynapseML's own hands over every parameter and default in several calls each, looking up a Java class by the parts
    of its name for each; the fitted model's are read back, and handed over again when it predicts. Java had them all.
    """

    def _transfer_params_to_java(self) -> None:
        for param, value in self._paramMap.items():
            self._java_obj.set(self._make_java_param_pair(param, value))

    def _create_model(self, java_model: Any) -> Transformer:
        model = self._model(java_obj=java_model)
        model._defaultParamMap.clear()
        return model


class LightGBMRegressor(_Terse, lightgbm.LightGBMRegressor):
    """SynapseML's, under its own name: MLflow's autologging writes it down."""

    _model = lightgbm.LightGBMRegressionModel


class LightGBMClassifier(_Terse, lightgbm.LightGBMClassifier):
    """As `LightGBMRegressor`."""

    _model = lightgbm.LightGBMClassificationModel


def _estimator(problem: Problem) -> Any:
    return LightGBMRegressor if problem == "regression" else LightGBMClassifier


TRAINER = SynapseMLLightGBM()
